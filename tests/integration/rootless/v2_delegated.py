"""Limits of a user where systemd hands over a part of version 2; run under user-mode Linux by ``test_v2_uml.py``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rootless.user import UID, User, make_user

CGROUP = Path("/sys/fs/cgroup")
DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    (module,) = Path("/usr/lib/uml/modules").rglob("overlay.ko")
    subprocess.run(["insmod", str(module)], check=True)
    with make_user(image=False) as found:
        subprocess.run(["chown", "-hR", f"{UID}:{UID}", str(found.tree)], check=True)
        yield found


@pytest.fixture
def scope() -> Iterator[list[str]]:
    """Gives the command line that puts what follows into a scope of the user's, made as systemd makes it."""
    (CGROUP / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    service = CGROUP / "user.slice/user@1.service"
    inner = service / "app.slice/run-1.scope"
    inner.mkdir(parents=True)
    (CGROUP / "user.slice/cgroup.subtree_control").write_text("+memory +pids +cpu")
    (service / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    for group in (service, service / "app.slice", inner):
        for path in (group, *(group / name for name in DELEGATED)):
            os.chown(path, UID, UID)
    yield ["sh", "-c", f'echo $$ > {inner}/cgroup.procs; exec "$@"', "sh"]
    assert not (service / "wherry").exists()
    for group in (inner, service / "app.slice", service, CGROUP / "user.slice"):
        group.rmdir()


def test_limits_are_kept(user: User, scope: list[str]) -> None:
    flags = ("--network", "none", "-m", "64m", "--pids-limit", "20", "--cpus", "0.5")
    script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max"
    words = [
        *scope,
        *user.command(*user.program(), "run", "--rm", *flags, "--rootfs", str(user.tree), "sh", "-c", script),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(64 << 20), "20", "50000", "100000"], done.stderr


def test_limits_are_refused_outside(user: User, scope: list[str]) -> None:
    done = user.wherry("run", "--rm", "--network", "none", "-m", "64m", "--rootfs", str(user.tree), "true")
    assert done.returncode == 125
    assert "memory limit" in done.stderr
