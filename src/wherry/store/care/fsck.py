"""Checking a repository: every object is what its name says, every commit has all of its objects, every ref is good.

Unlike OSTree's, it looks at objects too that no commit reaches, and at the files of refs themselves. What it changes:
commits that lack something are marked partial (``f`` in the mark), so that a pull makes them whole again; with `delete`
damaged objects are removed. ``repair.py`` brings them back. On a read-only file system it only looks.

Memory: about 100 bytes for each object of the largest commits, whatever the number of commits.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, is_checksum
from wherry.core.errors import InvalidInput, NotFound, WherryError
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import refs
from wherry.store.disk import payload
from wherry.store.disk.objectset import ObjectName, ObjectSet
from wherry.store.format import bindings, objects
from wherry.store.format.objects import ObjectType, object_name
from wherry.store.tree.walk import MAX_TREE_DEPTH, missing_objects
from wherry.store.workers import Workers

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_PROBLEMS = 10_000
"""A report that is longer helps nobody; what comes after is counted."""
_BATCH = 64
_NAMED_COMMITS = 4
"""So many commits are named for a bad object; then "and N more"."""


class ProblemKind(enum.StrEnum):
    """What may be wrong."""

    DAMAGED = "damaged"
    MISSING = "missing"
    REF = "ref"
    BINDING = "binding"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    kind: ProblemKind
    where: str
    """An object's name, a ref, or a commit."""
    what: str
    """The whole story, in one line."""
    item: ObjectName | None = None
    """The object, if it is one."""
    commits: tuple[Checksum, ...] = ()
    """Commits that need the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What was looked at, and what is wrong."""

    commits: int
    """That are not partial."""
    partial_commits: int
    broken_commits: int
    """Those of the partial ones that fsck has found to lack something, now or before."""
    objects: int
    problems: tuple[Problem, ...]
    deleted: int = 0
    stale_marks: int = 0
    """Marks of partial commits that are not there: of a pull that was cut off at once. Nothing is wrong with that."""
    tombstones: tuple[Checksum, ...] = ()
    """Commits for which a tombstone was added."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def _silent(_: object) -> None:
    """Says nothing."""


def fsck(
    repo: Repository,
    *,
    delete: bool = False,
    verify_bindings: bool = False,
    verify_back_refs: bool = False,
    add_tombstones: bool = False,
    stop_at_first: bool = False,
    progress: Progress = QUIET,
    say: Callable[[str], object] = _silent,
    tell: Callable[[Problem], object] = _silent,
    marked: Callable[[Checksum], object] = _silent,
) -> FsckReport:
    """Checks everything.

    Args:
        repo: the repository.
        delete: remove damaged objects.
        verify_bindings: each ref's commit must have been made for that ref (``ostree.ref-binding``).
        verify_back_refs: each ref that a commit was made for must name it; implies `verify_bindings`.
        add_tombstones: note of parents that are not there that they were deleted on purpose.
        stop_at_first: look no further when a ref, a binding or an object's bytes are bad.
        progress: is told how many objects are done.
        say: is told what is being looked at.
        tell: is told of each problem as it is found.
        marked: is told of each commit that is marked partial.

    Returns:
        All that is wrong; raises for none of it.
    """
    check = _Fsck(
        repo, delete=delete, stop_at_first=stop_at_first, progress=progress, say=say, tell=tell, marked=marked
    )
    with repo.lock(shared=not (delete or add_tombstones)):
        try:
            check.run(
                verify_bindings=verify_bindings or verify_back_refs,
                verify_back_refs=verify_back_refs,
                add_tombstones=add_tombstones,
            )
        except _StopError:
            pass
    return check.report()


def check_one(repo: Repository, kind: ObjectType, checksum: Checksum) -> str:
    """Returns what is wrong with one object's bytes, "" when nothing is."""
    try:
        _check_bytes(repo, kind, checksum)
    except WherryError as error:
        return error.what
    except OSError as error:
        return str(error)
    return ""


def _check_bytes(repo: Repository, kind: ObjectType, checksum: Checksum) -> None:
    if kind is ObjectType.FILE:
        header, content = repo.load_file(checksum)
        if content is None:
            found = objects.file_checksum(header)
        else:
            with content:
                found = objects.file_checksum(header, content)
        if found != checksum:
            raise objects.corrupted(kind, checksum, found)
    elif kind is ObjectType.PAYLOAD_LINK:
        path = repo.objects_dir / object_name(kind, checksum, repo.mode)
        if payload.link_target(path) is None:
            raise InvalidInput("not a payload link: it leads to no file object")
    elif kind in (ObjectType.FILE_XATTRS, ObjectType.FILE_XATTRS_LINK):
        data = repo.metadata_bytes(kind, checksum)
        objects.parse_xattrs(data)
        found = objects.metadata_checksum(data)
        if kind is ObjectType.FILE_XATTRS and found != checksum:
            raise objects.corrupted(kind, checksum, found)
    else:
        objects.check_object(kind, repo.metadata_bytes(kind, checksum), checksum)


class _StopError(Exception):
    """The first problem was found, and no more are wanted."""


class _Fsck:
    def __init__(
        self,
        repo: Repository,
        *,
        delete: bool,
        stop_at_first: bool,
        progress: Progress,
        say: Callable[[str], object],
        tell: Callable[[Problem], object],
        marked: Callable[[Checksum], object],
    ) -> None:
        self._repo = repo
        self._delete = delete
        self._stop = stop_at_first
        self._progress = progress
        self._say, self._tell, self._marked = say, tell, marked
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._damaged: dict[ObjectName, str] = {}
        self._commits = ObjectSet()
        self._whole: list[Checksum] = []
        self._partial = self._broken = self._objects = self._deleted = self._stale = 0
        self._tombstones: list[Checksum] = []

    def report(self) -> FsckReport:
        return FsckReport(
            commits=len(self._whole),
            partial_commits=self._partial,
            broken_commits=self._broken,
            objects=self._objects,
            problems=tuple(self._problems),
            deleted=self._deleted,
            stale_marks=self._stale,
            tombstones=tuple(self._tombstones),
        )

    def run(self, *, verify_bindings: bool, verify_back_refs: bool, add_tombstones: bool) -> None:
        self._say("Validating refs...")
        self._check_refs(verify_bindings=verify_bindings)
        self._say("Validating refs in collections...")
        self._check_collection_refs(verify_bindings=verify_bindings)
        self._say("Enumerating commits...")
        self._list_commits(verify_back_refs=verify_back_refs)
        self._say(f"Verifying content integrity of {len(self._whole)} commit objects...")
        self._check_objects()
        self._attribute()
        if add_tombstones:
            self._add_tombstones()

    # --- refs

    def _check_refs(self, *, verify_bindings: bool) -> None:
        for ref, path in refs.scan_refs(self._repo.path):
            self._check_ref(str(ref), refs.split_ref(ref)[1], None, path, verify_bindings=verify_bindings)

    def _check_collection_refs(self, *, verify_bindings: bool) -> None:
        own = self._repo.collection_id
        if own:
            for ref, path in refs.scan_refs(self._repo.path):
                if ":" not in ref:
                    self._check_ref(f"({own}, {ref})", str(ref), own, path, verify_bindings=verify_bindings)
        for found, path in refs.scan_mirrors(self._repo.path):
            self._check_ref(str(found), found.name, found.collection, path, verify_bindings=verify_bindings)

    def _check_ref(self, ref: str, name: str, collection: str | None, path: Path, *, verify_bindings: bool) -> None:
        try:
            commit = refs.read_ref_file(path)
        except WherryError as error:
            self._found(Problem(kind=ProblemKind.REF, where=ref, what=f"Ref {ref}: {error.what}"))
            return
        if commit is None:  # a link to a ref that is not there, or removed just now
            if path.is_symlink():
                self._found(Problem(kind=ProblemKind.REF, where=ref, what=f"Ref {ref} is an alias of a missing ref"))
            return
        try:
            loaded = self._repo.load_commit(commit)
        except NotFound as error:
            what = f"Loading commit for ref {ref}: {error.what}"
            item = (ObjectType.COMMIT, commit)
            self._found(Problem(kind=ProblemKind.REF, where=ref, what=what, item=item))
            return
        except WherryError:
            return  # it is found among the objects
        if verify_bindings:
            try:
                bindings.check_bindings(commit, loaded, ref=name, collection=collection or "")
            except WherryError as error:
                what = f"Commit {commit}: {error.what}"
                self._found(Problem(kind=ProblemKind.BINDING, where=ref, what=what, commits=(commit,)))

    # --- commits

    def _list_commits(self, *, verify_back_refs: bool) -> None:
        repo = self._repo
        for commit in sorted(repo.commits()):
            self._commits.add((ObjectType.COMMIT, commit))
            if repo.is_partial(commit):
                self._partial += 1
                if repo.is_broken(commit):
                    self._broken += 1
                    what = f"Commit {commit} lacks objects that fsck has found damaged or missing; pull it again"
                    self._found(
                        Problem(kind=ProblemKind.PARTIAL, where=commit, what=what, commits=(commit,)), stop=False
                    )
            else:
                self._whole.append(commit)
            if verify_back_refs:
                self._check_back_refs(commit)
        self._stale = sum(1 for mark in self._marks() if (ObjectType.COMMIT, mark) not in self._commits)

    def _marks(self) -> Iterator[Checksum]:
        for path in (self._repo.path / "state").glob("*.commitpartial"):
            name = path.name.partition(".")[0]
            if is_checksum(name):
                yield Checksum(name)

    def _check_back_refs(self, commit: Checksum) -> None:
        try:
            loaded = self._repo.load_commit(commit)
        except WherryError:
            return
        collection = bindings.bound_collection(loaded)
        for name in bindings.bound_refs(loaded) or []:
            label, got = self._named(name, collection)
            if got == commit:
                continue
            wrong = "does not exist" if got is None else "does not resolve to that commit"
            what = f"{label} in bindings for commit {commit} {wrong}"
            self._found(Problem(kind=ProblemKind.BINDING, where=commit, what=what, commits=(commit,)))

    def _named(self, name: str, collection: str | None) -> tuple[str, Checksum | None]:
        try:
            if collection is not None:
                ref = refs.CollectionRef(collection, name)
                return f"Collection–ref {ref}", self._repo.collection_refs(collection).get(ref)
            return f"Ref ‘{name}’", refs.find_ref(self._repo.path, name)
        except WherryError:
            return f"Ref ‘{name}’", None

    def _add_tombstones(self) -> None:
        repo = self._repo
        wanted = []
        for commit in sorted(self._commits.of(ObjectType.COMMIT)):
            try:
                parent = repo.load_commit(commit).parent
            except WherryError:
                continue
            gone = parent is not None and not repo.has(ObjectType.COMMIT, parent)
            if parent is not None and gone and not repo.has(ObjectType.TOMBSTONE, parent):
                wanted.append(parent)
        if wanted:
            repo.enable_tombstones()
        for parent in dict.fromkeys(wanted):
            repo.delete_object(ObjectType.COMMIT, parent)
            self._tombstones.append(parent)

    # --- objects

    def _check_objects(self) -> None:
        workers: Workers[list[ObjectName]] = Workers(self._check, parallel=os.cpu_count() or 1)
        workers.run(
            self._batches(),
            tick=lambda: self._progress.update("checking objects", self._objects, None, unit="objects"),
        )

    def _batches(self) -> Iterator[list[ObjectName]]:
        """Gives all objects, some at a time: handing over each by itself would cost as much as checking it."""
        objects_here = self._repo.list_objects()
        while batch := list(islice(objects_here, _BATCH)):
            yield batch

    def _check(self, batch: list[ObjectName]) -> Iterable[list[ObjectName]]:
        damaged = {item: wrong for item in batch if (wrong := check_one(self._repo, *item))}
        with self._lock:
            self._objects += len(batch)
            for item, wrong in damaged.items():
                if not (self._stop and self._damaged):
                    self._damaged[item] = wrong
        return ()

    def _attribute(self) -> None:
        """Finds what is missing, which commits need what is bad, and marks these."""
        repo = self._repo
        seen = ObjectSet()
        bad: dict[ObjectName, str] = {}
        for commit in self._whole:
            try:
                for item in missing_objects(repo, commit, seen):
                    bad[item] = ""
            except WherryError:
                continue  # what cannot be read is damaged, and known
        bad.update(self._damaged)
        if not bad:
            return
        needs = _Needs(repo, bad)
        by_item: dict[ObjectName, list[Checksum]] = {item: [] for item in bad}
        lacking: dict[Checksum, bool] = {}
        for commit in self._whole:
            for item in needs.of(commit):
                by_item[item].append(commit)
                if item not in self._damaged or self._delete:
                    lacking[commit] = True
        for item in self._damaged if self._delete else ():
            (repo.objects_dir / object_name(*item, repo.mode)).unlink(missing_ok=True)
            self._deleted += 1
            reach("store.fsck.object")
        if self._deleted:
            repo.sync()
        for item, commits in sorted(by_item.items(), key=lambda pair: (pair[0] in self._damaged, pair[0][1])):
            where = object_name(*item, repo.mode)
            self._found(_object_problem(item, where, self._damaged.get(item, ""), tuple(commits)))
        for commit in lacking:
            if (ObjectType.COMMIT, commit) not in bad and repo.writable:
                repo.mark_partial(commit, by_fsck=True)
                self._broken += 1
                self._marked(commit)

    def _found(self, problem: Problem, *, stop: bool = True) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
            self._tell(problem)
        if self._stop and stop and problem.kind is not ProblemKind.MISSING:
            raise _StopError


class _Needs:
    """Which of some bad objects each commit needs; each directory is read once."""

    def __init__(self, repo: Repository, bad: Iterable[ObjectName]) -> None:
        self._repo = repo
        self._bad = frozenset(bad)
        self._known: dict[Checksum, frozenset[ObjectName]] = {}

    def of(self, commit: Checksum) -> frozenset[ObjectName]:
        found = {(ObjectType.COMMIT, commit)} & self._bad
        try:
            loaded = self._repo.load_commit(commit)
        except WherryError:
            return frozenset(found)
        found |= {(ObjectType.DIRMETA, loaded.meta)} & self._bad
        return frozenset(found) | self._below(loaded.tree, 0)

    def _below(self, tree: Checksum, depth: int) -> frozenset[ObjectName]:
        if tree in self._known:
            return self._known[tree]
        found: set[ObjectName] = {(ObjectType.DIRTREE, tree)} & self._bad
        if not found and depth <= MAX_TREE_DEPTH:
            try:
                entries = self._repo.load_dirtree(tree)
            except WherryError:
                entries = objects.DirTree()
            for _, checksum in entries.files:
                if (ObjectType.FILE, checksum) in self._bad:
                    found.add((ObjectType.FILE, checksum))
            for _, subtree, meta in entries.dirs:
                if (ObjectType.DIRMETA, meta) in self._bad:
                    found.add((ObjectType.DIRMETA, meta))
                found |= self._below(subtree, depth + 1)
        self._known[tree] = result = frozenset(found)
        return result


def _object_problem(item: ObjectName, where: str, wrong: str, commits: tuple[Checksum, ...]) -> Problem:
    kind, checksum = item
    name = f"{checksum}.{kind.extension}"
    named = ", ".join(commits[:_NAMED_COMMITS])
    if len(commits) > _NAMED_COMMITS:
        named += f" and {len(commits) - _NAMED_COMMITS} more"
    if not wrong:
        what = f"Object missing in commits {named}: {name}"
        return Problem(kind=ProblemKind.MISSING, where=where, what=what, item=item, commits=commits)
    subject = f"content object {checksum}" if kind is ObjectType.FILE else name
    what = f"{f'In commits {named}: ' if commits else ''}fsck {subject}: {wrong}"
    return Problem(kind=ProblemKind.DAMAGED, where=where, what=what, item=item, commits=commits)
