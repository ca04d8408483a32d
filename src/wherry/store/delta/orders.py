"""What a device is told to do, one order behind the other: the first stream of each part.

::

    1 HEADER   bytes                      a file's header, as it is hashed; numbered from 0 in each part
    2 SOURCE   where, number, recipe      something to copy from; numbered from 0 in each part
    3 OBJECT   type, 32 bytes, done       begins an object; `done` bytes of its view came in earlier parts
               FILE: header, view size, recipe; metadata: size
    4 PATCH    ranges: (source, offset, length)*, steps: (add, new, seek)*
               the ranges, joined, are what the steps add to and move in, from 0 on
    5 END      the object is whole

Every part begins with empty tables, so that it can be applied alone; only an object's view goes on into the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.delta.payload import MAX_PLAIN_BYTES, Recipe, file_size, read_recipe, view_size, write_recipe
from wherry.store.delta.wire import Reader, Writer
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, ObjectType

HEADER, SOURCE, OBJECT, PATCH, END = 1, 2, 3, 4, 5
OLD, NEW, CHECKSUMS = 0, 1, 2
"""Where a source is: among the objects of the old commits, among those made before, the checksums of those."""

MAX_FILE_HEADER_BYTES = 1024 * 1024
MAX_RANGES = 65_536
MAX_STEPS = 2_000_000
_KINDS = {kind.value: kind for kind in ObjectType if kind is not ObjectType.TOMBSTONE}


@dataclass(frozen=True, slots=True)
class SourceId:
    """Something to copy from."""

    where: int
    number: int
    recipe: Recipe = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOrder:
    """Begins an object, or goes on with it."""

    kind: ObjectType
    checksum: Checksum
    done: int
    size: int
    """Of its view."""
    header: FileHeader | None = None
    recipe: Recipe = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchOrder:
    """Makes more of the object's view."""

    ranges: tuple[tuple[SourceId, int, int], ...]
    """Source, offset, length."""
    steps: Iterator[tuple[int, int, int]]
    """To be gone through before the next order is asked for."""


@dataclass(frozen=True, slots=True)
class EndOrder:
    """The object is whole."""


Order = ObjectOrder | PatchOrder | EndOrder


class OrderWriter:
    """Writes the orders of one part."""

    def __init__(self) -> None:
        self._out = Writer()
        self._headers: dict[FileHeader, int] = {}
        self._sources: dict[SourceId, int] = {}

    @property
    def data(self) -> bytes:
        """What was written."""
        return bytes(self._out.data)

    def __len__(self) -> int:
        return len(self._out.data)

    def begin(self, order: ObjectOrder) -> None:
        """Begins an object, or goes on with it."""
        header = -1
        if order.header is not None:
            if order.header not in self._headers:
                self._headers[order.header] = len(self._headers)
                self._out.number(HEADER)
                self._out.bytes(objects.archive_head(order.header, 0)[8:])
            header = self._headers[order.header]
        self._out.number(OBJECT)
        self._out.number(order.kind.value)
        self._out.raw(bytes.fromhex(order.checksum))
        self._out.number(order.done)
        if header >= 0:
            self._out.number(header)
        self._out.number(order.size)
        if header >= 0:
            write_recipe(self._out, order.recipe)

    def patch(self, ranges: list[tuple[SourceId, int, int]], steps: list[tuple[int, int, int]]) -> None:
        """Makes more of the object's view."""
        for source, _, _ in ranges:
            if source not in self._sources:
                self._sources[source] = len(self._sources)
                self._out.number(SOURCE)
                self._out.number(source.where)
                self._out.number(source.number)
                write_recipe(self._out, source.recipe)
        self._out.number(PATCH)
        self._out.number(len(ranges))
        for source, offset, length in ranges:
            self._out.number(self._sources[source])
            self._out.number(offset)
            self._out.number(length)
        self._out.number(len(steps))
        for add, new, seek in steps:
            self._out.number(add)
            self._out.number(new)
            self._out.signed(seek)

    def end(self) -> None:
        """Ends the object."""
        self._out.number(END)


def read_orders(data: bytes, *, where: object) -> Iterator[Order]:
    """Gives the orders of one part.

    Raises:
        InvalidInput: malformed.
        Unsupported: a recipe names an encoder that is not known.
    """
    reader = Reader(data, where)
    headers: list[FileHeader] = []
    sources: list[SourceId] = []
    while reader.left:
        code = reader.number(END)
        if code == HEADER:
            headers.append(objects.parse_archive_head(reader.bytes(MAX_FILE_HEADER_BYTES), where=where)[0])
        elif code == SOURCE:
            sources.append(_read_source(reader))
        elif code == OBJECT:
            yield _read_object(reader, headers)
        elif code == PATCH:
            yield from _read_patch(reader, sources)
        elif code == END:
            yield EndOrder()
        else:
            raise reader.error("an order that is none")


def _read_source(reader: Reader) -> SourceId:
    place, number = reader.number(CHECKSUMS), reader.number()
    return SourceId(place, number, read_recipe(reader))


def _read_object(reader: Reader, headers: list[FileHeader]) -> ObjectOrder:
    kind = _KINDS.get(reader.number(16))
    if kind is None:
        raise reader.error("an object of no type")
    checksum = Checksum(reader.raw(32).hex())
    done = reader.number(MAX_PLAIN_BYTES)
    header: FileHeader | None = None
    recipe: Recipe = ()
    if kind is ObjectType.FILE:
        number = reader.number()
        if number >= len(headers):
            raise reader.error("a header that was not named")
        header = headers[number]
    size = reader.number(MAX_PLAIN_BYTES if header is not None else objects.MAX_METADATA_BYTES)
    if header is not None:
        recipe = read_recipe(reader)
        if recipe and (view_size(recipe) != size or file_size(recipe) > MAX_PLAIN_BYTES):
            raise reader.error("a recipe of another length than the view")
    if done > size or (header is not None and header.is_symlink and size):
        raise reader.error("a view with a wrong length")
    return ObjectOrder(kind=kind, checksum=checksum, done=done, size=size, header=header, recipe=recipe)


def _read_patch(reader: Reader, sources: list[SourceId]) -> Iterator[PatchOrder]:
    ranges = []
    for _ in range(reader.number(MAX_RANGES)):
        number, offset, length = reader.number(), reader.number(MAX_PLAIN_BYTES), reader.number(MAX_PLAIN_BYTES)
        if number >= len(sources):
            raise reader.error("a source that was not named")
        ranges.append((sources[number], offset, length))
    count = reader.number(MAX_STEPS)
    left = [count]

    def steps() -> Iterator[tuple[int, int, int]]:
        while left[0]:
            left[0] -= 1
            yield reader.number(MAX_PLAIN_BYTES), reader.number(MAX_PLAIN_BYTES), reader.signed()

    found = PatchOrder(ranges=tuple(ranges), steps=steps())
    yield found
    if left[0]:
        raise InvalidInput("the steps of a patch were not gone through")
