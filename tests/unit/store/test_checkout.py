"""Checkouts over one another: whiteouts, links in the way, unpacked files; and directories that are consumed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.unit.store.conftest import commit_files

from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.store.disk.files import UNCOMPRESSED_CACHE
from wherry.store.format.objects import ObjectType
from wherry.store.repository import Repository
from wherry.store.tree.checkout import Union, checkout
from wherry.store.tree.commit import commit_directory
from wherry.store.tree.walk import follow, lookup


def test_whiteouts(repo: Repository, tmp_path: Path) -> None:
    lower = commit_files(repo, {"a": b"1", "d/x": b"2", "d/y": b"3", "o/hidden": b"4"})
    upper = commit_files(repo, {".wh.a": b"", "d/.wh.x": b"", "o/.wh..wh..opq": b"", "o/new": b"5"})
    out = tmp_path / "out"
    for commit in (lower, upper):
        checkout(repo, commit, out, user_mode=True, union=Union.FILES, whiteouts=True)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["d", "d/y", "o", "o/new"]
    turned = commit_files(repo, {"d": b"a file now", "o/new/deeper": b"a directory now"})
    checkout(repo, turned, out, user_mode=True, union=Union.FILES, whiteouts=True)
    assert (out / "d").read_bytes() == b"a file now"
    assert (out / "o/new/deeper").read_bytes() == b"a directory now"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_never_removes_more_than_an_entry(repo: Repository, tmp_path: Path, name: str) -> None:
    commit = commit_files(repo, {f"d/{name}": b""})
    (tmp_path / "out/d").mkdir(parents=True)
    (tmp_path / "out/kept").touch()
    with pytest.raises(InvalidInput, match="whiteout"):
        checkout(repo, commit, tmp_path / "out", user_mode=True, union=Union.FILES, whiteouts=True)
    assert (tmp_path / "out/kept").exists()


def test_links_to_directories_are_followed_within_the_destination(repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(repo, {"lib/new": b"1"})
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / "usr/lib").mkdir(parents=True)
    outside.mkdir()
    for target, where in (("usr/lib", "usr/lib/new"), ("/usr/lib", "usr/lib/new")):
        (out / "lib").symlink_to(target)
        checkout(repo, commit, out, user_mode=True, union=Union.FILES)
        assert (out / where).read_bytes() == b"1"
        (out / where).unlink()
        (out / "lib").unlink()
    for target in (str(outside), "../outside", "../../../../../../etc"):
        (out / "lib").symlink_to(target)
        with pytest.raises(Conflict, match="in the way"):
            checkout(repo, commit, out, user_mode=True, union=Union.FILES)
        (out / "lib").unlink()
    assert os.listdir(outside) == []


def test_unpacked_files_of_an_archive(archive: Repository, tmp_path: Path) -> None:
    commit = commit_files(archive, {"a": b"content", "empty": b"", "large": bytes(range(256)) * 2000})
    cache = archive.path / UNCOMPRESSED_CACHE
    checkout(archive, commit, tmp_path / "plain", user_mode=True)
    assert not cache.exists()
    first = checkout(archive, commit, tmp_path / "one", user_mode=True, cache=True)
    second = checkout(archive, commit, tmp_path / "two", user_mode=True, cache=True)
    assert (first.links, second.links, second.copies) == (2, 2, 1)
    assert (tmp_path / "one/a").samefile(tmp_path / "two/a")
    assert (tmp_path / "two/large").read_bytes() == bytes(range(256)) * 2000
    for name in ("one", "two"):
        (tmp_path / name / "a").unlink()
    other = commit_files(archive, {"b": b"other"})
    found = lookup(archive, commit, "a")
    assert isinstance(found, str)
    checkout(archive, other, tmp_path / "three", user_mode=True, cache=True)
    assert len(list(cache.rglob("*.file"))) <= 3
    copied = checkout(archive, commit, tmp_path / "copy", user_mode=True, cache=True, force_copy=True)
    assert copied.links == 0


def test_skipping_and_modes_of_directories(user_repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d").chmod(0o2777)
    (source / "d/f").write_bytes(b"1")
    (source / "g").write_bytes(b"2")
    commit = commit_directory(user_repo, source, timestamp_s=0)
    checkout(user_repo, commit, tmp_path / "all", user_mode=True, bareuseronly_dirs=True)
    assert stat.S_IMODE((tmp_path / "all/d").stat().st_mode) == 0o775
    checkout(user_repo, commit, tmp_path / "some", user_mode=True, skip={"/d"}.__contains__)
    assert os.listdir(tmp_path / "some") == ["g"]


def test_what_is_linked_never(user_repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(user_repo, {"empty": b"", "full": b"1"})
    stats = checkout(user_repo, commit, tmp_path / "out", user_mode=True, require_hardlinks=True)
    assert (stats.links, stats.copies) == (1, 1)
    with pytest.raises(Unsupported, match="user checkout mode"):
        checkout(user_repo, commit, tmp_path / "not", require_hardlinks=True)


@pytest.mark.parametrize("repo", ["bare-user-only", "bare-user"], indirect=True)
def test_consuming(repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(b"content")
    (source / "d/left-out").write_bytes(b"x")
    (source / "l").symlink_to("d/f")
    kept = tmp_path / "kept"
    kept.hardlink_to(source / "d/f")
    commit = commit_directory(repo, source, timestamp_s=0, consume=True, skip={"/d/left-out"}.__contains__)
    assert not source.exists()
    found = lookup(repo, commit, "d/f")
    assert isinstance(found, str)
    adopted = repo.object_path(ObjectType.FILE, found).samefile(kept)
    assert adopted == (repo.mode == "bare-user-only")


def test_nothing_is_consumed_when_the_commit_fails(repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"content")
    os.mkfifo(source / "z")
    with pytest.raises(InvalidInput):
        commit_directory(repo, source, timestamp_s=0, consume=True)
    assert (source / "a").read_bytes() == b"content"
    assert sorted(os.listdir(source)) == ["a", "z"]


def test_hard_links_to_objects_are_not_read(user_repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(user_repo, {"a": b"content", "b": b"other"})
    checkout(user_repo, commit, tmp_path / "out", user_mode=True)
    (tmp_path / "out/a").chmod(0o600)  # the object's own mode is in an attribute
    again = commit_directory(user_repo, tmp_path / "out", timestamp_s=0, link_speedup=True)
    assert lookup(user_repo, again, "a") == lookup(user_repo, commit, "a")


def test_following_links(user_repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "usr/bin").mkdir(parents=True)
    (source / "usr/bin/x").write_bytes(b"1")
    for name, target in (
        ("bin", "usr/bin"),
        ("abs", "/bin/x"),
        ("out", "../../usr/bin/x"),
        ("loop", "loop"),
        ("gone", "no"),
    ):
        (source / name).symlink_to(target)
    commit = commit_directory(user_repo, source, timestamp_s=0)
    wanted = lookup(user_repo, commit, "usr/bin/x")
    for path in ("bin/x", "abs", "out", "/usr/../bin/./x"):
        assert follow(user_repo, commit, path) == wanted
    for path in ("loop", "gone", "bin/none"):
        with pytest.raises(Exception, match=r"circles|No such file"):
            follow(user_repo, commit, path)
