"""The disk as a power cut leaves it, and whether a repository on it is what it must be.

A cut leaves everything that was flushed before, and of what was written since the last flush any part: each write is
there, or not, or torn between two blocks of 4 KiB (within one the disk is taken to be atomic, as the file systems'
superblocks need it to be). Whatever it leaves, the file system is mounted, which replays its journal, and then the
repository must pass fsck, by Wherry and by the real tool, and every ref that was reported done must be there, at the
commit that was reported or at a later one.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.store.power.recording_disk import Record

from wherry.core.digest import Checksum, Ref
from wherry.store.care.fsck import fsck
from wherry.store.repository import Repository

MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}
"""How a file system is made that writes nothing by itself afterwards."""
_BLOCK = 4096


@dataclass(slots=True)
class Run:
    """What was recorded, and what was reported when."""

    base: Path
    records: list[Record]
    reported: list[tuple[int, str, Checksum]] = field(default_factory=list)
    """(Number of the record, ref, commit): from there on the ref must be there."""

    @classmethod
    def of(cls, base: Path, records: list[Record]) -> Run:
        """Finds the reports among the records: marks that hold ``REF COMMIT``."""
        run = cls(base=base, records=records)
        for index, item in enumerate(records):
            if item.kind == "M":
                ref, commit = item.data.decode().split()
                run.reported.append((index, ref, Checksum(commit)))
        return run


@contextmanager
def looped(image: Path) -> Iterator[str]:
    """Gives a loop device for an image."""
    done = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True)
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def mounted(device: str, place: Path, kind: str) -> Iterator[Path]:
    """Mounts a device."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, device, str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def torn(chance: random.Random, item: Record) -> tuple[int, bytes] | None:
    """Returns what a cut leaves of a write that was not flushed: all, nothing, its beginning, or its end."""
    blocks = len(item.data) // _BLOCK
    match chance.randrange(4):
        case 0:
            return item.offset, item.data
        case 1 if blocks > 1:
            return item.offset, item.data[: chance.randrange(1, blocks) * _BLOCK]
        case 2 if blocks > 1:
            start = chance.randrange(1, blocks) * _BLOCK
            return item.offset + start, item.data[start:]
    return None


def cut(run: Run, rolling: Path, done: int, at: int, image: Path, chance: random.Random) -> int:
    """Makes the disk as a cut at record `at` leaves it. `rolling` has all records up to `done`, and is taken further.

    Returns:
        Up to which record `rolling` is now.
    """
    flushed = max((index for index in range(at) if run.records[index].kind == "F"), default=-1) + 1
    with rolling.open("r+b") as file:
        for item in run.records[done:flushed]:
            if item.kind == "W":
                os.pwrite(file.fileno(), item.data, item.offset)
    shutil.copyfile(rolling, image)
    with image.open("r+b") as file:
        for item in run.records[max(done, flushed) : at]:
            left = torn(chance, item) if item.kind == "W" else None
            if left is not None:
                os.pwrite(file.fileno(), left[1], left[0])
    return max(done, flushed)


def check(run: Run, at: int, repo: Repository) -> None:
    """Looks whether a repository is what it must be after a cut at record `at`."""
    report = fsck(repo)
    assert report.ok, f"cut at {at}: {report.problems}"
    done = subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], capture_output=True, check=False)
    assert done.returncode == 0, f"cut at {at}: {done.stderr.decode()}"
    refs = repo.refs()
    for index, ref, commit in run.reported:
        later = [its for number, name, its in run.reported if name == ref and number > index]
        if index < at:
            found = refs.get(Ref(ref))
            assert found in (commit, *later), f"cut at {at}: {ref}, reported at {index} as {commit}, is {found}"


def cut_everywhere(run: Run, folder: Path, kind: str, places: int) -> None:
    """Cuts just behind each report, and at some places anywhere; looks at what is left."""
    chance = random.Random(places)
    count = len(run.records)
    chosen = {index + 1 for index, _, _ in run.reported}
    chosen |= set(chance.sample(range(1, count + 1), min(places, count)))
    rolling, image, done = folder / "rolling", folder / "cut", 0
    shutil.copyfile(run.base, rolling)
    for at in sorted(chosen):
        done = cut(run, rolling, done, at, image, chance)
        with looped(image) as device, mounted(device, folder / "cut-place", kind) as place:
            check(run, at, Repository.open(place / "repo"))
