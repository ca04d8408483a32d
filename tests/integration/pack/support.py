"""What the tests of packed apps share: how they are called, and what they could leave behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
WORDS = ["a b", "", "it's", '$HOME `id` "q" \\', "new\nline", "*", "--", "-c"]
ECHO = 'for word; do printf "<%s>" "$word"; done; cat; exit 7'

Wherry = Callable[..., str]


def as_root(app: Path, *words: str) -> list[str]:
    return [str(app), *words]


def as_nobody(app: Path, *words: str) -> list[str]:
    """Has a /dev/fuse for everybody, as machines have it, in a mount namespace of its own."""
    script = 'mknod -m 666 "$1" c 10 229 2>/dev/null; mount --bind "$1" /dev/fuse; shift; exec "$@"'
    for folder in (app.parent, *list(app.parent.parents)[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    node = app.with_name("fuse-node")
    node.unlink(missing_ok=True)
    return ["unshare", "-m", "sh", "-c", script, "sh", str(node), *NOBODY, str(app), *words]


def start(args: Sequence[str], isolate: str = "", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **({"WHERRY_APP_ISOLATE": isolate} if isolate else {})}
    return subprocess.run(args, input=stdin, capture_output=True, check=False, timeout=60, env=env)


def left_over(app: Path) -> list[str]:
    """Tells what of an app is still there: mounts, loop devices, processes."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(app) in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [str(backing)] if str(app) in backing.read_text() else []
        except OSError:
            continue  # it went away
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(entry)] if str(app).encode() in entry.read_bytes() else []
        except OSError:
            continue  # it ended
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
