"""The same mounts under Linux 6.1: no EROFS from a file, no data-only layers; a loop device and plain layers instead.

``linux.uml`` (package user-mode-linux) boots in seconds from the host's own tree.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]


def test_linux_6_1(tmp_path: Path) -> None:
    tests = (_HERE / "test_mount_commit.py").relative_to(_ROOT)
    command = ["linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"]
    command += ["con0=null,fd:1", "con=null", f"uml_dir={tmp_path}", f"init={_HERE / 'uml_init.sh'}"]
    command += [f"wherry_root={_ROOT}", f"wherry_python={sys.executable}", f"wherry_tests={tests}"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},
        timeout=200,
        check=False,
    )
    out = done.stdout.decode(errors="replace").replace("\r", "")
    assert "pytest ended with 0" in out, out[-6000:] + done.stderr.decode(errors="replace")[-1000:]
    assert "kernel 6.1." in out
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None
    assert int(passed[1]) == 9
