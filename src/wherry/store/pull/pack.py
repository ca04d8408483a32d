"""Packs: many objects in one request body, checked one by one as the bytes come.

::

    u16 BE length of name | name "xx/yyyy.filez" | u64 BE size | bytes ...   again and again; ends with the body

A pack goes from a project to its hub, and from a hub to a device; ``packing.py`` makes those that are sent.
``PackReader`` is fed pieces of any size, keeps no more than one metadata object or small file in memory, and hands
each object to a transaction of the repository, which keeps it only when it is what its name says. A hostile body can
cost time and the limits below, never put a wrong object into the repository. Refused: names of anything but commit,
dirtree, dirmeta, file and detached metadata; sizes over the limits; a body that ends inside an object.

A commit is marked partial, durably, before it is stored: its tree may come later, or never.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.disk.receive import receive_whole
from wherry.store.disk.transaction import Transaction
from wherry.store.format.objects import Mode, ObjectType, object_name, parse_object_name
from wherry.store.repository import Repository

MAX_NAME_BYTES = 80
MAX_METADATA_BYTES = 16 * 1024 * 1024
MAX_COMMITMETA_BYTES = 1024 * 1024
MAX_CONTENT_BYTES = 16 * 1024**3
"""Of one file, inflated."""
MAX_STORED_BYTES = MAX_CONTENT_BYTES + 64 * 1024**2
"""Of one file, as it is sent: deflate makes data that cannot be compressed slightly longer."""
MAX_OBJECTS = 100_000
WHOLE_BYTES = 256 * 1024
"""A file object up to this, as it is sent, is held in memory and handled in one piece."""
_KINDS = frozenset({ObjectType.COMMIT, ObjectType.DIRTREE, ObjectType.DIRMETA, ObjectType.FILE, ObjectType.COMMITMETA})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackCounts:
    """What came in a pack."""

    stored: int
    present: int
    bytes: int


class PackReader:
    """Takes the bytes of a pack as they come; used within the transaction, in its thread.

    Args:
        repo: of any mode.
        transaction: of `repo`, begun.
        wanted: the names of objects that were asked for, when others are to be refused.
        came: called with the name of each object that is stored now, or was here.
    """

    def __init__(
        self,
        repo: Repository,
        transaction: Transaction,
        *,
        wanted: Collection[str] | None = None,
        came: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._repo, self._transaction = repo, transaction
        self._wanted, self._came = wanted, came
        self._head = bytearray()
        self._name = ""
        self._object: _Skipped | _Metadata | _SmallFile | _File | None = None
        self._left = 0
        self._stored = self._present = self._bytes = 0

    def feed(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            InvalidInput: the framing or an object is malformed, or over a limit.
            IntegrityError: an object is not what its name says.
            NoSpace: the disk is full, or would be.
        """
        self._bytes += len(data)
        view = memoryview(data)
        while view:
            if self._object is None:
                view = self._feed_head(view)
                continue
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            self._object.feed(bytes(piece))
            if self._left == 0:
                self._object.finish()
                if isinstance(self._object, _Skipped):
                    self._present += 1
                else:
                    self._stored += 1
                self._object = None
                self._came(self._name)

    def finish(self) -> PackCounts:
        """Returns the counts at the end of the body.

        Raises:
            InvalidInput: it ended inside an object.
        """
        if self._object is not None or self._head:
            raise InvalidInput("the pack ends inside an object", hint="send it again")
        return PackCounts(stored=self._stored, present=self._present, bytes=self._bytes)

    def close(self) -> None:
        """Drops the object that has not come to its end, if there is one."""
        if self._object is not None:
            self._object.close()
            self._object = None

    def _feed_head(self, view: memoryview) -> memoryview:
        """Takes bytes of the next object's head, and begins the object once the head is whole."""
        while view:
            wanted = self._head_length() - len(self._head)
            self._head += view[:wanted]
            view = view[wanted:]
            if len(self._head) > 2 and len(self._head) == self._head_length():
                length = len(self._head) - 10
                name, size = bytes(self._head[2 : 2 + length]), struct.unpack_from(">Q", self._head, 2 + length)[0]
                self._head.clear()
                self._begin(name, size)
                break
        return view

    def _head_length(self) -> int:
        if len(self._head) < 2:
            return 2
        length = int.from_bytes(self._head[:2], "big")
        if not 0 < length <= MAX_NAME_BYTES:
            raise InvalidInput(f"malformed pack: a name of {length} bytes")
        return 2 + length + 8

    def _begin(self, raw_name: bytes, size: int) -> None:
        kind, checksum, name = _parse_name(raw_name)
        if self._wanted is not None and name not in self._wanted:
            raise InvalidInput("an object that was not asked for", where=name)
        if self._stored + self._present >= MAX_OBJECTS:
            raise InvalidInput(f"more than {MAX_OBJECTS} objects in one pack", hint="send several")
        limit = MAX_STORED_BYTES if kind is ObjectType.FILE else MAX_METADATA_BYTES
        limit = MAX_COMMITMETA_BYTES if kind is ObjectType.COMMITMETA else limit
        if not 0 < size <= limit:
            raise InvalidInput(f"an object of {size} bytes; the limit is {limit}", where=name)
        self._left, self._name = size, name
        if kind is not ObjectType.COMMITMETA and self._repo.has(kind, checksum):
            self._object = _Skipped()
        elif kind is ObjectType.FILE and size <= WHOLE_BYTES:
            self._object = _SmallFile(self._transaction, checksum, name)
        elif kind is ObjectType.FILE:
            self._object = _File(self._transaction, checksum, name)
        else:
            self._object = _Metadata(self._repo, self._transaction, kind, checksum)


def object_head(name: str, size: int) -> bytes:
    """Returns what stands before the bytes of an object."""
    return struct.pack(">H", len(name)) + name.encode("ascii") + struct.pack(">Q", size)


def _parse_name(raw_name: bytes) -> tuple[ObjectType, Checksum, str]:
    try:
        name = raw_name.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput(f"not the name of an object: {raw_name!r}") from None
    kind, checksum = parse_object_name(name)
    if kind not in _KINDS or object_name(kind, checksum, Mode.ARCHIVE) != name:
        raise InvalidInput("an object of this kind is not taken", where=name)
    return kind, checksum, name


class _Skipped:
    """An object that is there already."""

    def feed(self, data: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Metadata:
    """A commit, dirtree, dirmeta or detached metadata; small enough for memory."""

    def __init__(self, repo: Repository, transaction: Transaction, kind: ObjectType, checksum: Checksum) -> None:
        self._repo, self._transaction, self._kind, self._checksum = repo, transaction, kind, checksum
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> None:
        if self._kind is ObjectType.COMMIT:
            self._repo.mark_partial(self._checksum)
        self._transaction.write_metadata(self._kind, bytes(self._data), self._checksum)

    def close(self) -> None:
        pass


class _SmallFile:
    """A file object that is held in memory until it has come."""

    def __init__(self, transaction: Transaction, checksum: Checksum, name: str) -> None:
        self._transaction, self._checksum, self._name = transaction, checksum, name
        self._data: bytes | bytearray = b""

    def feed(self, data: bytes) -> None:
        if not self._data:
            self._data = data  # nearly always all of it
        else:
            self._data = bytearray(self._data) if isinstance(self._data, bytes) else self._data
            self._data += data

    def finish(self) -> None:
        _check_size(self._data, self._name)
        receive_whole(self._transaction, bytes(self._data), self._checksum, where=self._name)

    def close(self) -> None:
        pass


class _File:
    """A file object, inflated and hashed as it comes, written away as it is."""

    def __init__(self, transaction: Transaction, checksum: Checksum, name: str) -> None:
        self._receiver = transaction.receive(checksum, where=name)
        self._name = name
        self._begin: bytes | None = b""
        """The first 16 bytes: header length, four NUL, and the header's first field, the size of the content."""

    def feed(self, data: bytes) -> None:
        if self._begin is not None:
            self._begin += data[:16]
            if len(self._begin) >= 16:
                _check_size(self._begin, self._name)
                self._begin = None
        self._receiver.write(data)

    def finish(self) -> None:
        try:
            self._receiver.finish()
        finally:
            self._receiver.close()

    def close(self) -> None:
        self._receiver.close()


def _check_size(begin: bytes | bytearray, name: str) -> None:
    size = struct.unpack_from(">Q", begin, 8)[0] if len(begin) >= 16 else 0
    if size > MAX_CONTENT_BYTES:
        raise InvalidInput(f"a file of {size} bytes; the limit is {MAX_CONTENT_BYTES}", where=name)
