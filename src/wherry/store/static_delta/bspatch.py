"""Bsdiff's patches, in the form without header and compression that OSTree puts into deltas: applied as a stream.

::

    repeated:  i64 diff  i64 extra  i64 seek     little-endian, sign and magnitude
               diff bytes                        added, modulo 256, to as many bytes of the source
               extra bytes                       taken as they are
               the source's position moves by diff + seek

Bytes of the source before its beginning or behind its end count as 0. Memory does not depend on the size of anything.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from wherry.core.errors import InvalidInput

CHUNK_BYTES = 128 * 1024
_WINDOW_BYTES = 256 * 1024
_CONTROL = struct.Struct("<QQQ")
_SIGN = 1 << 63
_ZEROS = bytes(CHUNK_BYTES)


class Source(Protocol):
    """What is patched, or copied from."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    def read_at(self, at: int, size: int, /) -> bytes:
        """Returns so many bytes from there; fewer only at the end."""


def patch(
    read: Callable[[int, int], bytes], offset: int, length: int, source: Source, new_size: int
) -> Iterator[bytes]:
    """Gives the patched content in pieces.

    Args:
        read: gives bytes of the blob that the patch lies in.
        offset: where the patch begins in it.
        length: how long the patch is.
        source: what is patched.
        new_size: how much must come out.

    Raises:
        InvalidInput: the patch is malformed, or makes more or less.
    """
    stream = _Stream(read, offset, length)
    window = _Window(source)
    out = bytearray()
    old = made = 0
    while made < new_size:
        diff, extra, seek = (_signed(value) for value in _CONTROL.unpack(stream.take(_CONTROL.size)))
        if diff < 0 or extra < 0 or made + diff + extra > new_size:
            raise InvalidInput("a patch makes more than it should")
        made += diff + extra
        while diff:
            count = min(diff, CHUNK_BYTES)
            out += add_bytes(stream.take(count), window.read(old, count))
            old += count
            diff -= count
            if len(out) >= CHUNK_BYTES:
                yield bytes(out)
                out.clear()
        while extra:
            count = min(extra, CHUNK_BYTES)
            out += stream.take(count)
            extra -= count
            if len(out) >= CHUNK_BYTES:
                yield bytes(out)
                out.clear()
        old += seek
    if out:
        yield bytes(out)


def add_bytes(first: bytes, second: bytes) -> bytes:
    """Returns the sums, modulo 256, of the bytes of two strings of one length."""
    size = len(first)
    if first == _ZEROS[:size]:
        return second
    left, right = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    low = int.from_bytes(b"\x7f" * size, "little")
    # The lower seven bits of each byte cannot carry into the next byte; the eighth is added without carry.
    return (((left & low) + (right & low)) ^ ((left ^ right) & ~low)).to_bytes(size, "little")


class _Stream:
    """The bytes of a patch, one after another."""

    def __init__(self, read: Callable[[int, int], bytes], offset: int, length: int) -> None:
        self._read = read
        self._at = offset
        self._left = length
        self._buffer = b""
        self._used = 0

    def take(self, size: int) -> bytes:
        end = self._used + size
        if end <= len(self._buffer):
            found = self._buffer[self._used : end]
            self._used = end
            return found
        rest = self._buffer[self._used :]
        want = size - len(rest)
        if want > self._left:
            raise InvalidInput("a patch is cut short")
        count = min(max(want, CHUNK_BYTES), self._left)
        data = self._read(self._at, count)
        self._at += count
        self._left -= count
        self._buffer = data
        self._used = want
        return rest + data[:want]


class _Window:
    """Reads of a source that mostly go on where the last one ended."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def read(self, at: int, size: int) -> bytes:
        begin = at - self._start
        if begin >= 0 and begin + size <= len(self._data):
            return self._data[begin : begin + size]
        if at < 0 or at + size > self._source.size:
            return self._outside(at, size)
        self._data = self._source.read_at(at, max(size, _WINDOW_BYTES))
        self._start = at
        found = self._data[:size]
        if len(found) != size:
            raise InvalidInput("the source of a patch is shorter than it was")
        return found

    def _outside(self, at: int, size: int) -> bytes:
        before = min(max(-at, 0), size)
        begin, end = at + before, min(at + size, self._source.size)
        inside = self._source.read_at(begin, end - begin) if end > begin else b""
        return bytes(before) + inside + bytes(size - before - len(inside))


def _signed(value: int) -> int:
    return -(value ^ _SIGN) if value & _SIGN else value
