"""Remotes in ``/etc/ostree/remotes.d``: which repository knows them, where a new one is written, what is refused.

Each program goes through the same commands in a root of its own, where ``/ostree/repo`` is the system's repository.
What they print, how they end, and what then stands in which file must be the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAMS = {"ostree": ["ostree"], "wherry": [sys.executable, "-m", "wherry", "store"]}
_ENTER = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount --rbind /proc "$1/root/proc"
exec chroot "$1/root" "$2" "$3" "$4"
"""
_STEPS = Path(__file__).with_name("remotes_d_steps.py")


def run_steps(place: Path, program: list[str]) -> list[object]:
    place.mkdir()
    command = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(place), sys.executable, str(_STEPS.resolve())]
    done = subprocess.run([*command, json.dumps(program)], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_as_the_real_tool(tmp_path: Path) -> None:
    theirs, ours = (run_steps(tmp_path / name, program) for name, program in PROGRAMS.items())
    assert ours == theirs
    assert len(theirs) > 20
