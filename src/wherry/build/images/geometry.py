"""Where everything is on a disk: pure arithmetic over the sizes of what goes there.

::

    GPT                                           MBR
    0         protective MBR                      0       boot code, disk id, four partitions
    512       header                              512 …   raw areas of the board
    1024      entries, 128 or as many as fit      1 MiB   partitions, each at a whole mebibyte
              before the first raw area           …
    …         raw areas of the board
    1 MiB     partitions
    end-33    the second table: entries, header

Partitions begin at whole mebibytes, in the order of the layout, each at the first that is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from wherry.build.images.layout import Table
from wherry.build.images.layoutcheck import MAX_GPT_PARTITIONS, MIB, SECTOR_BYTES
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.build.images.layout import Image, Layout

ENTRY_BYTES = 128
"""Of a GPT."""
ENTRIES_OFFSET = 2 * SECTOR_BYTES
MAX_MBR_BYTES = SECTOR_BYTES * 2**32
"""A partition of an MBR begins and ends in sectors of 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a disk."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where everything is."""

    size: int
    """Of the disk."""
    partitions: tuple[Span, ...]
    """In the order of the table: the first is number 1."""
    areas: tuple[Span, ...]
    entries: int
    """That a GPT has room for; 0 for an MBR."""

    def partition(self, name: str) -> Span:
        """Returns where a partition is."""
        return next(span for span in self.partitions if span.name == name)


def arrange(layout: Layout, name: str, partitions: Mapping[str, int], areas: Mapping[str, int]) -> Geometry:
    """Returns where everything of a disk is.

    Args:
        layout: all images.
        name: of the disk.
        partitions: the bytes that each partition has.
        areas: the bytes that each raw area has.

    Raises:
        InvalidInput: parts overlap, or the disk is too small for them; names the layer and the key.
    """
    image = layout.image(name)
    raw = tuple(
        sorted(
            (
                Span(name=key, offset=layout.size(area.offset, name, "raw", key, "offset"), size=areas[key])
                for key, area in image.raw.items()
            ),
            key=lambda span: span.offset,
        )
    )
    for first, second in pairwise(raw):
        if first.end > second.offset:
            raise _overlap(layout, (name, "raw", second.name), f"raw area {first.name!r}", first.end, second.offset)
    placed = _partitions(layout, name, image, partitions, raw)
    entries = _entries(image, raw, placed)
    behind = 0 if image.table is Table.MBR else -(-entries * ENTRY_BYTES // SECTOR_BYTES) * SECTOR_BYTES + SECTOR_BYTES
    least = max((span.end for span in (*placed, *raw)), default=MIB) + behind
    size = layout.size(image.size, name, "size") if image.size else -(-least // MIB) * MIB
    if size < least:
        where = layout.where(name, "size")
        raise InvalidInput(f"the disk is too small: {size} bytes", where=where, hint=f"it needs {least}")
    if image.table is Table.MBR and size > MAX_MBR_BYTES:
        raise InvalidInput("an MBR reaches 2 TiB, and no more", where=layout.where(name), hint="table: gpt")
    return Geometry(size=size, partitions=placed, areas=raw, entries=entries)


def _partitions(
    layout: Layout, name: str, image: Image, sizes: Mapping[str, int], raw: tuple[Span, ...]
) -> tuple[Span, ...]:
    placed: list[Span] = []
    free = MIB
    for key, partition in image.ordered():
        at = (name, "partitions", key)
        if partition.offset:
            offset = layout.size(partition.offset, *at, "offset")
        else:
            offset = _free(free, sizes[key], raw)
        span = Span(name=key, offset=offset, size=sizes[key])
        for area in raw:
            if area.offset < span.end and span.offset < area.end:
                raise _overlap(layout, at, f"raw area {area.name!r}", area.end, span.offset)
        for other in placed:
            if other.offset < span.end and span.offset < other.end:
                raise _overlap(layout, at, f"partition {other.name!r}", other.end, span.offset)
        placed.append(span)
        free = max(free, span.end)
    return tuple(placed)


def _free(first: int, size: int, raw: tuple[Span, ...]) -> int:
    """Returns the first whole mebibyte from which there is room, between or behind raw areas."""
    offset = -(-first // MIB) * MIB
    for area in raw:  # which are sorted
        if area.offset < offset + size and offset < area.end:
            offset = -(-area.end // MIB) * MIB
    return offset


def _entries(image: Image, raw: tuple[Span, ...], placed: tuple[Span, ...]) -> int:
    if image.table is Table.MBR:
        return 0
    first = min((span.offset for span in (*raw, *placed)), default=MIB)
    # a sector holds four entries; fewer than 128 are what a board with its boot loader at 8 KiB has room for
    return min(MAX_GPT_PARTITIONS, (first - ENTRIES_OFFSET) // SECTOR_BYTES * SECTOR_BYTES // ENTRY_BYTES)


def _overlap(layout: Layout, keys: tuple[str, ...], other: str, end: int, start: int) -> InvalidInput:
    hint = f"that ends at byte {end}, this begins at {start}"
    return InvalidInput(f"overlaps {other}", where=layout.where(*keys), hint=hint)
