"""A tiny kernel and initramfs, compiled from the distribution's sources: under 4 MB, booted, running a container.

It fetches 140 MB from the mirrors of this machine's apt and compiles for a quarter of an hour: for the deep run.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree

from wherry.build.builtin import builtin_layers
from wherry.build.executing import Execution
from wherry.build.hosts import Host, load_host
from wherry.build.layers import Layers, find_layers
from wherry.build.locks import make_lock
from wherry.build.workspace import new_workspace
from wherry.core.jsonio import loads

MAX_BYTES = 4_000_000
"""Kernel and initramfs together."""


def find(paths: object) -> Layers:
    found = builtin_layers()
    assert found is not None
    return find_layers([found])


@pytest.mark.deep
@pytest.mark.timeout(5400)
@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64")
def test_a_tiny_host_is_compiled_boots_and_hands_an_exit_status_on(tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path / "tiny", {"target": ("tiny/x86_64",)})
    host: Host = load_host(workspace, find, machine="x86_64")
    execution = Execution(cache=tmp_path / "cache", work=workspace.work)
    assert make_lock(host, execution).new
    results = execution.take(host.plan(), ["boot"])
    boot = results["boot"].path / "boot"
    sizes = [(boot / name).stat().st_size for name in ("kernel", "initramfs")]
    assert sum(sizes) < MAX_BYTES, sizes
    report = loads((boot / "kconfig-report.json").read_bytes())
    assert {name: part["untaken"] for name, part in report.items()} == {"kernel": [], "busybox": []}
    assert_runs(tmp_path, boot)


def assert_runs(tmp_path: Path, boot: Path) -> None:
    root, job = make_tree(tmp_path / "root", "sh id cat", folders="proc sys dev tmp etc"), tmp_path / "job"
    job.mkdir()
    (root / "etc/motd").write_text("a container's own\n")
    (job / "job").write_text(
        "set -- sh -c 'cat motd; id -u; exit 7'\ndirectory=/etc\nuser=1000:1000\nexport PATH=/bin\n"
    )
    args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35", "-accel", "tcg", "-m", "128"]
    args += ["-display", "none", "-no-reboot", "-serial", "stdio"]
    args += ["-kernel", str(boot / "kernel"), "-initrd", str(boot / "initramfs")]
    args += ["-append", "console=ttyS0 quiet wherry.root=9p:root wherry.job=9p:job"]
    for tag, path in (("root", root), ("job", job)):
        args += ["-fsdev", f"local,id={tag},path={path},security_model=none"]
        args += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=True)
    lines = done.stdout.decode(errors="replace").splitlines()
    assert [line for line in lines if line in ("a container's own", "1000")] == ["a container's own", "1000"], lines
    assert "wherry: exit status 7" in lines
    assert (job / "status").read_text() == "7\n"
