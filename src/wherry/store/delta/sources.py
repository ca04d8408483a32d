"""What a delta copies from, on the device: objects of the old commits, and those that it has made itself.

Old objects are not named but numbered: all objects of the old commits, sorted by type and checksum, detached metadata
left out. Whoever has the commits can count them, and 32 bytes for each are saved. The header has the list's digest.

A source with a recipe is laid out as its view in a file without a name, in the repository's ``tmp/``, and kept
while it is in use. Content is read in pieces; nothing here grows with the size of a file.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, overload

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.store.delta.orders import CHECKSUMS, NEW, OLD, SourceId
from wherry.store.delta.payload import Recipe, expand
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.tree.walk import reachable

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_READ_AHEAD_BYTES = 64 * 1024
_SMALL_BYTES = 64 * 1024
"""Content up to this is held in memory."""
MAX_OPEN = 32
"""Sources that are held open."""
_COPY_BYTES = 256 * 1024

NAME_BYTES = 33
Name = tuple[ObjectType, Checksum]


class NameList(Sequence[Name]):
    """Objects, 33 bytes each: a device with a large tree has tens of thousands.

    Args:
        data: of each the byte of its type and its checksum.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def __len__(self) -> int:
        return len(self.data) // NAME_BYTES

    @overload
    def __getitem__(self, index: int) -> Name: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Name]: ...

    def __getitem__(self, index: int | slice) -> Name | Sequence[Name]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = index * NAME_BYTES
        return ObjectType(self.data[at]), Checksum(self.data[at + 1 : at + NAME_BYTES].hex())

    def append(self, name: Name) -> None:
        """Adds one at the end."""
        self.data.append(name[0].value)
        self.data += bytes.fromhex(name[1])


def old_objects(repo: Repository, commits: Iterable[Checksum]) -> NameList:
    """Returns all objects of some commits in the order in which a delta counts them.

    Raises:
        NotFound: a commit, or a directory of it, is not here.
    """
    found: set[bytes] = set()
    for commit in commits:
        found.update(list_names(name for name in reachable(repo, commit) if name[0] is not ObjectType.COMMITMETA))
    return NameList(b"".join(sorted(found)))


def list_names(names: Iterable[Name]) -> Iterator[bytes]:
    """Gives objects as they are hashed: the byte of the type, the 32 bytes of the checksum."""
    return (bytes([kind.value]) + bytes.fromhex(checksum) for kind, checksum in names)


class Source:
    """Something open to copy from, at any place."""

    def __init__(self, data: bytes | None, file: BinaryIO | None, size: int) -> None:
        self._data = data
        self._file = file
        self._at = 0
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """Returns so many bytes; fewer only at the end."""
        data, at = self._data, self._at
        if data is not None and at <= offset and offset + size <= at + len(data):
            return data[offset - at : offset - at + size]
        if self._file is None:
            return b"" if data is None else data[offset : offset + size]
        found = os.pread(self._file.fileno(), max(size, _READ_AHEAD_BYTES), offset)
        self._data, self._at = found[: _READ_AHEAD_BYTES * 2], offset
        return found[:size]

    def close(self) -> None:
        """Lets it go."""
        if self._file is not None:
            self._file.close()


class Sources:
    """Opens what the orders name, and keeps the last few open.

    Args:
        repo: where the objects are.
        old: from ``old_objects``.
    """

    def __init__(self, repo: Repository, old: Sequence[Name]) -> None:
        self._repo = repo
        self._old = old
        self._open: OrderedDict[SourceId, Source] = OrderedDict()
        self.made = NameList()
        """The objects that the delta has made, in order."""

    def add(self, name: Name) -> None:
        """Notes an object that was made."""
        self.made.append(name)

    def open(self, source: SourceId) -> Source:
        """Opens something to copy from.

        Raises:
            NotFound: it is not here (any more).
            InvalidInput: there is no such number.
            IntegrityError: it cannot be taken apart as its recipe says.
        """
        if source.where == CHECKSUMS:
            checksums = b"".join(
                self.made.data[at + 1 : at + NAME_BYTES] for at in range(0, len(self.made.data), NAME_BYTES)
            )
            return Source(checksums, None, len(checksums))
        found = self._open.get(source)
        if found is None:
            while len(self._open) >= MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            found = self._open[source] = self._open_new(source)
        self._open.move_to_end(source)
        return found

    def close(self) -> None:
        """Lets everything go."""
        while self._open:
            self._open.popitem()[1].close()

    def _open_new(self, source: SourceId) -> Source:
        listed: Sequence[Name] = self._old if source.where == OLD else self.made
        if source.where not in (OLD, NEW) or source.number >= len(listed):
            raise InvalidInput("malformed device delta: a source that is none")
        kind, checksum = listed[source.number]
        if kind is not ObjectType.FILE:
            data = self._repo.metadata_bytes(kind, checksum)
            return Source(data, None, len(data))
        return open_view(self._repo, checksum, source.recipe)


def open_view(repo: Repository, checksum: Checksum, recipe: Recipe) -> Source:
    """Opens the view of a file object.

    Raises:
        NotFound: it is not here.
        IntegrityError: it cannot be taken apart as the recipe says.
    """
    _, content = repo.load_file(checksum)
    if content is None:
        raise InvalidInput("malformed device delta: it copies from a symbolic link", where=checksum)
    try:
        if not recipe and repo.mode is not Mode.ARCHIVE:
            size = os.fstat(content.fileno()).st_size
            if size > _SMALL_BYTES:
                kept, content = content, None
                return Source(None, kept, size)
        pieces = expand(recipe, content, where=checksum) if recipe else iter(lambda: content.read(_COPY_BYTES), b"")
        return _lay_out(repo, pieces)
    finally:
        if content is not None:
            content.close()


def _lay_out(repo: Repository, pieces: Iterator[bytes]) -> Source:
    """Puts a view where it can be read at any place."""
    first = bytearray()
    for piece in pieces:
        first += piece
        if len(first) > _SMALL_BYTES:
            break
    else:
        return Source(bytes(first), None, len(first))
    try:
        file: BinaryIO = tempfile.TemporaryFile(dir=repo.path / "tmp")  # noqa: SIM115 handed to the caller
    except OSError as error:
        raise map_os_error(error, "cannot lay out a file to copy from", where=repo.path) from error
    try:
        file.write(first)
        for piece in pieces:
            file.write(piece)
        file.flush()
    except OSError as error:
        file.close()
        raise map_os_error(error, "cannot lay out a file to copy from", where=repo.path) from error
    except BaseException:
        file.close()
        raise
    return Source(None, file, file.tell())


class Window:
    """Ranges of sources, joined: what the steps of one patch add to.

    Raises:
        IntegrityError: a range goes beyond its source.
    """

    def __init__(self, sources: Sources, ranges: Sequence[tuple[SourceId, int, int]]) -> None:
        self._sources = sources
        self._ranges: list[tuple[int, int, SourceId, int]] = []
        at = 0
        for source, offset, length in ranges:
            self._ranges.append((at, at + length, source, offset))
            at += length
        self.size = at
        self._last = 0
        self._opened: tuple[int, Source] | None = None

    def pieces(self, position: int, size: int) -> Iterator[bytes]:
        """Gives `size` bytes from a position on, in pieces of ``_COPY_BYTES`` at most.

        Raises:
            InvalidInput: it goes beyond the end.
            IntegrityError: a source is shorter than the delta says.
        """
        if position < 0 or position + size > self.size:
            raise InvalidInput("malformed device delta: a copy from beyond its window")
        while size:
            begin, end, source, offset = self._find(position)
            count = min(size, end - position, _COPY_BYTES)
            if self._opened is None or self._opened[0] != self._last:
                self._opened = self._last, self._sources.open(source)
            data = self._opened[1].read(offset + position - begin, count)
            if len(data) != count:
                raise IntegrityError("a file to copy from is shorter than the delta says", where=source.number)
            yield data
            position += count
            size -= count

    def _find(self, position: int) -> tuple[int, int, SourceId, int]:
        found = self._ranges[self._last]
        if not found[0] <= position < found[1]:
            low, high = 0, len(self._ranges) - 1
            while low < high:
                middle = (low + high + 1) // 2
                if self._ranges[middle][0] <= position:
                    low = middle
                else:
                    high = middle - 1
            while self._ranges[low][1] <= position:  # empty ranges
                low += 1
            self._last = low
            found = self._ranges[low]
        return found


def require(repo: Repository, commits: Iterable[Checksum]) -> None:
    """Checks that the commits to start from are here.

    Raises:
        NotFound: one is not, or is known to lack objects.
    """
    for commit in commits:
        if not repo.has(ObjectType.COMMIT, commit) or repo.is_partial(commit):
            raise NotFound("the delta starts from a commit that is not here", where=commit)
