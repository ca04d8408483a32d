"""Power cuts: a file system's writes and flushes are recorded, and the disk is made anew as a cut would have left it.

Without its syncs (``core.fsync=false``) the store fails here at once. test_power_cut_guest.py does the same with a
machine that is killed, whose kernel and block layer are not this one's.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.integration.store.power.judge import MAKE, Run, cut_everywhere, looped, mounted
from tests.integration.store.power.recording_disk import read_records
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Ref
from wherry.store.care.prune import prune
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.summary import update_summary

_SERVER = Path(__file__).with_name("recording_disk.py")
_SIZES = {"ext4": 48 << 20, "xfs": 320 << 20}


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
    subprocess.run([*MAKE[kind], str(image)], check=True, capture_output=True)
    source = Repository.init(tmp_path / "source", Mode.ARCHIVE)
    commit_files(source, {"a": b"1" * 100_000, "b/c": b"2"}, ref="theirs")
    with ExitStack() as stack:
        device = stack.enter_context(looped(image))
        place = stack.enter_context(mounted(device, tmp_path / "place", kind))
        repo = Repository.init(place / "repo", Mode.BARE_USER)
        repo.config.set("core", "min-free-space-size", "0MB")
        repo.save_config()
    shutil.copyfile(image, base)
    with ExitStack() as stack:
        disk = stack.enter_context(recording(tmp_path / "fuse", image, record))
        device = stack.enter_context(looped(disk / "disk"))
        place = stack.enter_context(mounted(device, tmp_path / "place", kind))
        work(Repository.open(place / "repo"), source, disk / "mark")
    run = Run.of(base, list(read_records(record)))
    assert len(run.reported) == 7
    assert sum(item.kind == "F" for item in run.records) > 20
    return run


def test_power_cuts(tmp_path: Path) -> None:
    cut_everywhere(record_run(tmp_path, "ext4"), tmp_path, "ext4", 12)


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_many_power_cuts(tmp_path: Path, kind: str) -> None:
    cut_everywhere(record_run(tmp_path, kind), tmp_path, kind, 250)
