"""What is run in the guest of test_power_cut_guest.py: writes to a repository, on and on, until the machine is killed.

A plain script: nothing but Wherry's store and the standard library is there. After each command that has come back it
writes ``REF COMMIT`` to the disk's last sector, behind the file system, and then to the console.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
import shutil
import subprocess
from pathlib import Path

from wherry.core.digest import Checksum, Ref
from wherry.store.care.prune import prune
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory

DISK = Path("/disk")
SECTOR = 512


class Reporter:
    """Says what is done: in the log of the disk's writes, in its order, and to the one who looks on."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/vda", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        self._place = os.lseek(self._fd, 0, os.SEEK_END) - SECTOR
        self._sector = mmap.mmap(-1, mmap.PAGESIZE)

    def report(self, repo: Repository, ref: str) -> None:
        """Reports where a ref is."""
        text = f"{ref} {repo.resolve(ref)}"
        self._sector[:SECTOR] = text.encode().ljust(SECTOR, b"\0")
        assert os.pwrite(self._fd, memoryview(self._sector)[:SECTOR], self._place) == SECTOR
        print(f"done {text}", flush=True)


def committed(repo: Repository, number: int, ref: str, parent: Checksum | None = None) -> Checksum:
    """Commits a few files, of which some are as they were a round before."""
    tree = Path("/tmp/tree")
    shutil.rmtree(tree, ignore_errors=True)
    chance = random.Random(number)
    for index in range(12):
        (tree / f"d{index % 5}").mkdir(parents=True, exist_ok=True)
        data = chance.randbytes(chance.choice((10, 3000, 90_000)))
        (tree / f"d{index % 5}/f{index}").write_bytes(data if index % 3 else b"the same" * index)
    return commit_directory(repo, tree, ref=Ref(ref), parent=parent, timestamp_s=number)


def main() -> None:
    subprocess.run(["mount", "-t", "ext4", "/dev/vda", str(DISK)], check=True)
    repo = Repository.open(DISK / "repo")
    source = Repository.init(Path("/tmp/source"), Mode.ARCHIVE)
    reporter = Reporter()
    parent = None
    for number in itertools.count():
        parent = committed(repo, number, "main", parent)
        reporter.report(repo, "main")
        committed(source, 10_000 + number, "theirs")
        pull_local(repo, source, remote="origin")
        reporter.report(repo, "origin:theirs")
        if number % 2:
            prune(repo, refs_only=True, depth=0)
            reporter.report(repo, "main")
        if number % 3 == 2:
            committed(repo, 20_000 + number, "side")
            reporter.report(repo, "side")


main()
