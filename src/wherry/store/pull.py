"""Pulling commits: from another repository on this machine, and over HTTP from an archive repository.

A commit that is being pulled is marked partial (``state/<commit>.commitpartial``, as OSTree does) before its object
is written, and complete when nothing of it is missing any more; only then may a ref move to it. What has arrived is
kept: it is checked, then synced and published every few seconds, so that neither an error, nor Ctrl-C, nor a
power cut has it fetched twice.

``RemotePull`` reads the layout that any web server can serve: ``objects/xx/yyyy.filez``, ``refs/heads/...``,
``summary``. It trusts nobody's bytes: each object is hashed as it arrives. Whose commit it is, is for the caller to
check, by ``verify``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import IntegrityError, NoSpace, NotFound, TrustError, Unsupported
from wherry.core.http import HttpClient
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import objects, refs
from wherry.store.config import Config
from wherry.store.fetch import Fetcher
from wherry.store.objects import Mode, ObjectType, object_name
from wherry.store.pull_local import pull_local
from wherry.store.stats import PullStats
from wherry.store.walk import gaps
from wherry.store.workers import Workers

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.transaction import Transaction

__all__ = ["Plan", "PullStats", "RemotePull", "pull_local"]

MAX_REF_BYTES = 1024
MAX_CONFIG_BYTES = 1024 * 1024
MAX_SUMMARY_BYTES = 10 * 1024 * 1024
_CHECKPOINT_S = 5.0
_CHECKPOINT_BYTES = 64 * 1024 * 1024

Verify = Callable[[Checksum, bytes, Mapping[str, Any]], None]
"""Called with a commit, its bytes and its detached metadata; raises TrustError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What has to be fetched for some commits."""

    commits: tuple[Checksum, ...]
    missing_files: tuple[str, ...]
    """Names of file objects, ``xx/yyyy.filez``, sorted."""
    metadata_fetched: int
    metadata_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    kind: ObjectType
    checksum: Checksum
    depth: int = 0


class RemotePull:
    """Pulls from one archive repository over HTTP.

    Args:
        dest: where to.
        client: the server.
        base_path: where the repository is on it.
        verify: checks whose commit it is, before anything of its tree is fetched.
    """

    def __init__(
        self, dest: Repository, client: HttpClient, base_path: str = "/repo", *, verify: Verify | None = None
    ) -> None:
        self._dest = dest
        self._client = client
        self._base = base_path.rstrip("/")
        self._verify = verify

    # --- what there is

    def check_remote(self) -> None:
        """Asks for the repository's config.

        Raises:
            NotFound: there is no repository.
            Unsupported: it is no archive, so that it cannot be pulled over HTTP.
        """
        config = Config(self._read("config", MAX_CONFIG_BYTES).decode(errors="replace"), where="the remote's config")
        mode = config.get("core", "mode", "bare")
        if mode not in ("archive", "archive-z2"):
            raise Unsupported(
                f"a repository of mode {mode} cannot be pulled over HTTP",
                where=f"{self._client.base_url}{self._base}",
                hint="serve one of mode archive",
            )

    def resolve(self, ref: str) -> Checksum:
        """Returns the commit of a ref there.

        Raises:
            NotFound: there is no such ref.
        """
        from wherry.core.digest import is_checksum, parse_checksum

        if is_checksum(ref):
            return Checksum(ref)
        name = refs.parse_ref(ref)
        try:
            data = self._read(f"refs/heads/{name}", MAX_REF_BYTES)
        except NotFound:
            found = self.remote_refs().get(name)
            if found is None:
                raise NotFound(
                    f"no such ref on the server: {ref}", where=f"{self._client.base_url}{self._base}"
                ) from None
            return found
        return parse_checksum(data.decode("ascii", errors="replace").strip(), where=f"ref {ref} on the server")

    def remote_refs(self) -> dict[Ref, Checksum]:
        """Returns the refs that the server's summary lists; none when it has no summary."""
        from wherry.store.summary import parse_summary

        try:
            data = self._read("summary", MAX_SUMMARY_BYTES)
        except NotFound:
            return {}
        return {entry.ref: entry.commit for entry in parse_summary(data, where="the server's summary").refs}

    def _read(self, name: str, limit: int) -> bytes:
        from wherry.store.fetch import retrying

        def get() -> bytes:
            with self._client.get(f"{self._base}/{name}") as response:
                return response.read_all(max_bytes=limit)

        return retrying(get)

    # --- pulling

    def plan(
        self, commits: Iterable[Checksum], *, depth: int = 0, parallel: int = 8, progress: Progress = QUIET
    ) -> Plan:
        """Fetches the commits and their directories, and finds out which files are missing.

        Args:
            commits: which.
            depth: how many parents of each too; -1 for all that the server has.
            parallel: requests at a time.
            progress: is told how many directories have come.

        Returns:
            What to hand to ``fetch``.

        Raises:
            NotFound: the server lacks something.
            IntegrityError: the server has something damaged.
            TrustError: `verify` says so.
        """
        wanted = tuple(dict.fromkeys(commits))
        planner = _Planner(self._dest, self._client, self._base, self._verify, depth)
        with self._dest.transaction() as transaction:
            planner.run(transaction, wanted, parallel, progress)
        names = sorted(object_name(ObjectType.FILE, checksum, Mode.ARCHIVE) for checksum in planner.missing)
        return Plan(
            commits=tuple(planner.commits),
            missing_files=tuple(names),
            metadata_fetched=planner.fetched,
            metadata_bytes=planner.bytes_received,
        )

    def fetch(self, plan: Plan, *, progress: Progress = QUIET, parallel: int = 8) -> PullStats:
        """Fetches the files of a plan, and marks its commits complete.

        Args:
            plan: from ``plan``.
            progress: is told how many objects have come, and how many bytes.
            parallel: requests at a time.

        Returns:
            What it took, the plan's own requests included.

        Raises:
            NotFound: the server lacks an object.
            IntegrityError: an object came damaged twice.
            NetworkError: no answer after several tries; what has come is kept.
            NoSpace: the disk is full, or would be.
        """
        names = [name for name in plan.missing_files if not self._dest.has(*objects.parse_object_name(name))]
        with self._dest.transaction() as transaction:
            worker = _FileFetch(self._client, self._base, transaction, progress, len(names))
            worker.run(names, parallel)
            transaction.checkpoint()
            self._complete(plan.commits)
        return PullStats(
            bytes_received=worker.fetcher.bytes_received + plan.metadata_bytes,
            objects=worker.done + plan.metadata_fetched,
            refetched=tuple(worker.fetcher.refetched),
        )

    def commit(self, plan: Plan, moved: Mapping[Ref, Checksum] | None = None) -> None:
        """Marks the commits of a plan complete, as ``fetch`` does too, and moves refs.

        Raises:
            IntegrityError: an object is missing.
        """
        self._complete(plan.commits)
        if moved:
            with self._dest.transaction() as transaction:
                for ref, checksum in moved.items():
                    transaction.set_ref(ref, checksum)

    def fetch_detached(self, commit: Checksum) -> dict[str, Any]:
        """Fetches the detached metadata of a commit anew, keeps and returns it; empty when there is none.

        Raises:
            InvalidInput: it is malformed; what was here stays.
        """
        with self._dest.transaction() as transaction:
            data = Fetcher(self._client, self._base, transaction, _never).detached(commit)
            if data is None:
                return {}
            found = objects.parse_dict(data, where=f"detached metadata of {commit}")
            transaction.write_metadata(ObjectType.COMMITMETA, data, commit)
        return found

    def _complete(self, commits: Iterable[Checksum]) -> None:
        for commit in commits:
            if not self._dest.is_partial(commit):
                continue
            lacking = next(gaps(self._dest, commit), None)
            if lacking is not None:
                raise IntegrityError("a pulled commit lacks an object", where=lacking, hint="pull it again")
            reach("store.pull.complete")
            self._dest.mark_complete(commit)


class _Planner:
    """Goes through the directories of commits, fetching those that are missing."""

    def __init__(self, dest: Repository, client: HttpClient, base: str, verify: Verify | None, depth: int) -> None:
        self._dest = dest
        self._client = client
        self._base = base
        self._verify = verify
        self._depth = depth
        self._lock = threading.Lock()
        self._seen: set[tuple[ObjectType, Checksum]] = set()
        self.missing: set[Checksum] = set()
        self.commits: dict[Checksum, None] = {}
        self.fetched = 0
        self.bytes_received = 0

    def run(self, transaction: Transaction, wanted: tuple[Checksum, ...], parallel: int, progress: Progress) -> None:
        self._transaction = transaction
        self._wanted = frozenset(wanted)
        workers = Workers(self._handle, parallel=parallel)
        self._fetcher = Fetcher(self._client, self._base, transaction, workers.check)
        try:
            workers.run(
                [_Job(kind=ObjectType.COMMIT, checksum=checksum, depth=self._depth) for checksum in wanted],
                tick=lambda: progress.update("fetching directories", self.fetched, None, unit="objects"),
            )
        except (NoSpace, TrustError):
            raise  # nothing of it stays
        except BaseException:
            transaction.checkpoint()
            raise
        finally:
            self.bytes_received = self._fetcher.bytes_received

    def _handle(self, job: _Job) -> Iterable[_Job]:
        self._dest.join(self._transaction)
        if job.kind is ObjectType.COMMIT:
            return self._commit(job)
        if job.kind is ObjectType.DIRMETA:
            self._metadata(job)
            return ()
        return self._dirtree(objects.parse_dirtree(self._metadata(job), where=job.checksum))

    def _commit(self, job: _Job) -> list[_Job]:
        here = self._dest.has(ObjectType.COMMIT, job.checksum)
        if here and not self._dest.is_partial(job.checksum):
            commit = self._dest.load_commit(job.checksum)
            self._check_trust(job.checksum)
            return self._parent(commit.parent, job.depth)
        if not here:
            self._dest.mark_partial(job.checksum)
            reach("store.pull.partial")
        try:
            data = self._metadata(job)
        except NotFound:
            if not here:
                self._dest.mark_complete(job.checksum)  # nothing of it is here
            if job.checksum in self._wanted:
                raise
            return []  # a parent that the server does not have
        try:
            self._check_trust(job.checksum)
        except TrustError:
            if not here:
                self._dest.mark_complete(job.checksum)
            raise
        commit = objects.parse_commit(data, where=job.checksum)
        with self._lock:
            self.commits[job.checksum] = None
        more = self._new((ObjectType.DIRTREE, commit.tree), (ObjectType.DIRMETA, commit.meta))
        return more + self._parent(commit.parent, job.depth)

    def _check_trust(self, checksum: Checksum) -> None:
        """Fetches the detached metadata, asks `verify`, and keeps it."""
        data = self._fetcher.detached(checksum)
        detached = {} if data is None else objects.parse_dict(data, where=f"detached metadata of {checksum}")
        if self._verify is not None:
            self._verify(checksum, self._dest.metadata_bytes(ObjectType.COMMIT, checksum), detached)
        if data is not None:
            self._transaction.write_metadata(ObjectType.COMMITMETA, data, checksum)

    def _parent(self, parent: Checksum | None, depth: int) -> list[_Job]:
        if parent is None or depth == 0:
            return []
        with self._lock:
            if (ObjectType.COMMIT, parent) in self._seen:
                return []
            self._seen.add((ObjectType.COMMIT, parent))
        return [_Job(kind=ObjectType.COMMIT, checksum=parent, depth=depth - 1)]

    def _dirtree(self, tree: objects.DirTree) -> list[_Job]:
        lacking = [checksum for _, checksum in tree.files if not self._dest.has(ObjectType.FILE, checksum)]
        with self._lock:
            self.missing.update(lacking)
        wanted = [(ObjectType.DIRTREE, subtree) for _, subtree, _ in tree.dirs]
        return self._new(*wanted, *((ObjectType.DIRMETA, meta) for _, _, meta in tree.dirs))

    def _new(self, *wanted: tuple[ObjectType, Checksum]) -> list[_Job]:
        with self._lock:
            new = [item for item in dict.fromkeys(wanted) if item not in self._seen]
            self._seen.update(new)
        return [_Job(kind=kind, checksum=checksum) for kind, checksum in new]

    def _metadata(self, job: _Job) -> bytes:
        if self._dest.has(job.kind, job.checksum):
            return self._dest.metadata_bytes(job.kind, job.checksum)
        data = self._fetcher.metadata(job.kind, job.checksum)
        with self._lock:
            self.fetched += 1
        return data


class _FileFetch:
    """Fetches file objects, and makes durable what has come every few seconds."""

    def __init__(self, client: HttpClient, base: str, transaction: Transaction, progress: Progress, total: int) -> None:
        self._workers = Workers(self._handle, parallel=1)
        self.fetcher = Fetcher(client, base, transaction, self._workers.check)
        self._transaction = transaction
        self._progress = progress
        self._total = total
        self._lock = threading.Lock()
        self._saved_s = time.monotonic()
        self._saved_bytes = 0
        self.done = 0

    def run(self, names: list[str], parallel: int) -> None:
        self._workers.parallel = parallel
        try:
            self._workers.run(names, tick=self._tick)
        except NoSpace:
            raise
        except BaseException:
            self._transaction.checkpoint()
            raise

    def _handle(self, name: str) -> Iterable[str]:
        self.fetcher.file(objects.parse_object_name(name)[1])
        with self._lock:
            self.done += 1
        reach("store.fetch.object")
        return ()

    def _tick(self) -> None:
        self._progress.update("fetching objects", self.done, self._total, unit="objects")
        self._progress.update("fetching", self.fetcher.bytes_received, None, unit="B")
        now = time.monotonic()
        if now - self._saved_s > _CHECKPOINT_S or self.fetcher.bytes_received - self._saved_bytes > _CHECKPOINT_BYTES:
            self._transaction.checkpoint()
            reach("store.fetch.checkpoint")
            self._saved_s = now
            self._saved_bytes = self.fetcher.bytes_received


def _never() -> None:
    """Gives up never."""
