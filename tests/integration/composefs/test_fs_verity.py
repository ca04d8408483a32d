"""Mounts whose every read the kernel checks: in a virtual machine, as this host's kernel may have no fs-verity."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.guest import boot

from wherry.core.proc import run

_HERE = Path(__file__).parent


@pytest.mark.deep
def test_under_a_kernel_with_fs_verity(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    run(["truncate", "-s", "200M", str(disk)])
    run(["mkfs.ext4", "-q", "-O", "verity", "-b", "4096", str(disk)])
    out = boot(_HERE / "verity_guest.py", tmp_path, disk=disk, timeout_s=120)
    assert "all is well on Linux 6." in out, out[-6000:]
    assert "the script ended with 0" in out
