"""Checking a repository: every object is what its name says, every commit has all of its objects, every ref is good.

Unlike OSTree's, it looks at objects too that no commit reaches. With `delete` damaged objects are removed; commits
that lack something are marked partial then, so that a pull makes them whole again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound, WherryError
from wherry.core.progress import QUIET, Progress
from wherry.store import objects
from wherry.store.objects import ObjectType, object_name
from wherry.store.refs import split_ref
from wherry.store.walk import gaps
from wherry.store.workers import Workers

if TYPE_CHECKING:
    from wherry.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    where: str
    """An object's name, a ref, or a commit."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was looked at, and what is wrong."""

    commits: int
    partial_commits: int
    objects: int
    problems: tuple[Problem, ...]
    deleted: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def fsck(
    repo: Repository, *, delete: bool = False, verify_bindings: bool = False, progress: Progress = QUIET
) -> FsckReport:
    """Checks everything.

    Args:
        repo: the repository.
        delete: remove damaged objects, and mark the commits that lack them partial.
        verify_bindings: each ref's commit must have been made for that ref (``ostree.ref-binding``).
        progress: is told how many objects are done.

    Returns:
        All that is wrong; raises for none of it.
    """
    with repo.lock(shared=not delete):
        return _Fsck(repo, delete=delete, progress=progress).run(verify_bindings=verify_bindings)


def check_one(repo: Repository, kind: ObjectType, checksum: Checksum) -> str:
    """Returns what is wrong with one object's bytes, "" when nothing is."""
    try:
        if kind is ObjectType.FILE:
            header, content = repo.load_file(checksum)
            if content is None:
                found = objects.file_checksum(header)
            else:
                with content:
                    found = objects.file_checksum(header, content)
            return "" if found == checksum else f"its checksum is {found}"
        objects.check_object(kind, repo.metadata_bytes(kind, checksum), checksum)
    except NotFound as error:
        return error.what
    except (WherryError, OSError) as error:
        return error.what if isinstance(error, WherryError) else str(error)
    return ""


class _Fsck:
    def __init__(self, repo: Repository, *, delete: bool, progress: Progress) -> None:
        self._repo = repo
        self._delete = delete
        self._progress = progress
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._damaged: list[tuple[ObjectType, Checksum]] = []
        self._done = 0

    def run(self, *, verify_bindings: bool) -> FsckReport:
        repo = self._repo
        found = repo.list_objects()
        workers = Workers(self._check, parallel=os.cpu_count() or 1)
        workers.run(
            found, tick=lambda: self._progress.update("checking objects", self._done, len(found), unit="objects")
        )
        bad = set(self._damaged)
        if self._delete:
            for kind, checksum in self._damaged:
                (repo.objects_dir / object_name(kind, checksum, repo.mode)).unlink(missing_ok=True)
        commits = [checksum for kind, checksum in found if kind is ObjectType.COMMIT and (kind, checksum) not in bad]
        partial = 0
        for commit in sorted(commits):
            if repo.is_partial(commit):
                partial += 1
                if repo.is_broken(commit):
                    self._problems.append(
                        Problem(where=commit, what="lacks objects that fsck has removed; pull it again")
                    )
            else:
                self._check_whole(commit)
        self._check_refs(verify_bindings=verify_bindings)
        return FsckReport(
            commits=len(commits),
            partial_commits=partial,
            objects=len(found),
            problems=tuple(self._problems),
            deleted=len(self._damaged) if self._delete else 0,
        )

    def _check(self, item: tuple[ObjectType, Checksum]) -> Iterable[tuple[ObjectType, Checksum]]:
        kind, checksum = item
        wrong = check_one(self._repo, kind, checksum)
        with self._lock:
            self._done += 1
            if wrong:
                self._damaged.append(item)
                self._problems.append(
                    Problem(where=object_name(kind, checksum, self._repo.mode), what=f"damaged: {wrong}")
                )
        return ()

    def _check_whole(self, commit: Checksum) -> None:
        try:
            lacking = list(gaps(self._repo, commit))
        except InvalidInput as error:
            lacking = [str(error.where)]
        for name in lacking:
            self._problems.append(Problem(where=name, what=f"missing, needed by commit {commit}"))
        if lacking and self._delete:
            self._repo.mark_partial(commit, by_fsck=True)

    def _check_refs(self, *, verify_bindings: bool) -> None:
        for ref, commit in self._repo.refs().items():
            if not self._repo.has(ObjectType.COMMIT, commit):
                self._problems.append(Problem(where=ref, what=f"names a commit that is not there: {commit}"))
            elif verify_bindings:
                bound = self._repo.load_commit(commit).metadata.get("ostree.ref-binding", [])
                if split_ref(ref)[1] not in (bound if isinstance(bound, list) else []):
                    self._problems.append(Problem(where=ref, what=f"commit {commit} was not made for this ref"))
