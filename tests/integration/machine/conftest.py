"""A command, this machine's kernels for guests, and a small initial RAM file system.

User-mode Linux needs no kernel to be fetched. QEMU's is fetched once below build/cache, from the distribution.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.busybox import BUSYBOX, make_tree

from wherry.core.lock import file_lock
from wherry.machine import initramfs
from wherry.machine.kernels import Kernel, Kernels
from wherry.machine.packages import fetch
from wherry.spec.architecture import architecture

CACHE = Path(__file__).parents[3] / "build/cache/machine"
Command = Callable[..., "subprocess.CompletedProcess[str]"]
APPLETS = "sh cat echo sleep id seq md5sum touch hostname pwd ls stty tty test nc kill uname wc"
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do [ -e $module ] && insmod $module; done
echo the guest is up
{body}
poweroff -f
"""


def fetched(name: str) -> Kernel:
    """Returns the distribution's kernel for an architecture; fetched once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kernels = Kernels(CACHE)
    with file_lock(CACHE / ".lock"):
        if not (kernels.folder / name / "record.json").exists():
            fetch(kernels, architecture(name))
    return kernels.get(name)


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """QEMU's, of amd64."""
    return fetched("amd64")


@pytest.fixture
def wherry(tmp_path: Path) -> Command:
    """Calls the command with a root of its own, which has the kernels that were fetched."""
    (tmp_path / "root").mkdir()
    CACHE.joinpath("kernels").mkdir(parents=True, exist_ok=True)
    (tmp_path / "root/kernels").symlink_to(CACHE / "kernels")

    def call(*args: str | Path, stdin: str = "", timeout: float = 110) -> subprocess.CompletedProcess[str]:
        words = [
            sys.executable,
            "-m",
            "wherry",
            f"--root={tmp_path}/root",
            f"--run-root={tmp_path}/run",
            *map(str, args),
        ]
        return subprocess.run(
            words, input=stdin, capture_output=True, text=True, check=False, timeout=timeout, cwd=tmp_path
        )

    return call


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root of busybox."""
    return make_tree(tmp_path / "tree", APPLETS, folders="tmp proc dev sys", users="bob:x:1000:1001::/:/bin/sh\n")


def make_initramfs(path: Path, body: str, modules: tuple[Path, ...] = ()) -> Path:
    """Makes a RAM file system with busybox, whose first process does as `body` says, and ends the machine."""
    executable = stat.S_IFREG | 0o755
    files = {"init": (executable, INIT.format(body=body).encode()), "bin/busybox": (executable, BUSYBOX.read_bytes())}
    for module in modules:
        files[f"modules/{module.name}"] = (stat.S_IFREG | 0o644, module.read_bytes())
    with open(path, "wb") as file:
        initramfs.write(file, files)
    return path


def processes_of(text: str) -> list[int]:
    """Returns processes that have a text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if text.encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


needs_uml = pytest.mark.skipif(shutil.which("linux.uml") is None, reason="no user-mode Linux")
