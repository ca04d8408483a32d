"""The same tests under another kernel: Linux 6.1 in user mode, with control groups of version 2 alone.

This host mounts version 1. ``linux.uml`` (package user-mode-linux) boots in seconds from the host's own tree, so the
tests of the neighbouring files run there as they are, and their files lie on tmpfs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]
_FILES = ("cgroup", "cgroup_devices", "cgroup_events", "commands", "container", "exec", "life", "privileges", "roots")
_SHORT = "cgroup or alone or file_systems or dockers_default or device or links or exec or terminal or failed_setup"


def run_in_uml(tmp_path: Path, select: str, timeout_s: int) -> str:
    files = [_HERE / f"test_{name}.py" for name in _FILES]
    files.append(_HERE / "v2_limits.py")
    tests = " ".join(str(file.relative_to(_ROOT)) for file in files)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [
            "linux.uml",
            "mem=512M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            "quiet",
            f"ubd0={disk}",
            "con0=null,fd:1",
            "con=null",
            f"uml_dir={tmp_path}",
            f"init={_HERE / 'uml_init.sh'}",
            f"wherry_root={_ROOT}",
            f"wherry_python={sys.executable}",
            f'wherry_select="{select}"',
            f'wherry_tests="{tests}"',
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": "/dev/shm", "HOME": str(tmp_path)},
        timeout=timeout_s,
        check=False,
    )
    out = done.stdout.decode(errors="replace").replace("\r", "")
    assert "pytest ended with 0" in out, out[-4000:] + done.stderr.decode(errors="replace")[-1000:]
    return out


def controllers(out: str) -> set[str]:
    line = next(line for line in out.splitlines() if line.startswith("kernel "))
    return set(line.partition("controllers: ")[2].split())


def passed(out: str) -> int:
    match = re.search(r"(\d+) passed", out)
    assert match is not None
    return int(match[1])


def test_limits_and_containers_on_version_2(tmp_path: Path) -> None:
    out = run_in_uml(tmp_path, _SHORT, 200)
    assert {"cpu", "memory", "pids"} <= controllers(out)
    assert passed(out) >= 50


@pytest.mark.deep
def test_everything_on_version_2(tmp_path: Path) -> None:
    assert passed(run_in_uml(tmp_path, "test", 290)) >= 60
