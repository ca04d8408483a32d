"""Prune, fsck, tombstones."""

from __future__ import annotations

import os

import pytest
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.store.care.fsck import fsck
from wherry.store.care.keep import keep_commits, kept_commits
from wherry.store.care.prune import prune
from wherry.store.format import objects
from wherry.store.format.objects import ObjectType, object_name
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.walk import lookup, read_path


def test_prune(repo: Repository) -> None:
    first = commit_files(repo, {"a": b"1"}, time_s=100)
    second = commit_files(repo, {"a": b"2"}, parent=first, time_s=200)
    stray = commit_files(repo, {"a": b"3"}, ref=None, time_s=300)
    kept = commit_files(repo, {"a": b"4"}, ref=None, time_s=300)
    assert prune(repo).pruned == 0
    dry = prune(repo, refs_only=True, keep={kept}, dry_run=True)
    assert repo.has(ObjectType.COMMIT, stray)
    stats = prune(repo, refs_only=True, keep={kept})
    assert stats == dry
    assert stats.pruned == 3
    assert stats.freed_bytes > 0
    assert sorted(repo.commits()) == sorted([first, second, kept])
    assert read_path(repo, kept, "a", max_bytes=1) == b"4"
    prune(repo, refs_only=True, depth=0)
    assert sorted(repo.commits()) == [second]
    assert fsck(repo).ok


def test_prune_by_age_and_by_name(user_repo: Repository) -> None:
    old = commit_files(user_repo, {"a": b"1"}, ref=None, time_s=100)
    new = commit_files(user_repo, {"a": b"2"}, ref=None, time_s=200)
    named = commit_files(user_repo, {"a": b"3"}, time_s=50)
    older = commit_files(user_repo, {"a": b"4"}, ref="side", time_s=140)
    younger = commit_files(user_repo, {"a": b"5"}, ref="side", parent=older, time_s=160)
    tip = commit_files(user_repo, {"a": b"6"}, ref="side", parent=younger, time_s=170)
    prune(user_repo, keep_younger_than_s=150)  # by refs, as ostree: `new` has none
    assert sorted(user_repo.commits()) == sorted([named, tip, younger])
    for gone in (old, new, older):
        with pytest.raises(NotFound):
            prune(user_repo, delete_commits={gone})
    with pytest.raises(Conflict, match="is referenced by"):
        prune(user_repo, delete_commits={named})
    prune(user_repo, delete_commits={younger})
    assert sorted(user_repo.commits()) == sorted([named, tip])


def test_prune_by_branches(user_repo: Repository) -> None:
    chains: dict[str, list[Checksum]] = {"a": [], "b": []}
    for number in range(4):
        for ref, chain in chains.items():
            parent = chain[-1] if chain else None
            chain.append(
                commit_files(user_repo, {"f": f"{ref}{number}".encode()}, ref=ref, parent=parent, time_s=number)
            )
    a, b = chains["a"], chains["b"]
    dry = prune(user_repo, only_branches=["a"], depth=1, dry_run=True)
    assert dry.pruned == 2 * 3  # commit, dirtree and file of each; one dirmeta is shared
    prune(user_repo, only_branches=["a"], depth=1, branch_depth={"b": 2})
    assert sorted(user_repo.commits()) == sorted(a[2:] + b[1:])
    stats = prune(user_repo, refs_only=True, depth=0, commit_only=True)
    assert (stats.total, stats.pruned) == (5, 3)
    assert sorted(user_repo.commits()) == sorted([a[3], b[3]])
    assert prune(user_repo).pruned == 2 * 3  # what those were made of
    with pytest.raises(NotFound, match="Refspec 'c' not found"):
        prune(user_repo, only_branches=["c"])


def test_tombstones(repo: Repository) -> None:
    repo.enable_tombstones()
    first = commit_files(repo, {"a": b"1"})
    second = commit_files(repo, {"a": b"2"}, parent=first)
    whole = repo.metadata_bytes(ObjectType.COMMIT, first)
    prune(repo, delete_commits={first})
    assert sorted(repo.commits()) == [second]
    assert objects.parse_dict(repo.metadata_bytes(ObjectType.TOMBSTONE, first)) == {"commit": first.encode() + b"\0"}
    assert fsck(repo).ok
    assert prune(repo, refs_only=True).pruned == 0  # they stay
    repo.write_object(ObjectType.COMMIT, whole, first)
    assert not repo.has(ObjectType.TOMBSTONE, first)
    prune(repo, refs_only=True, depth=0)
    report = fsck(repo, add_tombstones=True)
    assert (report.ok, report.tombstones) == (True, ())
    (repo.object_path(ObjectType.TOMBSTONE, first)).unlink()
    assert fsck(repo, add_tombstones=True).tombstones == (first,)
    assert repo.has(ObjectType.TOMBSTONE, first)


def test_prune_of_a_partial_commit(user_repo: Repository) -> None:
    commit = commit_files(user_repo, {"d/a": b"1", "b": b"2"})
    found = lookup(user_repo, commit, "d")
    assert isinstance(found, tuple)
    user_repo.object_path(ObjectType.DIRTREE, found[0]).unlink()
    with pytest.raises(NotFound):
        prune(user_repo)
    user_repo.mark_partial(commit)
    assert prune(user_repo, refs_only=True).pruned == 1  # d/a, which nothing leads to
    user_repo.set_ref(Ref("main"), None)
    prune(user_repo, refs_only=True)
    assert list(user_repo.list_objects()) == []
    assert os.listdir(user_repo.path / "state") == []


def test_fsck(repo: Repository) -> None:
    commit = commit_files(repo, {"a": b"1" * 5000, "b": b"2"})
    assert fsck(repo, verify_bindings=True).ok
    damaged, lost = lookup(repo, commit, "a"), lookup(repo, commit, "b")
    assert isinstance(damaged, str)
    assert isinstance(lost, str)
    path = repo.object_path(ObjectType.FILE, damaged)
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    repo.object_path(ObjectType.FILE, lost).unlink()
    repo.set_ref(Ref("other"), commit)
    repo.set_ref(Ref("nowhere"), Checksum("0" * 64))
    report = fsck(repo, verify_bindings=True)
    assert sorted(problem.where for problem in report.problems) == sorted(
        [
            object_name(ObjectType.FILE, damaged, repo.mode),
            object_name(ObjectType.FILE, lost, repo.mode),
            "nowhere",
            "other",
        ]
    )
    assert repo.is_partial(commit)  # for what is missing; a pull makes it whole again
    report = fsck(repo, delete=True)
    assert report.deleted == 1
    assert repo.is_partial(commit)
    assert not repo.has(ObjectType.FILE, damaged)
    repo.set_ref(Ref("nowhere"), None)
    assert [problem.where for problem in fsck(repo).problems] == [commit]
    assert fsck(repo).partial_commits == 1


def test_a_pull_heals_what_fsck_removed(user_repo: Repository, archive: Repository) -> None:
    commit = commit_files(archive, {"a": b"1"})
    pull_local(user_repo, archive)
    found = lookup(user_repo, commit, "a")
    assert isinstance(found, str)
    user_repo.object_path(ObjectType.FILE, found).write_bytes(b"damaged")
    assert fsck(user_repo, delete=True).deleted == 1
    pull_local(user_repo, archive)
    assert fsck(user_repo).ok
    assert not user_repo.is_partial(commit)
    assert read_path(user_repo, commit, "a", max_bytes=1) == b"1"


def test_prune_keeps_what_it_is_told_to(user_repo: Repository) -> None:
    first = commit_files(user_repo, {"a": b"1"}, ref=None)
    second = commit_files(user_repo, {"a": b"2"}, ref=None)
    third = commit_files(user_repo, {"a": b"3"}, ref=None)
    keep_commits(user_repo, "revision-1", [first])
    keep_commits(user_repo, "revision-2", [first, second])
    prune(user_repo, refs_only=True)
    assert sorted(user_repo.commits()) == sorted([first, second])
    assert third not in kept_commits(user_repo)
    keep_commits(user_repo, "revision-2", [])
    prune(user_repo, refs_only=True)
    assert sorted(user_repo.commits()) == [first]
    (user_repo.path / "extensions/wherry/keep/broken").write_text("nonsense\n")
    with pytest.raises(InvalidInput):
        prune(user_repo, refs_only=True)
    with pytest.raises(InvalidInput):
        keep_commits(user_repo, "../x", [first])


def test_prune_takes_folders_marks_and_summaries_along(user_repo: Repository) -> None:
    commit = commit_files(user_repo, {"a": b"1"}, ref=None)
    cached = user_repo.path / "tmp/cache/summaries"
    cached.mkdir(parents=True)
    user_repo.config.set('remote "known"', "url", "http://192.0.2.1/")
    user_repo.save_config()
    for name in ("known", "known.sig", "gone", "gone.sig"):
        (cached / name).write_bytes(b"")
    user_repo.mark_partial(commit)
    prune(user_repo, refs_only=True)
    assert os.listdir(user_repo.objects_dir) == []
    assert os.listdir(user_repo.path / "state") == []
    assert sorted(os.listdir(cached)) == ["known", "known.sig"]
