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

CHUNK_BYTES = 48 * 1024
"""What is added at once, or up to twice as much: the heap holds such numbers, longer ones would be mapped each time."""
SMALL_BYTES = 8 * 1024 * 1024
"""Sources up to this are held in memory."""
_SOURCE_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024
_CONTROL = struct.Struct("<qqq")
_MAGNITUDE = (1 << 63) - 1
_ZEROS = bytes(2 * CHUNK_BYTES)
_LOW = int.from_bytes(b"\x7f" * 2 * CHUNK_BYTES, "little")
_HIGH = int.from_bytes(b"\x80" * 2 * CHUNK_BYTES, "little")


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
    # A patch of a program has a step for some hundred bytes: steps are gathered, and their sums made at once. What is
    # extra is added to zeros, so that the bytes of a step stay together.
    window = _Window(source)
    added: list[bytes] = []
    olds: list[bytes] = []
    gathered = old = made = 0
    for diff, extra, seek, data in _steps(read, offset, length):
        made += diff + extra
        if made > new_size:
            raise InvalidInput("a patch makes more than it should")
        if data:
            added.append(data)
            if diff:
                olds.append(window.read(old, diff))
            if extra:
                olds.append(_ZEROS[:extra])
            gathered += diff + extra
            if gathered >= CHUNK_BYTES:
                yield add_bytes(b"".join(added), b"".join(olds))
                added, olds, gathered = [], [], 0
        old += diff + seek
        if made == new_size:
            break
    if made < new_size:
        raise InvalidInput("a patch is cut short")
    if gathered:
        yield add_bytes(b"".join(added), b"".join(olds))


def add_bytes(first: bytes, second: bytes) -> bytes:
    """Returns the sums, modulo 256, of the bytes of two strings of one length, of twice ``CHUNK_BYTES`` at most."""
    size = len(first)
    if first == _ZEROS[:size]:
        return second
    if second == _ZEROS[:size]:
        return first
    left, right = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    # The lower seven bits of each byte cannot carry into the next byte; the eighth is added without carry.
    return (((left & _LOW) + (right & _LOW)) ^ ((left ^ right) & _HIGH)).to_bytes(size, "little")


def _steps(read: Callable[[int, int], bytes], offset: int, length: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Gives the steps of a patch, each with its bytes; one that is longer than ``CHUNK_BYTES`` comes as several."""
    buffer = b""
    at = 0
    end = offset + length
    while True:
        if at + _CONTROL.size > len(buffer):
            buffer = buffer[at:] + read(offset, min(_READ_BYTES, end - offset))
            offset += min(_READ_BYTES, end - offset)
            at = 0
            if len(buffer) < _CONTROL.size:
                return
        diff, extra, seek = _CONTROL.unpack_from(buffer, at)
        at += _CONTROL.size
        if diff < 0 or extra < 0 or seek < 0:
            diff, extra, seek = _magnitudes(diff, extra, seek)
        count = diff + extra
        if count <= CHUNK_BYTES and at + count <= len(buffer):  # nearly always
            yield diff, extra, seek, buffer[at : at + count]
            at += count
            continue
        if count > len(buffer) - at + end - offset:
            raise InvalidInput("a patch is cut short")
        while count:
            size = min(count, CHUNK_BYTES)
            if at + size > len(buffer):
                buffer = buffer[at:] + read(offset, min(_READ_BYTES, end - offset))
                offset += min(_READ_BYTES, end - offset)
                at = 0
            count -= size
            of_diff = min(diff, size)
            diff -= of_diff
            yield of_diff, size - of_diff, 0 if count else seek, buffer[at : at + size]
            at += size


def _magnitudes(diff: int, extra: int, seek: int) -> tuple[int, int, int]:
    """Returns the numbers of a step of which one has a sign; a zero may have one too."""
    if (diff < 0 and diff & _MAGNITUDE) or (extra < 0 and extra & _MAGNITUDE):
        raise InvalidInput("a patch makes less than nothing")
    return max(diff, 0), max(extra, 0), -(seek & _MAGNITUDE) if seek < 0 else seek


class _Window:
    """Reads of a source that mostly go on where the last one ended."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def read(self, at: int, size: int) -> bytes:
        """Returns so many bytes from there; what lies outside counts as 0."""
        begin = at - self._start
        found = self._data[begin : begin + size] if begin >= 0 else b""
        if len(found) == size:
            return found
        if at < 0 or at + size > self._source.size:
            return self._outside(at, size)
        small = self._source.size <= SMALL_BYTES  # seeks go to and fro: what is small is read once
        self._start = 0 if small else at
        self._data = self._source.read_at(self._start, self._source.size if small else max(_SOURCE_BYTES, size))
        begin = at - self._start
        found = self._data[begin : begin + size]
        if len(found) != size:
            raise InvalidInput("the source of a patch is shorter than it was")
        return found

    def _outside(self, at: int, size: int) -> bytes:
        before = min(max(-at, 0), size)
        begin, end = at + before, min(at + size, self._source.size)
        inside = self._source.read_at(begin, end - begin) if end > begin else b""
        return bytes(before) + inside + bytes(size - before - len(inside))
