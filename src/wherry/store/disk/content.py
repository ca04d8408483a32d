"""The content of file objects on its way into and out of a repository: hashed, inflated and deflated as it streams.

Nothing here knows where objects lie. What comes from outside is bounded by the size that its header declares: a
``.filez`` that inflates to more, or to less, is refused while it streams.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast

from isal import igzip_lib, isal_zlib

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader

CHUNK_BYTES = 1024 * 1024
MAX_HEAD_BYTES = 1024 * 1024
"""The longest header of a ``.filez``: names and values of extended attributes are in it."""
_RAW_DEFLATE = -15
_IsalError = cast("type[Exception]", igzip_lib.IsalError)


def deflate(data: bytes, level: int) -> bytes:
    """Returns raw deflate of `data`."""
    result: bytes = isal_zlib.compress(data, level, _RAW_DEFLATE)
    return result


def deflater(level: int) -> Any:
    """Returns a compressor of raw deflate."""
    return isal_zlib.compressobj(level, isal_zlib.DEFLATED, _RAW_DEFLATE)


class Sink(Protocol):
    """Where the plain content of a file goes."""

    def write(self, data: bytes, /) -> object:
        """Takes the next piece."""


class Inflater:
    """Raw deflate in, plain bytes out, not one more than declared.

    Args:
        size: what the content should come to, in bytes.
        where: the object, for errors.
    """

    def __init__(self, size: int, where: object) -> None:
        self._inner = isal_zlib.decompressobj(_RAW_DEFLATE)
        self._left = size
        self._where = where

    @property
    def complete(self) -> bool:
        """Whether all has come."""
        return bool(self._inner.eof)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Gives the plain bytes that `data` holds, in pieces.

        Raises:
            IntegrityError: it is no deflate, or comes to more or less than declared.
        """
        if self._inner.eof and data:
            raise IntegrityError("bytes behind the end of the compressed content", where=self._where)
        while True:
            limit = min(self._left + 1, CHUNK_BYTES)
            try:
                plain = self._inner.decompress(data, limit)
            except _IsalError as error:
                raise IntegrityError(f"not compressed content: {error}", where=self._where) from error
            self._left -= len(plain)
            if self._left < 0 or (self._inner.eof and self._left):
                raise IntegrityError("the content has not the size that its header declares", where=self._where)
            if self._inner.unused_data:
                raise IntegrityError("bytes behind the end of the compressed content", where=self._where)
            if plain:
                yield plain
            data = self._inner.unconsumed_tail
            if self._inner.eof or (len(plain) < limit and not data):
                return


def inflate(data: bytes, size: int, where: object) -> bytes:
    """Returns the plain bytes of a content that is here as a whole, and small.

    Args:
        data: raw deflate.
        size: what it should come to.
        where: the object, for errors.

    Raises:
        IntegrityError: it is no deflate, is cut short, or comes to more or less than declared.
    """
    inner = isal_zlib.decompressobj(_RAW_DEFLATE)
    try:
        plain: bytes = inner.decompress(data, size + 1)
    except _IsalError as error:
        raise IntegrityError(f"not compressed content: {error}", where=where) from error
    if inner.unused_data:
        raise IntegrityError("bytes behind the end of the compressed content", where=where)
    if len(plain) > size or (inner.eof and len(plain) < size):
        raise IntegrityError("the content has not the size that its header declares", where=where)
    if not inner.eof:
        raise IntegrityError("the object is cut short", where=where)
    return plain


class ArchiveReader:
    """Takes the bytes of a ``.filez`` as they come, and gives header, plain content and checksum.

    Args:
        begin: called with header and size once they are known; returns where the content goes.
        where: the object, for errors.
    """

    def __init__(self, begin: Callable[[FileHeader, int], Sink | None], *, where: object) -> None:
        self._begin = begin
        self._where = where
        self._head = bytearray()
        self._sink: Sink | None = None
        self._inflater: Inflater | None = None
        self._hash = hashlib.sha256()
        self.header: FileHeader | None = None

    def feed(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            InvalidInput: the header is malformed.
            IntegrityError: the content is.
        """
        if self.header is None:
            self._head.extend(data)
            rest = self._parse_head()
            if rest is None:
                return
            data = rest
        if self._inflater is None:
            if data:
                raise IntegrityError("a symbolic link has content", where=self._where)
            return
        for plain in self._inflater.feed(data):
            self._hash.update(plain)
            if self._sink is not None:
                self._sink.write(plain)

    @property
    def complete(self) -> bool:
        """Whether the whole object has come."""
        return self.header is not None and (self._inflater is None or self._inflater.complete)

    def finish(self) -> Checksum:
        """Returns the checksum of the whole object.

        Raises:
            IntegrityError: it ended too early.
        """
        if not self.complete:
            raise IntegrityError("the object is cut short", where=self._where)
        return Checksum(self._hash.hexdigest())

    def _parse_head(self) -> bytes | None:
        """Parses the header once it is whole, and returns what stands behind it."""
        if len(self._head) < 8:
            return None
        length, zeros = struct.unpack_from(">II", self._head)
        if zeros or length > MAX_HEAD_BYTES:
            raise InvalidInput("malformed file header", where=self._where)
        if len(self._head) < 8 + length:
            return None
        header, size = objects.parse_archive_head(bytes(self._head[8 : 8 + length]), where=self._where)
        rest = bytes(self._head[8 + length :])
        self._head.clear()
        self._hash.update(objects.hash_head(header))
        self.header = header
        self._sink = self._begin(header, size)
        del self._begin  # no circle of references: the buffers shall go when the last piece has been taken
        if not header.is_symlink:
            self._inflater = Inflater(size, self._where)
        return rest


def read_archive_head(file: BinaryIO, *, where: object) -> tuple[FileHeader, int]:
    """Reads the header of a ``.filez`` and leaves `file` at its content.

    Returns:
        The header, and the size of the plain content.

    Raises:
        InvalidInput: malformed.
    """
    prefix = file.read(8)
    length, zeros = struct.unpack(">II", prefix) if len(prefix) == 8 else (0, 1)
    if zeros or length > MAX_HEAD_BYTES:
        raise InvalidInput("malformed file header", where=where)
    head = file.read(length)
    if len(head) != length:
        raise InvalidInput("the object is cut short", where=where)
    return objects.parse_archive_head(head, where=where)


class InflatingFile(io.RawIOBase):
    """The plain content of a ``.filez``, as a file to read.

    Args:
        file: open, behind the header; closed with this one.
        size: what the content should come to.
        where: the object, for errors.
    """

    def __init__(self, file: BinaryIO, size: int, *, where: object) -> None:
        super().__init__()
        self._file = file
        self._inflater = Inflater(size, where)
        self._where = where
        self._pieces: Iterator[bytes] = iter(())
        self._rest = b""

    def readable(self) -> bool:
        """Says yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into `buffer`; 0 at the end.

        Raises:
            IntegrityError: the content is damaged.
        """
        while not self._rest:
            self._rest = next(self._pieces, b"")
            if self._rest:
                break
            data = self._file.read(CHUNK_BYTES)
            if data:
                self._pieces = self._inflater.feed(data)
            elif self._inflater.complete:
                return 0
            else:
                raise IntegrityError("the object is cut short", where=self._where)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Closes the object's file too."""
        self._file.close()
        super().close()


def read_pieces(content: BinaryIO) -> Iterator[bytes]:
    """Gives all that is left in a file, in pieces."""
    while piece := content.read(CHUNK_BYTES):
        yield piece
