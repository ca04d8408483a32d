"""Fetching objects in packs from a server that makes them: a hub.

A batch of names is sent, a pack comes back (``pack.py``), and each object in it is hashed as it arrives. What came
stays, however a pack ends; of the rest the server is asked again. It leaves out what is too large for packs or what it
lacks, and may end a pack early; so names before the last object that came are left to the caller, who fetches
them one by one, and names behind it are asked for again. A server that makes no packs, or a bad one, or whose packs
break before an object has come, is no error: what is missing is left to the caller then.

Memory: a batch of names, and an object up to ``pack.WHOLE_BYTES`` or a piece of a larger one, for each request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core import jsonio
from wherry.core.digest import Checksum
from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError, NoSpace
from wherry.core.http import HttpClient, backoff, status_error
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.linux.memory import give_memory_back
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.pull.pack import PackReader
from wherry.store.pull.session import CHECKPOINT_BYTES, CHECKPOINT_S
from wherry.store.tree.walk import check_depth
from wherry.store.workers import Workers

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

BATCH_NAMES = 2000
"""Names in one request."""
PARALLEL = 2
"""Requests at a time: while one is answered, the other's objects are written."""
MAX_TRIES = 3
"""In a row, without an object between them; then what is left of a batch is left to the caller."""
READ_TIMEOUT_S = 15.0
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Batch = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came in packs."""

    left: tuple[str, ...]
    """Names that are to be fetched one by one."""
    objects: int
    bytes_received: int
    problem: str = ""
    """Why packs were given up; empty when they were not."""


class PackPull:
    """Fetches objects in packs.

    Args:
        repo: where to; of any mode.
        client: the server; its token counts.
        path: where it takes names of objects, as ``{"objects": [...]}``, and answers with a pack.
        parallel: requests at a time.
        batch: names in one request.
    """

    def __init__(
        self, repo: Repository, client: HttpClient, path: str, *, parallel: int = PARALLEL, batch: int = BATCH_NAMES
    ) -> None:
        self._repo, self._client, self._path = repo, client, path
        self._parallel, self._batch = parallel, batch
        self.problem = ""
        """Why packs were given up, for good."""
        self.bytes_received = 0
        self.objects = 0

    def fetch(self, names: Iterable[str], *, progress: Progress = QUIET) -> Outcome:
        """Fetches objects.

        Args:
            names: of objects as an archive has them, ``xx/yyyy.filez``.
            progress: is told how many objects have come, and bytes; what it raises ends this, and what came stays.

        Raises:
            HttpError: the login is not good any more (401); what has come is kept.
            NoSpace: the disk is full, or would be.
        """
        wanted = list(dict.fromkeys(names))
        if self.problem or not wanted:
            return Outcome(left=tuple(wanted), objects=0, bytes_received=0, problem=self.problem)
        give_memory_back()
        objects, received = self.objects, self.bytes_received
        with self._repo.transaction() as transaction:
            run = _Run(self, self._repo, transaction, len(wanted), progress)
            workers: Workers[Batch] = Workers(lambda batch: run.ask(batch, workers.check), parallel=self._parallel)
            try:
                workers.run(_batches(wanted, self._batch), tick=run.tick)
            except NoSpace:
                raise
            except BaseException:
                transaction.checkpoint()
                raise
        if not self.problem:
            self.problem = run.problem
        return Outcome(
            left=tuple(run.left),
            objects=self.objects - objects,
            bytes_received=self.bytes_received - received,
            problem=self.problem,
        )

    def fetch_trees(self, commits: Iterable[Checksum], *, progress: Progress = QUIET) -> None:
        """Fetches commits and their directories, a level of all the trees at a time; what does not come, is not there.

        Nobody's signature is asked for: these are commits that a signed document names.

        Raises:
            HttpError: as ``fetch``.
            NoSpace: as ``fetch``.
            IntegrityError: a tree is deeper than may be.
        """
        wanted = list(dict.fromkeys(commits))
        with self._repo.transaction():
            self._fetch_missing([(ObjectType.COMMIT, commit) for commit in wanted], progress)
            level: dict[Checksum, None] = {}
            metas: dict[Checksum, None] = {}
            for commit in wanted:
                if self._repo.has(ObjectType.COMMIT, commit) and self._repo.is_partial(commit):
                    value = self._repo.load_commit(commit)
                    level[value.tree] = metas[value.meta] = None
            seen = set(level)
            depth = 0
            while level and not self.problem:
                check_depth(depth, "a component")
                items = [(ObjectType.DIRTREE, tree) for tree in level] + [(ObjectType.DIRMETA, meta) for meta in metas]
                self._fetch_missing(items, progress)
                below: dict[Checksum, None] = {}
                metas = {}
                for tree in level:
                    if not self._repo.has(ObjectType.DIRTREE, tree):
                        continue  # a pull says what is wrong with it
                    for _, child, meta in self._repo.load_dirtree(tree).dirs:
                        metas[meta] = None
                        if child not in seen:
                            seen.add(child)
                            below[child] = None
                level = below
                depth += 1

    def _fetch_missing(self, items: Sequence[tuple[ObjectType, Checksum]], progress: Progress) -> None:
        self.fetch(
            (object_name(kind, name, Mode.ARCHIVE) for kind, name in items if not self._repo.has(kind, name)),
            progress=progress,
        )


class _Run:
    """One call of ``fetch``; ``ask`` runs in several threads."""

    def __init__(
        self, pull: PackPull, repo: Repository, transaction: Transaction, total: int, progress: Progress
    ) -> None:
        self._pull, self._repo, self._transaction = pull, repo, transaction
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._begun = pull.objects
        self._saved_s = time.monotonic()
        self._saved_bytes = pull.bytes_received
        self.left: list[str] = []
        self.problem = ""

    def tick(self) -> None:
        """Tells how far it is, and publishes what has come, now and then."""
        pull = self._pull
        self._progress.update("fetching objects", pull.objects - self._begun, self._total, unit="objects")
        self._progress.update("fetching", pull.bytes_received, None, unit="B")
        now = time.monotonic()
        if now - self._saved_s > CHECKPOINT_S or pull.bytes_received - self._saved_bytes > CHECKPOINT_BYTES:
            self._transaction.checkpoint()
            reach("store.packs.checkpoint")
            self._saved_s, self._saved_bytes = time.monotonic(), pull.bytes_received

    def ask(self, batch: Batch, check: Callable[[], None]) -> tuple[Batch, ...]:
        """Fetches a batch, by as many requests as it takes; there are no further jobs."""
        failures = 0
        while batch and not self.problem:
            came: set[str] = set()
            broke = False
            try:
                self._ask_once(batch, came, check)
            except (IntegrityError, InvalidInput) as bad:
                self._give_up(str(bad))
            except HttpError as refused:
                if refused.status == 401:
                    raise
                if refused.status in _PASSING_STATUS:
                    broke = True
                else:
                    self._give_up(f"the server makes no packs: {refused.what}")
            except NetworkError:
                broke = True
            else:
                last = max((index for index, name in enumerate(batch) if name in came), default=len(batch) - 1)
                self._leave([name for name in batch[: last + 1] if name not in came])
                batch, failures = batch[last + 1 :], 0
                continue
            batch = tuple(name for name in batch if name not in came)
            if broke:
                failures = 1 if came else failures + 1
                if failures >= MAX_TRIES:
                    break  # one by one, objects are taken up again in their middle, and what is wrong is told
                reach("store.packs.again")
                backoff(failures)
        self._leave(batch)
        return ()

    def _ask_once(self, batch: Batch, came: set[str], check: Callable[[], None]) -> None:
        pull = self._pull
        self._repo.join(self._transaction)
        body = jsonio.canonical({"objects": list(batch)})
        headers = {"Content-Type": "application/json"}
        wanted = frozenset(batch)
        reader = PackReader(self._repo, self._transaction, wanted=wanted, came=lambda name: self._came(came, name))
        try:
            with pull._client.open(
                "POST", pull._path, body=body, headers=headers, read_timeout_s=READ_TIMEOUT_S
            ) as response:
                if response.status != 200:
                    raise status_error(response)
                for piece in response.chunks():
                    check()
                    with self._lock:
                        pull.bytes_received += len(piece)
                    reader.feed(piece)
                reader.finish()
        finally:
            reader.close()

    def _came(self, came: set[str], name: str) -> None:
        came.add(name)
        with self._lock:
            self._pull.objects += 1
        reach("store.packs.object")

    def _leave(self, names: Sequence[str]) -> None:
        with self._lock:
            self.left.extend(names)

    def _give_up(self, why: str) -> None:
        with self._lock:
            self.problem = self.problem or why


def _batches(names: Sequence[str], size: int) -> Iterator[Batch]:
    for start in range(0, len(names), size):
        yield tuple(names[start : start + size])
