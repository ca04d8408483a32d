"""Limits without root: kept where control groups are the user's, refused by name elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rootless.user import IMAGE, UID, User

V1 = [Path(f"/sys/fs/cgroup/{name}") for name in ("memory", "pids")]
NEEDS_V1 = pytest.mark.skipif(not all((place / "tasks").exists() for place in V1), reason="needs cgroup v1")


@pytest.fixture
def delegated(user: User) -> Iterator[list[str]]:
    """Gives the command line that puts what follows into groups of the user's own."""
    name = f"wherry-tester-{os.getpid()}"
    groups = [place / name for place in V1]
    for group in groups:
        group.mkdir()
        for path in (group, group / "cgroup.procs", group / "tasks"):
            os.chown(path, UID, UID)
    lines = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
    yield ["sh", "-c", f'{lines}exec "$@"', "sh"]
    user.remove_all()
    user.wait_for_nobody()
    for group in groups:
        for below in sorted(group.rglob("*"), reverse=True):
            assert not below.is_dir(), f"left: {below}"
        group.rmdir()


def test_limits_are_refused_by_name_where_nothing_is_delegated(user: User) -> None:
    done = user.wherry("run", "--rm", "--network", "none", "-m", "64m", IMAGE, "true")
    assert done.returncode == 125
    assert "memory limit" in done.stderr


@NEEDS_V1
def test_limits_are_kept_where_groups_are_delegated(user: User, delegated: list[str]) -> None:
    flags = ("--network", "none", "-m", "64m", "--pids-limit", "20")
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
    words = [*delegated, *user.command(*user.program(), "run", "--rm", *flags, IMAGE, "sh", "-c", script)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(64 << 20), "20"], done.stderr


@NEEDS_V1
def test_memory_beyond_the_limit_ends_it(user: User, delegated: list[str]) -> None:
    flags = ("--name", "hungry", "--network", "none", "-m", "32m", "--memory-swap", "32m")
    eat = "dd if=/dev/zero of=/dev/null bs=100M count=1"
    words = [*delegated, *user.command(*user.program(), "run", *flags, IMAGE, "sh", "-c", f"exec {eat}")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 137, done.stderr
    assert user.ok("inspect", "-f", "{{.State.OOMKilled}}", "hungry") == "true"
