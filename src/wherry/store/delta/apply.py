"""A device delta, applied: part by part, as it comes, in bounded memory, and never twice.

The bytes of a part are fetched, checked against the digest in the header, and only then unpacked. Each object is made
from old objects, hashed, and kept only when it is what its name says. After each part all that it made is published
durably; a power cut costs that one part's work, and not one byte that was fetched and synced.

What can go wrong without anybody's fault is told apart, for a caller that then fetches the objects one by one: see
``BAD_DELTA``.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import IntegrityError, InvalidInput, NoSpace, NotFound, ToolError, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.linux.memory import give_memory_back
from wherry.store.delta import encoders
from wherry.store.delta.format import DIFFERENCES, NEW_BYTES, ORDERS, Head
from wherry.store.delta.job import Job, Origin
from wherry.store.delta.orders import EndOrder, ObjectOrder, PatchOrder, read_orders
from wherry.store.delta.parts import PartStream, check_part
from wherry.store.delta.patch import run_steps, skip_steps
from wherry.store.delta.payload import restore
from wherry.store.delta.sources import Sources, Window, old_objects, require
from wherry.store.format import objects
from wherry.store.format.objects import ObjectType
from wherry.store.tree.walk import gaps

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository

SMALL_VIEW_BYTES = 1024 * 1024
"""Views up to this are held in memory."""
BAD_DELTA = (IntegrityError, InvalidInput, NotFound, Unsupported, ToolError)
"""What a delta that is damaged, or that does not fit this device, is refused by: fetch the objects instead."""

Verify = Callable[[Checksum, bytes, Mapping[str, Any]], None]
"""Called with a commit, its bytes and its detached metadata, before it is kept; raises TrustError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyStats:
    """What applying a delta took."""

    bytes_received: int
    objects: int
    """Made and kept."""
    present: int
    """Were here already."""


def check_fits(repo: Repository, head: Head) -> None:
    """Checks that a delta can be applied here, before it is fetched.

    Raises:
        NotFound: it starts from a commit that is not here.
        Unsupported: it needs a compressor that is not here, or another version of it.
        NoSpace: what it makes does not fit on the disk.
    """
    require(repo, head.header.from_commits)
    lacking = encoders.lacking(head.header.encoders)
    if lacking:
        names = ", ".join(sorted({encoder.name for encoder in lacking}))
        raise Unsupported(f"the delta needs another version of {names}", hint="fetch the objects instead")
    header = head.header
    missing = repo.space.missing(header.disk_bytes + header.scratch_bytes + head.total)
    if missing:
        raise NoSpace("what the delta makes does not fit", where=repo.path, hint=f"free {missing} bytes")


def apply_delta(
    repo: Repository, head: Head, origin: Origin, *, progress: Progress = QUIET, verify: Verify | None = None
) -> ApplyStats:
    """Applies a delta; goes on where an earlier call stopped.

    Args:
        repo: where to; of any mode.
        head: of the delta, from ``read_head``; whether its signatures count was for the caller to check.
        origin: where its bytes come from.
        progress: is told how many bytes have come.
        verify: checks whose commit it is, before it is kept.

    Raises:
        IntegrityError, InvalidInput, NotFound, Unsupported, ToolError: ``BAD_DELTA``; the job is thrown away,
            objects that were made stay.
        NetworkError: the link broke; what has come is kept.
        NoSpace: the disk is full, or would be.
    """
    give_memory_back()
    check_fits(repo, head)
    old = old_objects(repo, head.header.from_commits)
    if hashlib.sha256(old.data).digest() != head.header.sources:
        raise IntegrityError("the commits that the delta starts from have other objects here")
    job = Job(repo, head, origin)
    job.open()
    try:
        with repo.transaction() as transaction:
            work = _Work(repo, transaction, job, Sources(repo, old), verify)
            try:
                work.run(progress)
            except NoSpace:
                raise
            except BaseException:
                transaction.checkpoint()
                raise
            finally:
                work.close()
        _complete(repo, head.header.to_commits)
    except BAD_DELTA:
        job.remove()
        raise
    finally:
        job.close()
    job.remove()
    reach("store.device-delta.done")
    return ApplyStats(bytes_received=job.received, objects=work.kept, present=work.present)


def _complete(repo: Repository, commits: tuple[Checksum, ...]) -> None:
    for commit in commits:
        if not repo.is_partial(commit):
            continue
        lacking = next(gaps(repo, commit), None)
        if lacking is not None:
            raise IntegrityError("the delta leaves an object out", where=lacking)
        repo.mark_complete(commit)


class _View:
    """The view of an object while it is made: in memory, or in the job's file."""

    def __init__(self, order: ObjectOrder, job: Job) -> None:
        self.order = order
        self.size = order.done
        self._small = bytearray() if order.size <= SMALL_VIEW_BYTES and not order.done else None
        self._file: BinaryIO | None = None
        if self._small is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                self._file = os.fdopen(os.open(job.view_path, flags, 0o600), "r+b")
                self._file.truncate(order.done)
                self._file.seek(order.done)
            except OSError as error:
                raise map_os_error(error, "cannot write", where=job.view_path) from error

    def write(self, data: bytes) -> None:
        """Takes the next bytes."""
        self.size += len(data)
        if self._small is not None:
            self._small += data
        else:
            try:
                cast(BinaryIO, self._file).write(data)
            except OSError as error:
                raise map_os_error(error, "cannot write a file of the delta") from error

    def content(self) -> BinaryIO:
        """Returns all of it, to be read from its beginning."""
        if self._small is not None:
            return io.BytesIO(self._small)
        file = cast(BinaryIO, self._file)
        file.flush()
        file.seek(0)
        return file

    def data(self) -> bytes:
        """Returns all of it."""
        if self._small is not None:
            return bytes(self._small)
        return self.content().read()

    def sync(self) -> None:
        """Makes it durable."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Lets it go."""
        if self._file is not None:
            self._file.close()


class _Restored(io.RawIOBase):
    """A file object's content, made of its view as it is read."""

    def __init__(self, view: _View) -> None:
        super().__init__()
        order = view.order
        self._pieces = restore(order.recipe, view.content(), where=order.checksum)
        self._piece = b""

    def readable(self) -> bool:
        """Says yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes; none at the end."""
        while not self._piece:
            found = next(self._pieces, None)
            if found is None:
                return b""
            self._piece = found
        piece, self._piece = self._piece[:size], self._piece[size:]
        return piece


class _Work:
    """One run of a job."""

    def __init__(
        self, repo: Repository, transaction: Transaction, job: Job, sources: Sources, verify: Verify | None
    ) -> None:
        self._repo = repo
        self._transaction = transaction
        self._job = job
        self._sources = sources
        self._verify = verify
        self._view: _View | None = None
        self._skipped: ObjectOrder | None = None
        self._skipped_bytes = 0
        self._commits = frozenset(job.head.header.to_commits)
        self._detached: dict[Checksum, bytes] = {}
        self.kept = self.present = 0

    def run(self, progress: Progress) -> None:
        """Applies all parts that are not applied yet."""
        job = self._job
        parts = job.head.header.parts
        offset = job.head.size
        for index, part in enumerate(parts):
            job.fetch(offset + part.size, lambda: None)
            progress.update("fetching the delta", min(offset + part.size, job.head.total), job.head.total, unit="B")
            if index < job.part:
                self._recall(index, offset)
            else:
                self._check(offset, index)
                self._apply(index, offset)
                reach("store.device-delta.part")
                self._transaction.checkpoint()
                reach("store.device-delta.checkpoint")
                if self._view is not None:
                    self._view.sync()
                job.save(index + 1, 0 if self._view is None else self._view.size)
            offset += part.size
        if self._view is not None or self._skipped is not None:
            raise InvalidInput("malformed device delta: it ends within an object")
        if len(self._sources.made) != job.head.header.objects:
            raise InvalidInput("malformed device delta: it has not the number of objects that it names")

    def close(self) -> None:
        """Lets everything go."""
        self._sources.close()
        if self._view is not None:
            self._view.close()

    def _check(self, offset: int, index: int) -> None:
        """Checks a part's digest; what is damaged on the disk is fetched once more."""
        job = self._job
        part = job.head.header.parts[index]
        came = job.received
        try:
            check_part(job.stream, offset, part, where=f"part {index}")
        except IntegrityError:
            if came >= part.size:
                raise  # it has just come, and came damaged
            job.restart(offset)
            job.fetch(offset + part.size, lambda: None)
            check_part(job.stream, offset, part, where=f"part {index}")

    def _orders(self, index: int, offset: int) -> bytes:
        stream = self._job.head.header.parts[index].streams[ORDERS]
        reader = PartStream(self._job.stream, offset, stream, where=f"part {index}")
        data = reader.read(stream.unpacked)
        reader.end()
        return data

    def _recall(self, index: int, offset: int) -> None:
        """Goes through the orders of a part that is applied, for the objects that it made."""
        self._check(offset, index)
        last: ObjectOrder | None = None
        for order in read_orders(self._orders(index, offset), where=f"part {index}"):
            if isinstance(order, ObjectOrder):
                last = order
            elif isinstance(order, PatchOrder):
                for _ in order.steps:
                    pass
            elif last is not None:
                self._sources.add((last.kind, last.checksum))
                last = None

    def _apply(self, index: int, offset: int) -> None:
        where = f"part {index}"
        part = self._job.head.header.parts[index]
        streams = []
        at = offset
        for stream in part.streams:
            streams.append(PartStream(self._job.stream, at, stream, where=where))
            at += stream.size
        before = len(self._sources.made)
        continued = self._view is not None or self._skipped is not None or (index == self._job.part and index > 0)
        for order in read_orders(self._orders(index, offset), where=where):
            if isinstance(order, ObjectOrder):
                self._begin(order, continued=continued)
            elif isinstance(order, PatchOrder):
                self._patch(order, streams[DIFFERENCES], streams[NEW_BYTES])
            else:
                self._end(order)
            continued = False
        streams[DIFFERENCES].end()
        streams[NEW_BYTES].end()
        if len(self._sources.made) - before != part.objects:
            raise InvalidInput("malformed device delta: a part with another number of objects", where=where)

    def _begin(self, order: ObjectOrder, *, continued: bool) -> None:
        current = self._skipped or (self._view.order if self._view is not None else None)
        if order.done:
            known = current is not None and current.checksum == order.checksum and current.kind is order.kind
            if not continued or not (known or current is None):
                raise InvalidInput("malformed device delta: it goes on with what was not begun")
        elif current is not None:
            raise InvalidInput("malformed device delta: an object within another")
        if order.kind in (ObjectType.COMMIT, ObjectType.COMMITMETA) and order.checksum not in self._commits:
            raise InvalidInput("malformed device delta: a commit that it does not lead to", where=order.checksum)
        if self._skipped is not None or self._is_here(order):
            self._skipped, self._skipped_bytes = order, order.done
            return
        if self._view is None:
            if order.done and self._job.view_bytes != order.done:
                raise InvalidInput("malformed device delta: it goes on with what was not begun")
            self._view = _View(order, self._job)
        elif self._view.size != order.done:
            raise InvalidInput("malformed device delta: it goes on at another place")

    def _is_here(self, order: ObjectOrder) -> bool:
        return order.kind is not ObjectType.COMMITMETA and self._repo.has(order.kind, order.checksum)

    def _patch(self, order: PatchOrder, differences: PartStream, new: PartStream) -> None:
        if self._skipped is not None:
            self._skipped_bytes += skip_steps(order.steps, differences, new)
            return
        view = self._view
        if view is None:
            raise InvalidInput("malformed device delta: a patch of nothing")
        window = Window(self._sources, order.ranges)
        run_steps(order.steps, window, differences, new, view, view.order.size - view.size)

    def _end(self, order: EndOrder) -> None:
        if self._skipped is not None:
            done, self._skipped = self._skipped, None
            if self._skipped_bytes != done.size:
                raise InvalidInput("malformed device delta: an object of another length", where=done.checksum)
            self.present += 1
        elif self._view is not None:
            view, self._view = self._view, None
            done = view.order
            try:
                if view.size != done.size:
                    raise InvalidInput("malformed device delta: an object of another length", where=done.checksum)
                self._keep(view)
            finally:
                view.close()
            self.kept += 1
            reach("store.device-delta.object")
        else:
            raise InvalidInput("malformed device delta: an end of nothing")
        self._sources.add((done.kind, done.checksum))

    def _keep(self, view: _View) -> None:
        order = view.order
        if order.header is None:
            self._keep_metadata(order, view.data())
        elif order.header.is_symlink:
            self._transaction.write_file(order.header, None, order.checksum)
        elif order.recipe:
            self._transaction.write_file(order.header, cast(BinaryIO, _Restored(view)), order.checksum)
        elif order.size <= SMALL_VIEW_BYTES:
            self._transaction.write_file(order.header, view.data(), order.checksum)
        else:
            self._transaction.write_file(order.header, view.content(), order.checksum)

    def _keep_metadata(self, order: ObjectOrder, data: bytes) -> None:
        if order.kind is ObjectType.COMMITMETA:
            objects.parse_dict(data, where=f"detached metadata of {order.checksum}")
            self._detached[order.checksum] = data
        if order.kind is ObjectType.COMMIT:
            objects.check_object(order.kind, data, order.checksum)
            detached = self._detached.get(order.checksum)
            if self._verify is not None:
                found = {} if detached is None else objects.parse_dict(detached, where=order.checksum)
                self._verify(order.checksum, data, found)
            self._repo.mark_partial(order.checksum)
            reach("store.device-delta.partial")
        self._transaction.write_metadata(order.kind, data, order.checksum)
