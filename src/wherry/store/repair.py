"""Bringing back what fsck found damaged or missing: from a remote, or from another repository on this machine.

Nothing is trusted: each object is hashed as it comes. What comes back is found by walking the commits anew, since a
directory that was lost hides what is below it. A ref whose file is damaged is set to what the source has by that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import NotFound, Unsupported, UsageError, WherryError
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import refs
from wherry.store.fsck import FsckReport, ProblemKind
from wherry.store.objects import Mode, ObjectType
from wherry.store.objectset import ObjectName
from wherry.store.walk import MAX_TREE_DEPTH, missing_objects

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
    wanted = dict.fromkeys(problem.item for problem in report.problems if problem.item is not None)
    fixed = _repair_refs(repo, report, places)
    wanted.update(dict.fromkeys((ObjectType.COMMIT, commit) for _, commit in fixed if _lacks(repo, commit)))
    commits = dict.fromkeys(commit for problem in report.problems for commit in problem.commits)
    commits.update(dict.fromkeys(checksum for kind, checksum in wanted if kind is ObjectType.COMMIT))
    got, lacking = 0, dict.fromkeys(wanted)
    for _ in range(MAX_TREE_DEPTH + 2):  # each turn at least one level deeper
        todo = [item for item in wanted if not repo.has(*item)]
        for place in places:
            if todo:
                left = place.fetch(todo, progress)
                got += len(todo) - len(left)
                todo = list(left)
        lacking = dict.fromkeys(todo)
        reach("store.repair.fetched")
        found = {item: None for commit in commits if _readable(repo, commit) for item in missing_objects(repo, commit)}
        wanted = {item: None for item in found if item not in lacking}
        if not wanted:
            break
    completed = []
    for commit in commits:
        if repo.is_partial(commit) and _readable(repo, commit) and next(missing_objects(repo, commit), None) is None:
            repo.mark_complete(commit)
            completed.append(commit)
    return Repaired(
        objects=got, refs=tuple(ref for ref, _ in fixed), completed=tuple(completed), lacking=tuple(lacking)
    )


def sources(repo: Repository, name: str) -> list[ObjectSource]:
    """Returns where to look: a remote by its name, a repository by its path, or every remote when none is named.

    Raises:
        NotFound: there is no such remote.
        UsageError: none is named and there are none.
    """
    names = [section[8:-1] for section in repo.config.sections() if section.startswith('remote "')]
    if name in names:
        return [_remote(repo, name)]
    path = Path(name.removeprefix("file://"))
    if name and (path / "config").is_file():
        return [_LocalSource(repo, path)]
    if name:
        raise NotFound(
            f"neither a remote nor a repository: {name}", hint="`wherry store remote list` lists the remotes"
        )
    if not names:
        raise UsageError("there is no remote to repair from", hint="name a repository: --repair=PATH")
    return [_remote(repo, found) for found in names]


def _remote(repo: Repository, name: str) -> ObjectSource:
    url = repo.config.get(f'remote "{name}"', "url")
    if url.startswith("file://"):
        return _LocalSource(repo, Path(url.removeprefix("file://")))
    if url.startswith(("http://", "https://")):
        return _HttpSource(repo, url)
    raise Unsupported(f"cannot fetch single objects from {url!r}", where=f"remote {name}")


def _repair_refs(repo: Repository, report: FsckReport, places: Sequence[ObjectSource]) -> list[tuple[str, Checksum]]:
    """Sets refs whose files are damaged anew."""
    fixed: list[tuple[str, Checksum]] = []
    for problem in report.problems:
        if problem.kind is not ProblemKind.REF or problem.item is not None or problem.where.startswith("("):
            continue
        name = refs.split_ref(Ref(problem.where))[1]
        commit = next((found for place in places if (found := place.ref(name)) is not None), None)
        if commit is not None:
            fixed.append((problem.where, commit))
            if _lacks(repo, commit):
                repo.mark_partial(commit, by_fsck=True)
            refs.write_ref(repo.path, Ref(problem.where), commit)
    return fixed


def _lacks(repo: Repository, commit: Checksum) -> bool:
    return not repo.has(ObjectType.COMMIT, commit)


def _readable(repo: Repository, commit: Checksum) -> bool:
    try:
        repo.load_commit(commit)
    except WherryError:
        return False
    return True


class _LocalSource:
    """Another repository on this machine."""

    def __init__(self, repo: Repository, path: Path) -> None:
        self._repo = repo
        self._source = type(repo).open(path)

    def fetch(self, wanted: Iterable[ObjectName], progress: Progress) -> tuple[ObjectName, ...]:
        left = []
        with self._repo.transaction() as transaction:
            for kind, checksum in wanted:
                try:
                    if kind is not ObjectType.FILE:
                        transaction.write_metadata(kind, self._source.metadata_bytes(kind, checksum), checksum)
                    elif self._source.mode is Mode.ARCHIVE:
                        with open(self._source.object_path(kind, checksum), "rb", buffering=0) as file:
                            transaction.write_archived(file, checksum)
                    else:
                        header, content = self._source.load_file(checksum)
                        try:
                            transaction.write_file(header, content, checksum)
                        finally:
                            if content is not None:
                                content.close()
                except (NotFound, FileNotFoundError):
                    left.append((kind, checksum))
        return tuple(left)

    def ref(self, name: str) -> Checksum | None:
        return refs.find_ref(self._source.path, name)


class _HttpSource:
    """An archive repository on a server."""

    def __init__(self, repo: Repository, url: str) -> None:
        parts = urlsplit(url)
        self._repo = repo
        self._server = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")

    def fetch(self, wanted: Iterable[ObjectName], progress: Progress) -> tuple[ObjectName, ...]:
        from wherry.core.http import HttpClient
        from wherry.store.fetch import Fetcher

        left = []
        client = HttpClient(self._server)
        try:
            with self._repo.transaction() as transaction:
                fetcher = Fetcher(client, self._path, transaction, lambda: None)
                for done, (kind, checksum) in enumerate(wanted):
                    progress.update("fetching objects", done, None, unit="objects")
                    try:
                        if kind is ObjectType.FILE:
                            fetcher.file(checksum)
                        else:
                            fetcher.metadata(kind, checksum)
                    except NotFound:
                        left.append((kind, checksum))
        finally:
            client.close()
        return tuple(left)

    def ref(self, name: str) -> Checksum | None:
        from wherry.core.http import HttpClient
        from wherry.store.pull import RemotePull

        client = HttpClient(self._server)
        try:
            return RemotePull(self._repo, client, self._path).resolve(name)
        except NotFound:
            return None
        finally:
            client.close()
