"""fsck finds each kind of damage, and repair brings back what was lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.store.conftest import commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import NotFound, UsageError
from wherry.store.care.fsck import FsckReport, fsck
from wherry.store.care.repair import Repaired, repair, sources
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.repository import Repository
from wherry.store.tree.walk import lookup, read_path

FILES = {"a": b"1" * 5000, "d/e/f": b"2", "d/g": b"3"}


def _file(repo: Repository, path: str) -> Path:
    found = lookup(repo, repo.resolve("main"), path)
    assert isinstance(found, str)
    return repo.object_path(ObjectType.FILE, found)


def _tree(repo: Repository, path: str) -> Path:
    found = lookup(repo, repo.resolve("main"), path)
    assert isinstance(found, tuple)
    return repo.object_path(ObjectType.DIRTREE, found[0])


def _commit(repo: Repository) -> Path:
    return repo.object_path(ObjectType.COMMIT, repo.resolve("main"))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def _cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])


def _swap(one: Path, other: Path) -> None:
    """Each is what it should be, and neither is what its name says."""
    os.rename(one, one.with_suffix(".x"))
    os.rename(other, one)
    os.rename(one.with_suffix(".x"), other)


def _remove_below(repo: Repository) -> None:
    for path in (_file(repo, "d/e/f"), _tree(repo, "d/e"), _tree(repo, "d")):
        path.unlink()


def _mark_and_remove(repo: Repository) -> None:
    repo.mark_partial(repo.resolve("main"), by_fsck=True)
    _file(repo, "a").unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_ref(repo: Repository, text: bytes) -> None:
    (repo.path / "refs/heads/main").write_bytes(text)


DAMAGE: dict[str, tuple[Callable[[Repository], None], set[str]]] = {
    "flipped bit in a file": (lambda repo: _flip(_file(repo, "a")), {"damaged"}),
    "flipped bit in a directory": (lambda repo: _flip(_tree(repo, "d")), {"damaged"}),
    "flipped bit in the commit": (lambda repo: _flip(_commit(repo)), {"damaged"}),
    "truncated file": (lambda repo: _cut(_file(repo, "a")), {"damaged"}),
    "truncated directory": (lambda repo: _cut(_tree(repo, "")), {"damaged"}),
    "empty commit": (lambda repo: _empty(_commit(repo)), {"damaged"}),
    "wrong names": (lambda repo: _swap(_file(repo, "a"), _file(repo, "d/g")), {"damaged"}),
    "missing file": (lambda repo: _file(repo, "d/e/f").unlink(), {"missing"}),
    "missing directory": (lambda repo: _tree(repo, "d").unlink(), {"missing"}),
    "missing commit": (lambda repo: _commit(repo).unlink(), {"ref"}),
    "everything below a directory": (_remove_below, {"missing"}),
    "loose partial": (_mark_and_remove, {"partial"}),
    "bad ref": (lambda repo: _write_ref(repo, b"nonsense\n"), {"ref"}),
    "empty ref": (lambda repo: _write_ref(repo, b""), {"ref"}),
    "ref to nowhere": (lambda repo: _write_ref(repo, b"0" * 64 + b"\n"), {"ref"}),
}


@pytest.fixture(scope="module")
def origins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("origins")
    for mode in (Mode.ARCHIVE, Mode.BARE_USER):
        commit_files(make_repo(place / mode, mode), FILES)
    return place


def _repair(repo: Repository, source: Path) -> tuple[FsckReport, Repaired]:
    report = fsck(repo, delete=True)
    return report, repair(repo, report, sources(repo, str(source)))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mode", [Mode.ARCHIVE, Mode.BARE_USER])
def test_found_and_repaired(origins: Path, tmp_path: Path, mode: Mode, damage: str) -> None:
    shutil.copytree(origins / mode, tmp_path / "repo", symlinks=True)
    repo = Repository.open(tmp_path / "repo")
    commit = repo.resolve("main")
    act, kinds = DAMAGE[damage]
    act(repo)
    report = fsck(repo)
    assert not report.ok
    assert kinds <= {str(problem.kind) for problem in report.problems}
    _repair(repo, origins / (Mode.ARCHIVE if mode is Mode.BARE_USER else Mode.BARE_USER))
    assert fsck(repo).ok, fsck(repo).problems
    assert repo.resolve("main") == commit
    assert not repo.is_partial(commit)
    for path, data in FILES.items():
        assert read_path(repo, commit, path, max_bytes=9999) == data


def test_what_nobody_has_stays_lost(user_repo: Repository, archive: Repository) -> None:
    commit = commit_files(user_repo, FILES)
    _file(user_repo, "a").unlink()
    _, done = _repair(user_repo, archive.path)
    assert [kind for kind, _ in done.lacking] == [ObjectType.FILE]
    assert (done.objects, done.completed) == (0, ())
    assert user_repo.is_broken(commit)


def test_where_to_look(user_repo: Repository, archive: Repository) -> None:
    with pytest.raises(UsageError, match="no remote"):
        sources(user_repo, "")
    with pytest.raises(NotFound, match="neither a remote nor a repository"):
        sources(user_repo, "nowhere")
    for name in ("one", "two"):
        user_repo.config.set(f'remote "{name}"', "url", f"file://{archive.path}")
    assert len(sources(user_repo, "")) == 2
    commit_files(archive, FILES)
    commit_files(user_repo, FILES)
    _file(user_repo, "a").unlink()
    report = fsck(user_repo, delete=True)
    assert repair(user_repo, report, sources(user_repo, "one")).objects == 1


def test_unreachable_damage_is_found_too(user_repo: Repository) -> None:
    lost = commit_files(user_repo, {"x": b"lost"}, ref=None)
    found = lookup(user_repo, lost, "x")
    assert isinstance(found, str)
    commit = user_repo.object_path(ObjectType.COMMIT, lost)
    commit.unlink()
    _flip(user_repo.object_path(ObjectType.FILE, found))
    (problem,) = fsck(user_repo).problems
    assert problem.where == object_name(ObjectType.FILE, found, user_repo.mode)
    assert problem.commits == ()
    assert problem.what.startswith(f"fsck content object {found}: Corrupted file object; checksum expected='{found}'")


def test_many_commits_are_not_all_named(user_repo: Repository) -> None:
    for number in range(6):
        commit_files(user_repo, {"same": b"same", "other": str(number).encode()}, ref=f"r{number}")
    found = lookup(user_repo, user_repo.resolve("r0"), "same")
    assert isinstance(found, str)
    user_repo.object_path(ObjectType.FILE, found).unlink()
    (problem,) = fsck(user_repo).problems
    assert len(problem.commits) == 6
    assert " and 2 more: " in problem.what


def test_a_mark_without_its_commit_is_nothing_wrong(user_repo: Repository) -> None:
    user_repo.mark_partial(Checksum("0" * 64))
    report = fsck(user_repo)
    assert (report.ok, report.stale_marks) == (True, 1)


def test_bindings(user_repo: Repository) -> None:
    commit = commit_files(user_repo, FILES)
    user_repo.set_ref(Ref("other"), commit)
    report = fsck(user_repo, verify_bindings=True)
    assert [problem.what for problem in report.problems] == [
        f"Commit {commit}: Commit has no requested ref ‘other’ in ref binding metadata (‘main’)"
    ]
    user_repo.set_ref(Ref("other"), None)
    user_repo.set_ref(Ref("main"), None)
    assert fsck(user_repo, verify_bindings=True).ok
    (problem,) = fsck(user_repo, verify_back_refs=True).problems
    assert problem.what == f"Ref ‘main’ in bindings for commit {commit} does not exist"
