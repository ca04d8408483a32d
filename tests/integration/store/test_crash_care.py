"""SIGKILL at every trace point of prune, fsck, repair, refs and summary; then fsck by both, and another try."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.store.test_crash import check, points, wherry
from tests.unit.store.conftest import commit_files

from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.repository import Repository
from wherry.store.tree.walk import lookup


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One command, and what must be so after it came through."""

    args: tuple[str, ...]
    points: tuple[str, ...]
    """Of the whole command, in the order in which they are reached first."""
    prepare: Callable[[Repository], None] = lambda repo: None
    done: Callable[[Repository], bool] = lambda repo: True
    whole: bool = True
    """Whether fsck finds nothing after a kill: not where the case begins with a damaged repository."""
    status: int = 0


_REF = ("store.transaction.staged", "store.transaction.synced", "store.transaction.ref", "store.ref.written",
        "store.transaction.done")  # fmt: skip


def _damage(repo: Repository) -> None:
    found = lookup(repo, repo.resolve("main"), "a")
    assert isinstance(found, str)
    repo.object_path(ObjectType.FILE, found).write_bytes(b"damaged")


CASES = {
    "prune": Case(
        args=("prune", "--refs-only", "--depth=0"),
        points=("store.prune.object",),
        done=lambda repo: len(list(repo.commits())) == 2,
    ),
    "prune --delete-commit": Case(
        args=("prune", "--delete-commit=side^"),
        points=("store.tombstone.written", "store.prune.object"),
        done=lambda repo: any(kind is ObjectType.TOMBSTONE for kind, _ in repo.list_objects()),
    ),
    "fsck --delete": Case(
        args=("fsck", "--delete", "-q"), points=("store.fsck.object",), prepare=_damage, whole=False, status=1
    ),
    "fsck --repair": Case(
        args=("fsck", "--repair=SOURCE", "-q"),
        points=(
            "store.fsck.object",
            "store.transaction.staged",
            "store.transaction.synced",
            "store.transaction.publishing",
            "store.transaction.published",
            "store.transaction.done",
            "store.repair.fetched",
        ),
        prepare=_damage,
        whole=False,
    ),
    "refs --create": Case(
        args=("refs", "--create=new/name", "main"), points=_REF, done=lambda repo: "new/name" in repo.refs()
    ),
    "refs --force": Case(
        args=("refs", "--force", "--create=side", "main"),
        points=_REF,
        done=lambda repo: repo.resolve("side") == repo.resolve("main"),
    ),
    "refs --alias": Case(
        args=("refs", "--alias", "--create=other", "main"),
        points=("store.ref.written",),
        done=lambda repo: dict(repo.aliases()) == {"other": "main"},
    ),
    "refs --delete": Case(
        args=("refs", "--delete", "side"),
        points=tuple(point for point in _REF if point != "store.ref.written"),
        done=lambda repo: "side" not in repo.refs(),
    ),
    "summary": Case(
        args=("summary", "-u"),
        points=("store.summary.unsigned", "store.summary.written"),
        done=lambda repo: (repo.path / "summary").exists(),
    ),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("care")
    repo = Repository.init(place / "repo", Mode.BARE_USER)
    commit_files(repo, {"a": b"1", "b/c": b"2"})
    first = commit_files(repo, {"x": b"x"}, ref="side")
    commit_files(repo, {"x": b"y"}, ref="side", parent=first)
    return place


def _make(template: Path, tmp_path: Path, case: Case) -> tuple[Repository, tuple[str, ...]]:
    shutil.copytree(template / "repo", tmp_path / "repo", symlinks=True)
    repo = Repository.open(tmp_path / "repo")
    case.prepare(repo)
    source = str(template / "repo")
    return repo, (case.args[0], f"--repo={repo.path}", *(word.replace("SOURCE", source) for word in case.args[1:]))


@pytest.mark.parametrize("name", CASES)
def test_every_point_is_in_the_list(template: Path, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    repo, args = _make(template, tmp_path, case)
    log = tmp_path / "log"
    done = wherry(*args, trace=f"log:{log}")
    assert done.returncode == case.status, done.stderr
    assert tuple(points(log)) == case.points
    assert case.done(repo)


@pytest.mark.parametrize(("name", "point"), [(name, point) for name, case in CASES.items() for point in case.points])
def test_killed(template: Path, tmp_path: Path, name: str, point: str) -> None:
    case = CASES[name]
    repo, args = _make(template, tmp_path, case)
    before = repo.refs()
    killed = wherry(*args, trace=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL
    now = Repository.open(repo.path)
    assert set(now.refs().values()) <= set(before.values())
    if case.whole:
        check(now)
    if name in ("fsck --delete", "fsck --repair", "summary") or not case.done(now):
        again = wherry(*args)
        assert again.returncode == case.status, again.stderr
    assert case.done(Repository.open(repo.path))
    if name == "fsck --delete":
        assert [problem.kind for problem in fsck(repo).problems] == ["partial"]
    else:
        check(Repository.open(repo.path))
