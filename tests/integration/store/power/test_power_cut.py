"""Power cuts: a file system's writes and flushes are recorded, and the disk is made anew as a cut would have left it.

A cut leaves everything that was flushed before, and of what was written since the last flush any part: each write is
there, or not, or torn between two blocks of 4 KiB (within one the disk is taken to be atomic, as the file systems'
superblocks need it to be). Whatever it leaves, the file system is mounted, which replays its journal, and then the
repository must pass fsck, by Wherry and by the real tool, and every ref that was reported done must be there, at the
commit that was reported or at a later one. Without its syncs (``core.fsync=false``) the store fails here at once.

This is stricter than a guest that is killed: what that has handed to its host stays, in its order.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.store.power.recording_disk import Record, read_records
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Checksum, Ref
from wherry.store.care.fsck import fsck
from wherry.store.care.prune import prune
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.summary import update_summary

_SERVER = Path(__file__).with_name("recording_disk.py")
_BLOCK = 4096
_SIZES = {"ext4": 48 << 20, "xfs": 320 << 20}
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}


@dataclass(slots=True)
class Run:
    """What was recorded, and what was reported when."""

    base: Path
    records: list[Record]
    reported: list[tuple[int, str, Checksum]] = field(default_factory=list)
    """(Number of the record, ref, commit): from there on the ref must be there."""


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


@contextmanager
def recording(folder: Path, image: Path, record: Path) -> Iterator[Path]:
    """Serves an image as a recording disk."""
    folder.mkdir()
    server = subprocess.Popen([sys.executable, str(_SERVER), str(folder), str(image), str(record)])
    try:
        deadline = time.monotonic() + 20
        while not (folder / "disk").exists():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        server.wait(20)


def work(repo: Repository, source: Repository, mark: Path) -> None:
    """What a repository goes through; each ref is reported once its command has come back."""

    def report(ref: str) -> None:
        with mark.open("wb", buffering=0) as file:
            file.write(f"{ref} {repo.resolve(ref)}\n".encode())

    def files(number: int) -> dict[str, bytes]:
        chance = random.Random(number)
        return {f"d{n % 5}/f{n}": chance.randbytes(chance.choice((10, 3000, 90_000))) for n in range(12)}

    parent = None
    for number in range(4):
        parent = commit_files(repo, files(number), ref="main", parent=parent, time_s=number)
        report("main")
    pull_local(repo, source, remote="origin")
    report("origin:theirs")
    update_summary(repo)
    prune(repo, refs_only=True, depth=0)
    commit_files(repo, files(7), ref="side")
    report("side")
    repo.set_alias(Ref("stable"), Ref("main"))
    report("stable")
    prune(repo, refs_only=True, depth=0)


def record_run(tmp_path: Path, kind: str) -> Run:
    """Has the work done on a recording disk."""
    image, base, record = tmp_path / "image", tmp_path / "base", tmp_path / "record"
    with image.open("wb") as file:
        file.truncate(_SIZES[kind])
    subprocess.run([*_MAKE[kind], str(image)], check=True, capture_output=True)
    source = Repository.init(tmp_path / "source", Mode.ARCHIVE)
    commit_files(source, {"a": b"1" * 100_000, "b/c": b"2"}, ref="theirs")
    with ExitStack() as stack:
        device = stack.enter_context(looped(image))
        place = stack.enter_context(mounted(device, tmp_path / "place", kind))
        repo = Repository.init(place / "repo", Mode.BARE_USER)
        repo.config.set("core", "min-free-space-size", "0MB")
        repo.save_config()
    subprocess.run(["cp", "--sparse=always", str(image), str(base)], check=True)
    with ExitStack() as stack:
        disk = stack.enter_context(recording(tmp_path / "fuse", image, record))
        device = stack.enter_context(looped(disk / "disk"))
        place = stack.enter_context(mounted(device, tmp_path / "place", kind))
        work(Repository.open(place / "repo"), source, disk / "mark")
    run = Run(base=base, records=list(read_records(record)))
    for index, item in enumerate(run.records):
        if item.kind == "M":
            ref, commit = item.data.decode().split()
            run.reported.append((index, ref, Checksum(commit)))
    assert len(run.reported) == 7
    assert sum(item.kind == "F" for item in run.records) > 20
    return run


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
    subprocess.run(["cp", "--sparse=always", str(rolling), str(image)], check=True)
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
            assert refs.get(Ref(ref)) in (commit, *later), f"cut at {at}: {ref} was reported at {index}"


def cut_everywhere(tmp_path: Path, kind: str, places: int) -> None:
    run = record_run(tmp_path, kind)
    chance = random.Random(places)
    count = len(run.records)
    chosen = {index + 1 for index, _, _ in run.reported}  # just behind each report, and anywhere
    chosen |= set(chance.sample(range(1, count + 1), min(places, count)))
    rolling, image, done = tmp_path / "rolling", tmp_path / "cut", 0
    shutil.copyfile(run.base, rolling)
    for at in sorted(chosen):
        done = cut(run, rolling, done, at, image, chance)
        with looped(image) as device, mounted(device, tmp_path / "cut-place", kind) as place:
            check(run, at, Repository.open(place / "repo"))


def test_power_cuts(tmp_path: Path) -> None:
    cut_everywhere(tmp_path, "ext4", 12)


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_many_power_cuts(tmp_path: Path, kind: str) -> None:
    cut_everywhere(tmp_path, kind, 250)
