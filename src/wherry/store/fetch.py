"""Fetching single objects of an archive repository over HTTP, each checked as it streams in.

::

    tmp/wherry-parts/<64 hex>.filez    the beginning of a large object whose transfer broke off; locked while in use

A broken transfer is taken up again where it stopped. An object that is not what its name says is thrown away, with
its part, and fetched once more from its beginning; then it is an ``IntegrityError`` that names it. Parts are not
synced: a part that a power cut has damaged is found out by its hash and thrown away too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError, NotFound
from wherry.core.http import HttpClient, Response, backoff
from wherry.core.trace import reach
from wherry.store import ofd
from wherry.store.objects import MAX_METADATA_BYTES, Mode, ObjectType, object_name
from wherry.store.receive import Receiver
from wherry.store.transaction import Transaction

PARTS = "tmp/wherry-parts"
PART_BYTES = 256 * 1024
"""An object at least this long has a part on disk while it is fetched."""
MAX_TRIES = 5
"""How often one object is asked for when the link breaks or the server is overloaded."""
MAX_DETACHED_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
T = TypeVar("T")
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Fetcher:
    """Fetches objects for one transaction; used by several threads at once.

    Args:
        client: the server.
        base_path: where the repository is on it.
        transaction: where objects are written.
        check: called between pieces; raises to give up.
    """

    def __init__(self, client: HttpClient, base_path: str, transaction: Transaction, check: Callable[[], None]) -> None:
        self._client = client
        self._base = f"{base_path.rstrip('/')}/objects"
        self._transaction = transaction
        self._check = check
        self._parts = transaction.repo.path / PARTS
        self._parts.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.bytes_received = 0
        self.refetched: list[str] = []

    def metadata(self, kind: ObjectType, checksum: Checksum) -> bytes:
        """Fetches a commit, dirtree or dirmeta, and writes it.

        Returns:
            Its bytes.

        Raises:
            NotFound: the server has it not.
            IntegrityError: what the server has is damaged.
            NetworkError: no answer after several tries.
        """
        for last in (False, True):
            data = self._get(kind, checksum, MAX_METADATA_BYTES)
            try:
                self._transaction.write_metadata(kind, data, checksum)
            except (IntegrityError, InvalidInput) as error:
                self._damaged(object_name(kind, checksum, Mode.ARCHIVE), error, last=last)
                continue
            return data
        raise AssertionError("unreachable")

    def detached(self, checksum: Checksum) -> bytes | None:
        """Fetches the detached metadata of a commit; None when the server has none. It is not written."""
        try:
            return self._get(ObjectType.COMMITMETA, checksum, MAX_DETACHED_BYTES)
        except NotFound:
            return None

    def file(self, checksum: Checksum) -> None:
        """Fetches a file object and writes it.

        Raises:
            NotFound: the server has it not.
            IntegrityError: what the server has is damaged.
            NetworkError: no answer after several tries.
            NoSpace: the disk is full, or would be.
        """
        name = object_name(ObjectType.FILE, checksum, Mode.ARCHIVE)
        for last in (False, True):
            try:
                retrying(lambda: self._file(name, checksum), self._check)
                return
            except (IntegrityError, InvalidInput) as error:
                (self._parts / f"{checksum}.filez").unlink(missing_ok=True)
                self._damaged(name, error, last=last)

    def _get(self, kind: ObjectType, checksum: Checksum, limit: int) -> bytes:
        name = object_name(kind, checksum, Mode.ARCHIVE)

        def get() -> bytes:
            with self._client.get(f"{self._base}/{name}") as response:
                data = response.read_all(max_bytes=limit)
            self._count(len(data))
            return data

        return retrying(get, self._check)

    def _file(self, name: str, checksum: Checksum) -> None:
        """Fetches once, going on from a part if there is one."""
        part = _Part(self._parts / f"{checksum}.filez")
        receiver = self._transaction.receive(checksum, where=f"{self._client.base_url}{self._base}/{name}")
        try:
            offset = part.replay(receiver)
            if offset < 0:  # the part was damaged
                receiver.close()
                receiver = self._transaction.receive(checksum, where=name)
                offset = 0
            if not receiver.complete or not offset:
                self._stream(name, receiver, part, offset)
            self._check()
            receiver.finish()
            part.remove()
        finally:
            receiver.close()
            part.close()

    def _stream(self, name: str, receiver: Receiver, part: _Part, offset: int) -> None:
        path = f"{self._base}/{name}"
        opened = self._client.get(path, offset=offset)
        try:
            response = opened.__enter__()
        except (IntegrityError, HttpError) as error:
            if not offset or (isinstance(error, HttpError) and error.status != 416):
                raise
            # No ranges here, or the part is longer than the object: NetworkError has it tried again from the start.
            part.remove()
            raise NetworkError("the transfer cannot be taken up again", where=path) from error
        try:
            self._receive(response, receiver, part, offset)
        finally:
            opened.__exit__(None, None, None)

    def _receive(self, response: Response, receiver: Receiver, part: _Part, offset: int) -> None:
        length = response.headers.get("Content-Length", "")
        keep = offset > 0 or (length.isdigit() and int(length) >= PART_BYTES)
        if keep and length.isdigit():
            self._transaction.reserve(int(length))
        for piece in response.chunks():
            self._check()
            self._count(len(piece))
            if keep:
                part.append(piece)
                reach("store.fetch.part")
            receiver.write(piece)

    def _damaged(self, name: str, error: IntegrityError | InvalidInput, *, last: bool) -> None:
        """Notes a damaged object; raises when it was damaged twice."""
        if last:
            raise IntegrityError(
                f"a damaged object came twice and was thrown away: {error.what}",
                where=f"{self._client.base_url}{self._base}/{name}",
                hint="run fsck on the repository there",
            ) from error
        with self._lock:
            self.refetched.append(name)

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_received += size


def retrying(once: Callable[[], T], check: Callable[[], None] | None = None) -> T:
    """Calls `once` until it succeeds, while the link breaks or the server is overloaded, with pauses that grow.

    Raises:
        NotFound: the server answered 404.
        NetworkError: it has failed too often, or the server said no.
    """
    for attempt in range(1, MAX_TRIES + 1):
        if check is not None:
            check()
        try:
            return once()
        except HttpError as error:
            if error.status == 404:
                raise NotFound(
                    "the server does not have it", where=error.where, hint="check the address; run fsck there"
                ) from error
            if error.status not in _PASSING_STATUS or attempt == MAX_TRIES:
                raise
        except NetworkError:
            if attempt == MAX_TRIES:
                raise
        backoff(attempt)
    raise AssertionError("unreachable")


class _Part:
    """The file that keeps what has come of a large object; without effect while another process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._mine = True

    def replay(self, receiver: Receiver) -> int:
        """Hands what is there to `receiver`.

        Returns:
            How many bytes that was; -1 when they were damaged and have been removed.
        """
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0
        if not ofd.try_lock(self._fd):
            self._mine = False
            return 0
        size = 0
        try:
            while piece := os.pread(self._fd, _CHUNK_BYTES, size):
                receiver.write(piece)
                size += len(piece)
        except (IntegrityError, InvalidInput):
            self.remove()
            return -1
        return size

    def append(self, data: bytes) -> None:
        """Keeps a piece."""
        if not self._mine:
            return
        try:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
                if not ofd.try_lock(self._fd):
                    self._mine = False
                    return
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise map_os_error(error, "cannot keep a part of an object", where=self._path) from error

    def remove(self) -> None:
        """Throws it away."""
        if self._mine and self._fd >= 0:
            self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Lets it go; it stays for the next try."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
