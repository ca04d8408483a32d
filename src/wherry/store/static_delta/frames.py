"""Where the children of a GVariant tuple or array lie, without reading them.

A delta's superblock may hold its parts, and a part all of its files: megabytes that must not be copied, nor turned
into values, just to reach the few that are asked for. Here only framing is read, through `Reader`, and never trusted.

Source: GVariant specification, section 2.5, as in ``wherry.store.format.variant``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from wherry.core.errors import InvalidInput

Reader = Callable[[int, int], bytes]
"""Returns bytes: from an offset, so many; the caller asks only for what is there."""
Span = tuple[int, int]
"""Start and end."""
_MAX_PADDING = 7
_BATCH = 4096


def tuple_spans(read: Reader, span: Span, layout: tuple[tuple[int, int], ...]) -> list[Span]:
    """Returns where the children of a tuple lie.

    Args:
        read: gives the bytes.
        span: the tuple's own.
        layout: for each child its alignment, and its size if that is fixed, else 0.

    Raises:
        InvalidInput: the framing is malformed.
    """
    start, end = span
    length = end - start
    width = offset_width(length)
    framed = sum(1 for _, size in layout[:-1] if not size)
    body = length - framed * width
    if body < 0:
        raise InvalidInput("framing offsets do not fit")
    table = read(start + body, framed * width)
    spans: list[Span] = []
    at = 0
    seen = 0
    for index, (align, size) in enumerate(layout):
        begin = at + -at % align
        if size:
            stop = begin + size
        elif index == len(layout) - 1:
            stop = body
        else:
            seen += 1
            place = len(table) - seen * width
            stop = int.from_bytes(table[place : place + width], "little")
        if not begin <= stop <= body:
            raise InvalidInput("a framing offset is wrong")
        if begin != at and any(read(start + at, begin - at)):
            raise InvalidInput("padding is not zero")
        spans.append((start + begin, start + stop))
        at = stop
    if at != body:
        raise InvalidInput("bytes behind the last item of a tuple")
    return spans


class ArraySpans:
    """Where the items of an array lie whose items differ in length; each is looked up when it is asked for.

    Args:
        read: gives the bytes.
        span: the array's own.
        align: the alignment of an item.

    Raises:
        InvalidInput: the framing is malformed.
    """

    def __init__(self, read: Reader, span: Span, align: int) -> None:
        self._read = read
        self._start, end = span
        self._align = align
        self._count = self._width = self._body = 0
        length = end - self._start
        if length == 0:
            return
        self._width = offset_width(length)
        if self._width > length:
            raise InvalidInput("framing offsets do not fit")
        self._body = int.from_bytes(read(end - self._width, self._width), "little")
        table = length - self._body
        if table <= 0 or table % self._width:
            raise InvalidInput("framing offsets do not fit")
        self._count = table // self._width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Span:
        """Returns where one item lies.

        Raises:
            InvalidInput: there is no such item, or its framing is malformed.
        """
        if not 0 <= index < self._count:
            raise InvalidInput(f"no item {index} in an array of {self._count}")
        first = max(index - 1, 0)
        raw = self._read(self._start + self._body + first * self._width, (index - first + 1) * self._width)
        begin = int.from_bytes(raw[: self._width], "little") if index else 0
        return self._item(begin, int.from_bytes(raw[-self._width :], "little"))

    def __iter__(self) -> Iterator[Span]:
        at = 0
        for first in range(0, self._count, _BATCH):
            count = min(_BATCH, self._count - first)
            raw = self._read(self._start + self._body + first * self._width, count * self._width)
            for place in range(0, len(raw), self._width):
                end = int.from_bytes(raw[place : place + self._width], "little")
                yield self._item(at, end)
                at = end

    def _item(self, begin: int, end: int) -> Span:
        begin += -begin % self._align
        if not begin <= end <= self._body:
            raise InvalidInput("a framing offset is wrong")
        return self._start + begin, self._start + end


def offset_width(length: int) -> int:
    """Returns the width of framing offsets in a container of `length` bytes."""
    return 1 if length <= 0xFF else 2 if length <= 0xFFFF else 4 if length <= 0xFFFFFFFF else 8


class FileRange:
    """Bytes that stand in a file, read when they are asked for, a piece at a time.

    A mapping would do the same, but ends the process when the file becomes shorter meanwhile.

    Args:
        file: open; it stays open as long as a range of it is in use.
        start: where the bytes begin.
        stop: where they end.
    """

    __slots__ = ("_file", "_start", "_stop")

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self._start, self._stop = file, start, max(start, stop)

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, piece: slice) -> FileRange:
        start, stop, _ = piece.indices(len(self))
        return FileRange(self._file, self._start + start, self._start + stop)

    def __bytes__(self) -> bytes:
        data = bytearray()
        while len(data) < len(self):
            found = os.pread(self._file.fileno(), len(self) - len(data), self._start + len(data))
            if not found:
                raise InvalidInput("the file has become shorter")
            data += found
        return bytes(data)
