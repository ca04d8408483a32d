"""The compressed streams of a part: unpacked as they are read, with windows of 4 MiB at most.

Three streams of a part are read at once, each from its own place in the delta's file. What one gives is bounded by the
length that the header names: a stream that comes to more, or to less, is refused while it is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

from wherry.core.errors import IntegrityError
from wherry.store.delta.encoders import PieceReader
from wherry.store.delta.format import LZMA, STORED, ZSTD, Part, Stream

WINDOW_LOG = 22
"""Of both compressors: what a device needs to unpack one stream."""
_READ_BYTES = 64 * 1024
_OUT_BYTES = 256 * 1024


def lzma_filters(*, strong: bool = False, aligned: bool = True) -> list[dict[str, Any]]:
    """Returns the filters of a stream that LZMA2 compressed.

    Args:
        strong: whether to compress by them.
        aligned: whether what is compressed often begins at every fourth byte.
    """
    import lzma

    last: dict[str, Any] = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << WINDOW_LOG}
    if strong:
        # Three bytes that are found are as good as four, and sooner.
        last |= {"preset": 9 | lzma.PRESET_EXTREME, "pb": 2 if aligned else 0, "mf": lzma.MF_BT3}
    return [last]


def check_part(file: BinaryIO, offset: int, part: Part, *, where: object) -> None:
    """Checks the digest of a part before anything in it is looked at.

    Raises:
        IntegrityError: it is damaged, or cut short.
    """
    digest = hashlib.sha256()
    left = part.size
    while left:
        data = os.pread(file.fileno(), min(left, _OUT_BYTES), offset)
        if not data:
            raise IntegrityError("a part of the delta is cut short", where=where)
        digest.update(data)
        offset += len(data)
        left -= len(data)
    if digest.digest() != part.digest:
        raise IntegrityError("a part of the delta is damaged", where=where)


class PartStream:
    """The plain bytes of one stream.

    Args:
        file: the delta's file.
        offset: where the stream begins in it.
        stream: what the header says of it.
        where: the delta, for errors.
    """

    def __init__(self, file: BinaryIO, offset: int, stream: Stream, *, where: object) -> None:
        self._pieces = _unpack(file, offset, stream, where)
        self._piece = b""
        self._at = 0
        self._left = stream.unpacked
        self._where = where

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes.

        Raises:
            IntegrityError: there are not so many.
        """
        piece, at = self._piece, self._at
        if at + size <= len(piece):
            self._at = at + size
            return piece[at : at + size]
        out = bytearray(piece[at:])
        while len(out) < size:
            self._next()
            out += self._piece
        self._at = len(self._piece) - (len(out) - size)
        return bytes(out[:size])

    def pieces(self, size: int) -> Iterator[bytes]:
        """Gives `size` bytes in pieces."""
        while size:
            count = min(size, _OUT_BYTES)
            yield self.read(count)
            size -= count

    def skip(self, size: int) -> None:
        """Passes over `size` bytes."""
        for _ in self.pieces(size):
            pass

    def end(self) -> None:
        """Checks that all was read, and that there is not more.

        Raises:
            IntegrityError: that is not so.
        """
        if self._left or self._at != len(self._piece) or next(self._pieces, None):
            raise IntegrityError("a stream of the delta has not the length that it names", where=self._where)

    def _next(self) -> None:
        piece = next(self._pieces, b"")
        self._left -= len(piece)
        if not piece or self._left < 0:
            raise IntegrityError("a stream of the delta has not the length that it names", where=self._where)
        self._piece, self._at = piece, 0


def _unpack(file: BinaryIO, offset: int, stream: Stream, where: object) -> Iterator[bytes]:
    packed = _packed(file, offset, stream.size)
    if stream.codec == STORED:
        yield from packed
    elif stream.codec == ZSTD:
        yield from _zstd(packed, where)
    elif stream.codec == LZMA:
        yield from _lzma(packed, where)
    else:
        raise IntegrityError("a stream of no known compression", where=where)


def _packed(file: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    while size:
        data = os.pread(file.fileno(), min(size, _READ_BYTES), offset)
        if not data:
            return
        yield data
        offset += len(data)
        size -= len(data)


def _zstd(packed: Iterator[bytes], where: object) -> Iterator[bytes]:
    import zstandard

    # Read, not fed: a few bytes of zeros come to megabytes, and a reader stops when it has what was asked for.
    inner = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
    try:
        with inner.stream_reader(cast(IO[bytes], PieceReader(packed)), read_size=_READ_BYTES) as reader:
            while plain := reader.read(_OUT_BYTES):
                yield plain
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a stream of the delta is damaged: {error}", where=where) from error


def _lzma(packed: Iterator[bytes], where: object) -> Iterator[bytes]:
    import lzma

    inner = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters())
    try:
        for piece in packed:
            if inner.eof:
                raise IntegrityError("bytes behind the end of a stream of the delta", where=where)
            data = piece
            while not inner.eof:
                plain = inner.decompress(data, _OUT_BYTES)
                data = b""
                if plain:
                    yield plain
                if inner.needs_input:
                    break
        if inner.unused_data:
            raise IntegrityError("bytes behind the end of a stream of the delta", where=where)
    except (lzma.LZMAError, EOFError) as error:
        raise IntegrityError(f"a stream of the delta is damaged: {error}", where=where) from error
