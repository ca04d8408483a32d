"""Pulling commits from another repository on this machine, by hard links where modes and file system allow.

A linked object is trusted as it lies there; with `untrusted`, as between repositories of different owners, every
object is copied and its hash checked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Ref, is_checksum
from wherry.core.errors import Conflict, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.store.objects import Mode, ObjectType
from wherry.store.refs import parse_ref
from wherry.store.stats import PullStats
from wherry.store.walk import reachable
from wherry.store.workers import Workers

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.transaction import Transaction


def pull_local(
    dest: Repository,
    src: Repository,
    revs: Iterable[str] | None = None,
    *,
    remote: str = "",
    depth: int = 0,
    untrusted: bool = False,
    progress: Progress = QUIET,
) -> PullStats:
    """Copies commits.

    Args:
        dest: where to.
        src: where from.
        revs: refs, which are set in `dest` too, or checksums; None: every local ref of `src`.
        remote: the refs are set as ``REMOTE:REF``.
        depth: how many parents of each too; -1 for all that are there.
        untrusted: copy and check, do not link.
        progress: is told how many objects are done.

    Returns:
        What it took.

    Raises:
        NotFound: `src` lacks something.
        Conflict: `src` has the commit only in part.
        IntegrityError: an object of `src` is damaged.
    """
    wanted: dict[Checksum, None] = {}
    moved: dict[Ref, Checksum] = {}
    for rev in revs if revs is not None else [ref for ref in src.refs() if ":" not in ref]:
        commit = src.resolve(rev)
        wanted[commit] = None
        if not is_checksum(rev):
            name = rev.rpartition(":")[2]
            moved[parse_ref(f"{remote}:{name}" if remote else name)] = commit
    with dest.transaction() as transaction:
        worker = _LocalPull(transaction, src, untrusted=untrusted, progress=progress)
        commits: dict[Checksum, None] = {}
        for commit in wanted:
            worker.collect(commit, depth, commits)
        worker.run()
        transaction.checkpoint()
        for commit in commits:
            dest.mark_complete(commit)
        for ref, commit in moved.items():
            transaction.set_ref(ref, commit)
    return PullStats(
        bytes_received=transaction.bytes_written, objects=transaction.objects_written, linked=worker.linked
    )


class _LocalPull:
    def __init__(self, transaction: Transaction, src: Repository, *, untrusted: bool, progress: Progress) -> None:
        self._transaction = transaction
        self._dest = transaction.repo
        self._src = src
        self._link = src.mode is self._dest.mode and not untrusted
        self._progress = progress
        self._lock = threading.Lock()
        self._jobs: dict[tuple[ObjectType, Checksum], None] = {}
        self._commits: list[Checksum] = []
        self._done = 0
        self.linked = 0

    def collect(self, commit: Checksum, depth: int, commits: dict[Checksum, None]) -> None:
        """Notes what a commit, and its parents to `depth`, need."""
        current: Checksum | None = commit
        while current is not None and current not in commits:
            if not self._src.has(ObjectType.COMMIT, current):
                if current == commit:
                    raise NotFound("no such commit in the source repository", where=current)
                return
            if self._src.is_partial(current):
                raise Conflict("the source repository has only a part of a commit", where=current)
            commits[current] = None
            if not self._dest.has(ObjectType.COMMIT, current) or self._dest.is_partial(current):
                for item in reachable(self._src, current):
                    if item[0] is not ObjectType.COMMIT and not self._dest.has(*item):
                        self._jobs[item] = None
                self._commits.append(current)
            if self._src.has(ObjectType.COMMITMETA, current):
                self._jobs[ObjectType.COMMITMETA, current] = None
            if depth == 0:
                return
            depth -= 1
            current = self._src.load_commit(current).parent

    def run(self) -> None:
        """Copies everything, commits last."""
        total = len(self._jobs)
        workers = Workers(self._handle, parallel=os.cpu_count() or 1)
        workers.run(
            self._jobs, tick=lambda: self._progress.update("copying objects", self._done, total, unit="objects")
        )
        for commit in self._commits:
            data = self._src.metadata_bytes(ObjectType.COMMIT, commit)
            self._transaction.write_metadata(ObjectType.COMMIT, data, commit)

    def _handle(self, job: tuple[ObjectType, Checksum]) -> Iterable[tuple[ObjectType, Checksum]]:
        kind, checksum = job
        self._done += 1
        path = self._src.object_path(kind, checksum)
        if kind is not ObjectType.FILE:
            self._transaction.write_metadata(kind, self._src.metadata_bytes(kind, checksum), checksum)
        elif self._link and self._transaction.link_object(path, kind, checksum):
            with self._lock:
                self.linked += 1
        elif self._src.mode is Mode.ARCHIVE:
            with open(path, "rb", buffering=0) as file:
                self._transaction.write_archived(file, checksum, where=path)
        else:
            header, content = self._src.load_file(checksum)
            try:
                self._transaction.write_file(header, content, checksum)
            finally:
                if content is not None:
                    content.close()
        return ()
