"""A disk that is too small: refused or failed with NoSpace, in one line, and the repository stays whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving
from tests.unit.store.conftest import commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import NoSpace
from wherry.core.http import HttpClient
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import RemotePull, pull_local
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory
from wherry.store.tree.walk import read_path

SMALL, BIG = os.urandom(200_000), os.urandom(6_000_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "wherry-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def small_repo(place: Path, mode: Mode, *, guarded: bool) -> Repository:
    repo = Repository.init(place / "repo", mode)
    if not guarded:
        repo.config.set("core", "min-free-space-size", "0MB")
        repo.save_config()
    return repo


def whole(repo: Repository, commit: Checksum) -> None:
    report = fsck(repo)
    assert report.ok, report.problems
    assert read_path(repo, commit, "a", max_bytes=len(SMALL)) == SMALL
    assert subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], check=False).returncode == 0


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE])
def test_commit(small_disk: Path, tmp_path: Path, mode: Mode, guarded: bool) -> None:
    repo = small_repo(small_disk, mode, guarded=guarded)
    first = commit_files(repo, {"a": SMALL})
    free = os.statvfs(small_disk).f_bfree
    source = tmp_path / "source"
    source.mkdir()
    (source / "fits").write_bytes(os.urandom(100_000))
    (source / "big").write_bytes(BIG)
    with pytest.raises(NoSpace):
        commit_directory(repo, source, timestamp_s=0)
    assert os.statvfs(small_disk).f_bfree >= free - 2
    whole(repo, first)
    assert os.listdir(repo.path / "tmp") == ["cache"]
    (source / "big").unlink()
    commit_directory(repo, source, timestamp_s=0)
    whole(repo, first)


@pytest.mark.parametrize("guarded", [True, False])
def test_pull(small_disk: Path, archive: Repository, guarded: bool) -> None:
    repo = small_repo(small_disk, Mode.BARE_USER, guarded=guarded)
    first = commit_files(archive, {"a": SMALL})
    second = commit_files(archive, {"a": SMALL, "b": BIG}, parent=first)
    with serving(archive.path) as server:
        client = HttpClient(server.url)
        pull = RemotePull(repo, client)
        pull.fetch(pull.plan([first]))
        with pytest.raises(NoSpace):
            pull.fetch(pull.plan([second]))
        assert repo.is_partial(second)
        whole(repo, first)
        client.close()


def test_pull_local(small_disk: Path, tmp_path: Path) -> None:
    repo = small_repo(small_disk, Mode.BARE_USER, guarded=False)
    source = make_repo(tmp_path / "source", Mode.BARE_USER)
    first = commit_files(source, {"a": SMALL})
    pull_local(repo, source)
    commit_files(source, {"a": SMALL, "b": BIG}, parent=first)
    with pytest.raises(NoSpace):
        pull_local(repo, source)
    assert repo.resolve("main") == first
    whole(repo, first)


def test_metadata_and_refs_on_a_full_disk(small_disk: Path) -> None:
    repo = small_repo(small_disk, Mode.BARE_USER, guarded=False)
    first = commit_files(repo, {"a": SMALL})
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    for call in (
        lambda: commit_files(repo, {"a": b"2"}),
        lambda: repo.set_ref(Ref("another"), first),
        lambda: repo.write_detached(first, {"k": "v"}),
    ):
        with pytest.raises(NoSpace):
            call()
    assert repo.resolve("main") == first
    filler.unlink()
    whole(repo, first)


def test_the_command_says_it_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    repo = small_repo(small_disk, Mode.BARE_USER, guarded=True)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/big").write_bytes(BIG)
    done = subprocess.run(
        [sys.executable, "-m", "wherry", "store", "commit", f"--repo={repo.path}", "-b", "x", f"{tmp_path}/source"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert b"free" in done.stderr
