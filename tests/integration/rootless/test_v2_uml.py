"""Limits of a user on control groups of version 2: under Linux 6.1 in user mode, as this host mounts version 1."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]


@pytest.mark.skipif(shutil.which("linux.uml") is None, reason="needs user-mode-linux")
def test_limits_where_version_2_is_delegated(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [
            *("linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
            *(f"ubd0={disk}", "con0=null,fd:1", "con=null", f"uml_dir={tmp_path}"),
            f"init={_ROOT / 'tests/integration/runtime/uml_init.sh'}",
            *(f"wherry_root={_ROOT}", f"wherry_python={sys.executable}", "wherry_select=test"),
            f"wherry_tests={(_HERE / 'v2_delegated.py').relative_to(_ROOT)}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},
        timeout=280,
        check=False,
    )
    out = done.stdout.decode(errors="replace").replace("\r", "")
    assert "pytest ended with 0" in out, out[-4000:] + done.stderr.decode(errors="replace")[-1000:]
    assert "2 passed" in out
