"""Bringing back what fsck found damaged or missing: from a remote, or from another repository on this machine.

Nothing is trusted: each object is hashed as it comes. What comes back is found by walking the commits anew, since a
directory that was lost hides what is below it. A ref whose file is damaged is set to what the source has by that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import NotFound, UsageError, WherryError
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import refs
from wherry.store.care.fsck import FsckReport, Problem, ProblemKind
from wherry.store.disk.objectset import ObjectName
from wherry.store.format.objects import ObjectType
from wherry.store.tree.walk import MAX_TREE_DEPTH, missing_objects

if TYPE_CHECKING:
    from wherry.store.repository import Repository


class ObjectSource(Protocol):
    """Where objects can be had again."""

    def fetch(self, wanted: Iterable[ObjectName], progress: Progress) -> tuple[ObjectName, ...]:
        """Fetches objects, checks and writes them; returns those that are not to be had here."""

    def ref(self, name: str) -> Checksum | None:
        """Returns the commit of a ref there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What was brought back."""

    objects: int
    refs: tuple[str, ...]
    completed: tuple[Checksum, ...]
    """Commits that lack nothing any more."""
    lacking: tuple[ObjectName, ...]
    """Objects that no source has."""


def repair(
    repo: Repository, report: FsckReport, places: Sequence[ObjectSource], *, progress: Progress = QUIET
) -> Repaired:
    """Fetches what a check found damaged or missing. Damaged objects must be removed already (``fsck(delete=True)``).

    Args:
        repo: the repository.
        report: what is wrong with it.
        places: asked in turn.
        progress: is told what is fetched.
    """
    fetcher = _Fetch(repo, places, progress)
    commits = dict.fromkeys(commit for problem in report.problems for commit in problem.commits)
    targets = _targets(repo, [problem.where for problem in report.problems if _has_bad_file(problem)], places)
    commits.update(dict.fromkeys(targets.values()))
    fetcher.run([problem.item for problem in report.problems if problem.item is not None], commits)
    # A commit that nobody has any more: its ref is of no use, and is set to what the source calls so.
    lost = [
        problem.where
        for problem in report.problems
        if problem.kind is ProblemKind.REF and problem.item in fetcher.lacking
    ]
    more = _targets(repo, lost, places)
    if more:
        commits.update(dict.fromkeys(more.values()))
        fetcher.run([], commits)
        targets.update(more)
    completed = []
    for commit in commits:
        if repo.is_partial(commit) and _readable(repo, commit) and next(missing_objects(repo, commit), None) is None:
            repo.mark_complete(commit)
            completed.append(commit)
    fixed = {ref: commit for ref, commit in targets.items() if _readable(repo, commit)}
    for ref, commit in fixed.items():
        refs.write_ref(repo.path, Ref(ref), commit)
    return Repaired(
        objects=fetcher.got,
        refs=tuple(fixed),
        completed=tuple(completed),
        lacking=tuple(fetcher.lacking),
    )


class _Fetch:
    """Fetches objects, and what they turn out to need, until nothing more can be had."""

    def __init__(self, repo: Repository, places: Sequence[ObjectSource], progress: Progress) -> None:
        self._repo = repo
        self._places = places
        self._progress = progress
        self.got = 0
        self.lacking: dict[ObjectName, None] = {}

    def run(self, items: Iterable[ObjectName], commits: dict[Checksum, None]) -> None:
        """Fetches some objects, and all that `commits` lack; commits among the objects are added to them."""
        wanted = dict.fromkeys(items)
        commits.update(dict.fromkeys(checksum for kind, checksum in wanted if kind is ObjectType.COMMIT))
        wanted.update(dict.fromkeys((ObjectType.COMMIT, commit) for commit in commits))
        for _ in range(MAX_TREE_DEPTH + 2):  # each turn at least one level deeper
            self._fetch([item for item in wanted if not self._repo.has(*item)])
            reach("store.repair.fetched")
            readable = [commit for commit in commits if _readable(self._repo, commit)]
            found = dict.fromkeys(item for commit in readable for item in missing_objects(self._repo, commit))
            wanted = {item: None for item in found if item not in self.lacking}
            if not wanted:
                return

    def _fetch(self, todo: list[ObjectName]) -> None:
        for place in self._places:
            if todo:
                left = place.fetch(todo, self._progress)
                self.got += len(todo) - len(left)
                todo = list(left)
        self.lacking.update(dict.fromkeys(todo))


def sources(repo: Repository, name: str) -> list[ObjectSource]:
    """Returns where to look: a remote by its name, a repository by its path, or every remote when none is named.

    Raises:
        NotFound: there is no such remote.
        UsageError: none is named and there are none.
    """
    names = [section[8:-1] for section in repo.config.sections() if section.startswith('remote "')]
    if name in names:
        return [_RemoteSource(repo, name)]
    path = Path(name.removeprefix("file://"))
    if name and (path / "config").is_file():
        return [_PathSource(repo, path)]
    if name:
        raise NotFound(
            f"neither a remote nor a repository: {name}", hint="`wherry store remote list` lists the remotes"
        )
    if not names:
        raise UsageError("there is no remote to repair from", hint="name a repository: --repair=PATH")
    return [_RemoteSource(repo, found) for found in names]


def _has_bad_file(problem: Problem) -> bool:
    return problem.kind is ProblemKind.REF and problem.item is None


def _targets(repo: Repository, names: Iterable[str], places: Sequence[ObjectSource]) -> dict[str, Checksum]:
    """Returns for refs what the first source that has them says; those of collections are left out."""
    found: dict[str, Checksum] = {}
    for ref in names:
        name = refs.split_ref(Ref(ref))[1]
        commit = None if ref.startswith("(") else next(filter(None, (place.ref(name) for place in places)), None)
        if commit is not None:
            found[ref] = commit
            if not repo.has(ObjectType.COMMIT, commit):
                repo.mark_partial(commit, by_fsck=True)
    return found


def _readable(repo: Repository, commit: Checksum) -> bool:
    try:
        repo.load_commit(commit)
    except WherryError:
        return False
    return True


class _RemoteSource:
    """A remote of the repository's config."""

    def __init__(self, repo: Repository, name: str) -> None:
        self._repo = repo
        self._name = name

    def fetch(self, wanted: Iterable[ObjectName], progress: Progress) -> tuple[ObjectName, ...]:
        from wherry.store.pull.single import fetch_objects

        return fetch_objects(self._repo, self._name, wanted, progress=progress)

    def ref(self, name: str) -> Checksum | None:
        from wherry.store.pull.single import remote_ref

        return remote_ref(self._repo, self._name, name)


class _PathSource:
    """Another repository on this machine, by its path."""

    def __init__(self, repo: Repository, path: Path) -> None:
        self._repo = repo
        self._path = path

    def fetch(self, wanted: Iterable[ObjectName], progress: Progress) -> tuple[ObjectName, ...]:
        from wherry.store.pull.single import copy_objects

        return copy_objects(self._repo, self._path, wanted)

    def ref(self, name: str) -> Checksum | None:
        return refs.find_ref(self._path, name)
