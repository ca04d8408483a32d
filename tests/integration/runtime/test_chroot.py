"""Containers started from inside a chroot(2): the machine's real root must not stand above the container's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INSIDE = """
import sys
from pathlib import Path
from tests.integration.runtime.containers import Runner, make_spec

runner = Runner(Path(sys.argv[1]))
try:
    look = "cd /; i=0; while [ $i -lt 30 ]; do cd ..; i=$((i+1)); done; pwd; ls; wc -l < /proc/self/mountinfo; "
    created = runner.start(make_spec("sh", "-c", "sleep 1000 & wait"), Path(sys.argv[2]))
    first = runner.run(make_spec("sh", "-c", look), Path(sys.argv[2]))
    second = runner.exec(created.state_dir, make_spec("sh", "-c", look).process)
    assert (first.status, second.status) == (0, 0), (first, second)
    print(first.out == second.out)
    print(second.out)
finally:
    runner.close()
"""


def test_a_container_from_inside_a_chroot_sees_only_itself(busybox_tree: Path, tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    jail.mkdir()
    script = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(jail)),
            *("/usr/bin/env", f"--chdir={Path.cwd()}", sys.executable, "-c", INSIDE, str(tmp_path / "state")),
            str(busybox_tree),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    same, place, *entries = done.stdout.split()
    assert (same, place) == ("True", "/")  # a further process has the first one's root, and nothing is above it
    assert entries[:-1] == ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"]
