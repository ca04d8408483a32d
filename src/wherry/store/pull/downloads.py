"""The loop behind a pull: many downloads at once, each checked as it comes, tried again where that may help.

One thread asks, receives, and handles what is small: that costs less than handing it over. What takes long (inflating
and hashing large objects, applying parts of deltas) goes to a few others, which give up the interpreter's lock while
they are at it. At most `parallel` requests are under way, and little waits in memory: large bodies go to a part on
disk (``parts.py``) at once.

A file that a mirror lacks is asked for at the next one. A link that breaks, or a server that is overloaded, is tried
again, with pauses that grow; any other answer of 4xx is final. What came damaged is thrown away and asked for once
more; then it is an error that names it.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError, NotFound, WherryError
from wherry.core.transfer import NoRange, TlsError, Transfer, Transfers
from wherry.core.units import format_size
from wherry.store.pull.background import Background
from wherry.store.pull.parts import Consumer, Part, Stream, has_part
from wherry.store.workers import Stopped

PARALLEL = 8
"""Requests under way at once, as with OSTree."""
RETRIES = 5
"""How often a file is asked for again when the link breaks, at each mirror."""
MAX_BACKLOG = 16
"""Bodies that wait in memory for another thread; each is of `MEMORY_BYTES` at most."""
MEMORY_BYTES = 256 * 1024
"""A body longer than this has a part on disk."""
INLINE_BYTES = 64 * 1024
"""A body longer than this is handled by another thread."""
MAX_OBJECT_BYTES = 1 << 40
MAX_RESUMES = 64
"""How often a transfer that breaks off is taken up again at once, when some more has come each time."""
_STEP_BYTES = 1024 * 1024
_BUSY_WAIT_S = 0.02
_IDLE_WAIT_S = 0.1
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_MISSING_STATUS = frozenset({403, 404, 410})
"""Object stores answer 403 for what is not there."""


@dataclass(slots=True, kw_only=True, eq=False)
class Download:
    """One file that is wanted of a repository."""

    path: str
    """Relative to the repository."""
    max_bytes: int
    done: Callable[[bytes | None], None]
    """Called in the loop's thread with the body; with None when it is not there and need not be, or has been used.

    It raises IntegrityError or InvalidInput when the body is bad.
    """
    content: bool = False
    """Whether it is content, which other servers may have."""
    optional: bool = False
    missing: Callable[[], None] | None = None
    """Called in place of `done` when it is optional and not there."""
    use: Callable[[bytes], None] | None = None
    """Takes the body of a file that may be large, when it is not; in any thread, before `done`."""
    consumer: Callable[[], Consumer] | None = None
    """Makes what takes the body when it is large."""
    part_name: str = ""
    """Under which its beginning is kept."""
    label: str = ""
    """What it is called when it is bad; else its path."""
    tries: int = 0
    resumed: int = 0
    """How often it was taken up again after some of it had come."""
    first_mirror: int = 0
    mirrors_tried: int = 0
    held: list[bytes] = field(default_factory=list)
    """The beginning of a small body whose transfer broke off."""
    damaged: bool = False
    stream: Stream | None = None
    transfer: Transfer | None = None
    coming: int = 0
    """Bytes of it that have gone to its part, while its transfer is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Where a repository is: each an address without a slash at its end."""

    metadata: tuple[str, ...]
    content: tuple[str, ...]

    def of(self, download: Download) -> tuple[str, ...]:
        """Returns where a file may be."""
        return self.content if download.content else self.metadata


@dataclass(slots=True, kw_only=True)
class Limits:
    """What a pull may take."""

    retries: int = RETRIES
    max_bytes: int = 0
    """Over the network; 0: no limit."""


class OverBudget(WherryError):
    """As many bytes have come as may."""


@dataclass(slots=True)
class _Queue:
    first: deque[Download] = field(default_factory=deque)
    rest: deque[Download] = field(default_factory=deque)
    delayed: list[tuple[float, int, Download]] = field(default_factory=list)


class Downloads:
    """Runs downloads to their end.

    Args:
        transfers: the network.
        mirrors: where the repository is.
        folder: where parts are kept.
        prepare: called once in each further thread.
        tick: called now and then.
        reserve: asked before a large body is kept; raises NoSpace.
        work: does a little of what needs no network; says whether there is more of it.
        supply: gives the next download when no other is wanted; so that they need not all be there at once.
        limits: what may be taken.
    """

    def __init__(
        self,
        transfers: Transfers,
        mirrors: Mirrors,
        folder: Path,
        *,
        prepare: Callable[[], None],
        tick: Callable[[], None],
        reserve: Callable[[int], None],
        work: Callable[[], bool] = lambda: False,
        supply: Callable[[], Download | None] = lambda: None,
        limits: Limits | None = None,
    ) -> None:
        self._transfers = transfers
        self._mirrors = mirrors
        self._folder = folder
        self._tick = tick
        self._reserve = reserve
        self._work = work
        self._supply = supply
        self._limits = limits or Limits()
        self._background = Background(prepare, threads=min(4, os.cpu_count() or 1))
        self._queue = _Queue()
        self._good = {True: 0, False: 0}
        """By whether it is content: the mirror that answered last."""
        self._serial = itertools.count()
        self._streams: set[Stream] = set()
        self._coming = 0
        """Bytes of large bodies that have come, of transfers that are still under way."""
        self.refetched: list[str] = []

    @property
    def bytes_received(self) -> int:
        """Of bodies, so far."""
        return self._transfers.bytes_received

    def want(self, download: Download, *, first: bool = False) -> None:
        """Adds a download; those that are to be `first` go before all others."""
        (self._queue.first if first else self._queue.rest).append(download)

    def run(self) -> None:
        """Works until nothing is wanted any more.

        Raises:
            NotFound: no mirror has a file.
            IntegrityError: a file came damaged twice.
            NetworkError: no answer after several tries; what has come is kept.
            OverBudget: more would come than may.
            WherryError: what a download's `done` raised.
        """
        queue = self._queue
        while True:
            more = self.backlog < MAX_BACKLOG and self._work()
            self._fill()
            active = self._transfers.active
            pending = self._background.pending
            if active:
                wait_s = 0.0 if more else _BUSY_WAIT_S if pending or queue.delayed else _IDLE_WAIT_S
                for transfer in self._transfers.wait(wait_s):
                    self._finished(transfer)
            elif pending or queue.delayed:
                time.sleep(_BUSY_WAIT_S / 4)
            elif not more and not queue.first and not queue.rest:
                return
            if pending:
                for key, error in self._background.results():
                    self._handled(key, error)
            self._tick()

    @property
    def backlog(self) -> int:
        """How many pieces of work wait for another thread, or are being done there."""
        return self._background.pending

    def submit(self, work: Callable[[], None]) -> None:
        """Has something done in another thread; its error ends the run."""
        self._background.submit(None, work)

    def close(self) -> None:
        """Ends everything; beginnings of large files stay on disk."""
        self._background.close()
        for stream in self._streams:
            stream.close(remove=False)
        self._streams.clear()

    # --- asking

    def _fill(self) -> None:
        queue = self._queue
        if queue.delayed and queue.delayed[0][0] <= time.monotonic():
            queue.first.append(heapq.heappop(queue.delayed)[2])
        room = self._transfers.room
        while room > 0 and self._background.pending < MAX_BACKLOG:
            if queue.first:
                download = queue.first.popleft()
            elif queue.rest:
                download = queue.rest.popleft()
            else:
                supplied = self._supply()
                if supplied is None:
                    return
                download = supplied
            self._start(download)
            room -= 1

    def _start(self, download: Download) -> None:
        self._check_budget()
        stream = download.stream
        if stream is None and download.consumer is not None and has_part(self._folder, download.part_name):
            stream = self._open_stream(download)
            if stream.part.size:
                stream.replaying = True
                self._advance(download, stream)
                return
        mirrors = self._mirrors.of(download)
        if not download.mirrors_tried:
            download.first_mirror = self._good[download.content]
        base = mirrors[(download.first_mirror + download.mirrors_tried) % len(mirrors)]
        offset = stream.part.size if stream is not None else sum(map(len, download.held))
        limit = max(1, download.max_bytes - offset)
        transfer = Transfer(f"{base}/{download.path}", max_bytes=limit, offset=offset, key=download)
        transfer.pieces, download.held = download.held, []
        if download.consumer is not None:
            transfer.take = _Taker(self, download, transfer)
            download.transfer = transfer
        self._transfers.start(transfer)

    def _check_budget(self) -> None:
        limit = self._limits.max_bytes
        if limit and self._transfers.bytes_received + self._coming >= limit:
            raise OverBudget(
                f"the {format_size(limit)} that may be fetched have come",
                hint="what has come is kept; the same command goes on from there",
            )

    def _open_stream(self, download: Download) -> Stream:
        assert download.consumer is not None  # noqa: S101 only large files have streams
        part = Part(self._folder, download.part_name)
        try:
            stream = download.stream = Stream(part, download.consumer())
        except BaseException:
            part.close()
            raise
        self._streams.add(stream)
        return stream

    def _drop_stream(self, download: Download, *, remove: bool) -> None:
        stream, download.stream = download.stream, None
        if stream is not None:
            self._streams.discard(stream)
            stream.close(remove=remove)

    # --- answers

    def spill(self, download: Download, transfer: Transfer, data: bytes) -> None:
        """Takes a piece of a body that is too long for memory."""
        stream = download.stream
        if stream is None:
            stream = self._open_stream(download)
            if stream.part.size:  # from before, and not asked to go on
                stream.part.restart()
            for piece in transfer.pieces:
                self._reserve(len(piece))
                stream.part.append(piece)
            transfer.pieces.clear()
        self._reserve(len(data))
        stream.part.append(data)
        self._coming += len(data)
        download.coming += len(data)
        self._check_budget()
        if not stream.busy and stream.behind >= _STEP_BYTES:
            self._advance(download, stream)

    def _advance(self, download: Download, stream: Stream) -> None:
        stream.busy = True
        self._background.submit(download, stream.advance)

    def _finished(self, transfer: Transfer) -> None:
        download: Download = transfer.key
        download.transfer = None
        self._coming -= download.coming  # the transfers count them now
        download.coming = 0
        if transfer.error is not None:
            self._failed(download, transfer, transfer.error)
            return
        if download.mirrors_tried:
            mirrors = len(self._mirrors.of(download))
            self._good[download.content] = (download.first_mirror + download.mirrors_tried) % mirrors
            download.mirrors_tried = 0
        stream = download.stream
        if stream is not None:
            stream.ended = True
            if not stream.busy:
                self._advance(download, stream)
            return
        data = transfer.body
        use = download.use
        try:
            if use is None:
                download.done(data)
            elif len(data) > INLINE_BYTES:
                self._background.submit(download, lambda: use(data))
            else:
                use(data)
                download.done(None)
        except (IntegrityError, InvalidInput) as error:
            self._bad(download, error)

    def _handled(self, download: Download | None, error: BaseException | None) -> None:
        """Another thread has finished a piece of work."""
        if download is None:
            if error is not None and not isinstance(error, Stopped):
                raise error
            return
        stream = download.stream
        if stream is not None:
            stream.busy = False
        if isinstance(error, IntegrityError | InvalidInput):
            if download.transfer is not None:  # the rest of it is still coming
                self._transfers.abort(download.transfer)
                download.transfer = None
                self._coming -= download.coming
                download.coming = 0
            self._drop_stream(download, remove=True)
            self._bad(download, error)
        elif error is not None:
            if not isinstance(error, Stopped):
                raise error
        elif stream is None:
            download.done(None)
        else:
            if stream.finished:
                self._drop_stream(download, remove=True)
                download.done(None)
            elif stream.ended or stream.behind >= _STEP_BYTES:
                self._advance(download, stream)
            elif stream.replaying:
                stream.replaying = False
                self._start(download)

    def _failed(self, download: Download, transfer: Transfer, error: WherryError) -> None:
        stream = download.stream
        if isinstance(error, NoRange) or (isinstance(error, HttpError) and error.status == 416 and stream is not None):
            self._restart(download)
            return
        missing, passing = is_missing(error), is_passing(error)
        if passing and self._limits.retries and not isinstance(error, HttpError):
            size = stream.part.size if stream is not None else sum(map(len, transfer.pieces))
            if stream is None and download.resumed <= MAX_RESUMES:
                download.held = transfer.pieces
            if size > transfer.offset and download.resumed < MAX_RESUMES:
                download.resumed += 1
                self._queue.first.append(download)  # at once: some of it has come
                return
        if passing and download.tries < self._limits.retries:
            download.tries += 1
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (download.tries - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 jitter
            heapq.heappush(self._queue.delayed, (time.monotonic() + pause, next(self._serial), download))
            return
        if (missing or passing) and download.mirrors_tried + 1 < len(self._mirrors.of(download)):
            download.mirrors_tried += 1
            download.tries = 0
            self._queue.first.append(download)
            return
        if missing and download.optional:
            download.mirrors_tried = 0
            if download.missing is not None:
                download.missing()
            else:
                download.done(None)
            return
        if missing and not isinstance(error, NotFound):
            raise NotFound(error.what, where=error.where, hint="run fsck on the repository there") from error
        raise error

    def _restart(self, download: Download) -> None:
        """Begins a large file anew: the server cannot go on in the middle, or what is here is too long."""
        stream = download.stream
        download.held = []
        download.resumed = MAX_RESUMES + 1
        if stream is not None and stream.busy:
            heapq.heappush(self._queue.delayed, (time.monotonic() + _BUSY_WAIT_S, next(self._serial), download))
            return
        self._drop_stream(download, remove=True)
        self._queue.first.append(download)

    def _bad(self, download: Download, error: IntegrityError | InvalidInput) -> None:
        """Notes a damaged file; raises when it was damaged twice."""
        label = download.label or download.path
        if download.damaged:
            kind = type(error)
            raise kind(
                f"{label}: {error.what}",
                where=f"{self._mirrors.of(download)[self._good[download.content]]}/{download.path}",
                hint=error.hint or "it came twice so and was thrown away; run fsck on the repository there",
            ) from error
        download.damaged = True
        self.refetched.append(label)
        self._queue.first.append(download)


class _Taker:
    """Keeps a body in memory while it is small."""

    __slots__ = ("_download", "_loop", "_size", "_transfer")

    def __init__(self, loop: Downloads, download: Download, transfer: Transfer) -> None:
        self._loop = loop
        self._download = download
        self._transfer = transfer
        self._size = sum(map(len, transfer.pieces))

    def __call__(self, data: bytes) -> None:
        self._size += len(data)
        if self._download.stream is not None or self._size > MEMORY_BYTES:
            self._loop.spill(self._download, self._transfer, data)
        else:
            self._transfer.pieces.append(data)


def is_missing(error: WherryError) -> bool:
    """Tells whether a server says that it does not have a file."""
    return isinstance(error, NotFound) or (isinstance(error, HttpError) and error.status in _MISSING_STATUS)


def is_passing(error: WherryError) -> bool:
    """Tells whether the same request may succeed a little later."""
    if isinstance(error, HttpError):
        return error.status in _PASSING_STATUS
    return isinstance(error, NetworkError) and not isinstance(error, TlsError)
