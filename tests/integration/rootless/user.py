"""A real user without root, who is known in a private mount namespace only: the machine's files stay as they are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.engine.support import make_tree

UID, NAME = 54321, "wherry-tester"
FIRST_ID, IDS = 2_000_000, 65_536
IMAGE = "test/busybox:1"
TIMEOUT_S = 60
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HOLD = """
cd "$1"; shift
for name in passwd group subuid subgid; do mount --bind $name /etc/$name; done
if [ -e /dev/net/tun ]; then mount --bind tun /dev/net/tun; fi
if [ -e /dev/fuse ]; then mount --bind fuse /dev/fuse; fi
mount -t tmpfs -o mode=1777 tmp "$PWD/tmp"
echo ready
exec sleep infinity
"""


class User:
    """The user, and the private mount namespace in which the machine knows them.

    Args:
        base: a folder of theirs that everybody may enter.
        pid: of the process that holds the namespace.
    """

    def __init__(self, base: Path, pid: int) -> None:
        self.base, self.pid = base, pid
        self.home = base / "home"
        self.runtime = base / "runtime"
        self.tree = base / "tree"

    def command(self, *words: str, runtime_dir: bool = True) -> list[str]:
        """Returns the command line that runs a command as this user."""
        found = ["nsenter", "-m", "-t", str(self.pid), f"--wd={self.home}"]
        found += ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]
        found += ["env", "-i", f"HOME={self.home}", f"PATH={PATH}"]
        if runtime_dir:
            found.append(f"XDG_RUNTIME_DIR={self.runtime}")
        return [*found, *words]

    def run(
        self, *words: str, runtime_dir: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as this user."""
        done = subprocess.run(
            self.command(*words, runtime_dir=runtime_dir), input=stdin, capture_output=True, timeout=TIMEOUT_S
        )
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def wherry(
        self, *words: str, runtime_dir: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the real command as this user."""
        return self.run(*self.program(), *words, runtime_dir=runtime_dir, stdin=stdin)

    def program(self) -> list[str]:
        """Returns the real command, by this interpreter."""
        return [str(Path(sys.executable).with_name("wherry"))]

    def ok(self, *words: str, stdin: bytes | None = None) -> str:
        """Runs the real command, which must do well; returns what it printed."""
        done = self.wherry(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def processes(self) -> set[str]:
        """Returns what runs as this user, or as one of the user's ids."""
        found = set()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                uid = os.stat(f"/proc/{name}").st_uid
                if (uid == UID or FIRST_ID <= uid < FIRST_ID + IDS) and _state(name) != "Z":
                    found.add(f"{name} {Path(f'/proc/{name}/cmdline').read_bytes()!r}")
            except OSError:
                continue
        return found

    def kill(self, word: str) -> None:
        """Kills those of this user's processes that have a word in their command line."""
        for line in self.processes():
            if word in line:
                os.kill(int(line.split()[0]), signal.SIGKILL)

    def wait_for_nobody(self) -> None:
        """Waits until nothing of this user's runs any more."""
        deadline = time.monotonic() + TIMEOUT_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.02)

    def remove_all(self) -> None:
        """Removes every container."""
        for identifier in self.ok("ps", "-aq").split():
            self.ok("rm", "-f", identifier)


def _state(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def make_user(*, ranges: bool = True, image: bool = True) -> Iterator[User]:
    """Gives a user, and takes away everything of theirs at the end.

    Args:
        ranges: whether they have subordinate ids.
        image: whether they have an image; a store wants user attributes, which tmpfs has since Linux 6.6.
    """
    base = Path(tempfile.mkdtemp(prefix="wherry-user-", dir="/tmp"))
    base.chmod(0o755)
    for name, mode in (("home", 0o755), ("runtime", 0o700), ("tmp", 0o1777)):
        (base / name).mkdir()
        os.chown(base / name, UID, UID)
        (base / name).chmod(mode)
    lines = {
        "passwd": f"{NAME}:x:{UID}:{UID}::{base / 'home'}:/bin/sh\n",
        "group": f"{NAME}:x:{UID}:\n",
        "subuid": "",
        "subgid": "",
    }
    for name, line in lines.items():
        real = Path(f"/etc/{name}")
        own = f"{NAME}:{FIRST_ID}:{IDS}\n" if ranges and name.startswith("sub") else line
        (base / name).write_text((real.read_text() if real.exists() else "") + own)
        if not real.exists():
            real.touch()  # a place to bind it to
    # as udev has them on a usual machine
    for name, minor in (("tun", 200), ("fuse", 229)):
        os.mknod(base / name, 0o020666, os.makedev(10, minor))
        (base / name).chmod(0o666)
    make_tree(base / "tree")
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", _HOLD, "sh", str(base)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        user = User(base, holder.pid)
        if image:
            user.ok("image", "import", f"dir:{base / 'tree'}", "--name", IMAGE)
        yield user
        user.wait_for_nobody()
    finally:
        holder.kill()
        holder.wait()
        shutil.rmtree(base)
