"""The operations of a part: what makes its objects, in their order.

==== =================================== ================================================================
code arguments                           meaning
==== =================================== ================================================================
S    length offset                       a directory object: these bytes of the blob
S    mode xattrs length offset           a file: header by indexes, content (or target) from the blob
o    mode xattrs size                    begin a regular file
w    length offset                       go on with bytes of the source, or of the blob when there is none
r    offset                              the source is the file object whose checksum lies there in the blob
R                                        no source
B    offset length                       go on with a patch from the blob, against the source
c                                        end the file; no source
==== =================================== ================================================================

Arguments are LEB128 numbers of 64 bits. Reading operations touches nothing but themselves: what they say about
the blob is checked by who uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.format.objects import ObjectType

CODES = b"SowrRcB"
"""In the order in which ``static-delta show`` counts them."""
_MAX_VARINT_BYTES = 10
_MAX_VALUE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes of the blob."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes of a source."""

    source: int
    """Where its checksum lies in the blob."""
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Patch:
    """A bsdiff patch in the blob, against a source."""

    source: int
    offset: int
    length: int


Step = Literal | Copy | Patch


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one object is made."""

    kind: ObjectType
    checksum: Checksum
    mode_index: int
    """Of a file; 0 for directories."""
    xattrs_index: int
    size: int
    steps: tuple[Step, ...]
    spliced: bool
    """Made by one ``S``: only so a symbolic link may be made."""


def decode(ops: bytes, objects: Iterable[tuple[ObjectType, Checksum]]) -> Iterator[Recipe]:
    """Gives the recipes of a part.

    Args:
        ops: its operations.
        objects: what comes out of them, from the part's header.

    Raises:
        InvalidInput: malformed, or more or fewer objects come out.
    """
    targets = iter(objects)
    at = 0
    source: int | None = None
    opened: tuple[ObjectType, Checksum, int, int, int] | None = None
    steps: list[Step] = []
    while at < len(ops):
        code = ops[at]
        at += 1
        if code == 0x53:  # S
            if opened is not None:
                raise InvalidInput("an object begins within another")
            kind, checksum = _next(targets)
            mode = xattrs = 0
            if kind is ObjectType.FILE:
                mode, at = varint(ops, at)
                xattrs, at = varint(ops, at)
            length, at = varint(ops, at)
            offset, at = varint(ops, at)
            yield Recipe(kind, checksum, mode, xattrs, length, (Literal(offset, length),), True)
            source = None
        elif code == 0x6F:  # o
            if opened is not None:
                raise InvalidInput("an object begins within another")
            kind, checksum = _next(targets)
            if kind is not ObjectType.FILE:
                raise InvalidInput(f"a {kind.extension} object cannot be made piece by piece")
            mode, at = varint(ops, at)
            xattrs, at = varint(ops, at)
            size, at = varint(ops, at)
            opened, steps = (kind, checksum, mode, xattrs, size), []
        elif code == 0x77:  # w
            if opened is None:
                raise InvalidInput("content without an object")
            length, at = varint(ops, at)
            offset, at = varint(ops, at)
            steps.append(Literal(offset, length) if source is None else Copy(source, offset, length))
        elif code == 0x72:  # r
            source, at = varint(ops, at)
        elif code == 0x52:  # R
            source = None
        elif code == 0x42:  # B
            if opened is None or source is None:
                raise InvalidInput("a patch without an object or a source")
            offset, at = varint(ops, at)
            length, at = varint(ops, at)
            steps.append(Patch(source, offset, length))
        elif code == 0x63:  # c
            if opened is None:
                raise InvalidInput("the end of an object that has not begun")
            yield Recipe(*opened, tuple(steps), False)
            opened = source = None
        else:
            raise InvalidInput(f"Unknown opcode {code} at offset {at - 1}")
    if opened is not None:
        raise InvalidInput("the last object does not end")
    if next(targets, None) is not None:
        raise InvalidInput("fewer objects than its header names")


def count(ops: bytes, objects: Iterable[tuple[ObjectType, Checksum]]) -> dict[int, int]:
    """Returns how often each operation stands in a part, by its code, for ``static-delta show``.

    Raises:
        InvalidInput: malformed.
    """
    found = dict.fromkeys(CODES, 0)
    arguments = {0x6F: 3, 0x77: 2, 0x72: 1, 0x52: 0, 0x63: 0, 0x42: 2}
    targets = iter(objects)
    at = 0
    while at < len(ops):
        code = ops[at]
        at += 1
        if code not in found:
            raise InvalidInput(f"Unknown opcode {code} at offset {at - 1}")
        found[code] += 1
        number = arguments.get(code, 0)
        if code in (0x53, 0x6F):
            kind, _ = _next(targets)
            if code == 0x53:
                number = 4 if kind is ObjectType.FILE else 2
        for _ in range(number):
            _, at = varint(ops, at)
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the LEB128 number at an offset, and the offset behind it.

    Raises:
        InvalidInput: it is cut short, or longer than 64 bits.
    """
    value = shift = 0
    while True:
        if at >= len(data) or shift >= 7 * _MAX_VARINT_BYTES:
            raise InvalidInput("a number is cut short or too long")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if value > _MAX_VALUE:
        raise InvalidInput("a number is too large")
    return value, at


def write_varint(value: int) -> bytes:
    """Returns a number as LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _next(targets: Iterator[tuple[ObjectType, Checksum]]) -> tuple[ObjectType, Checksum]:
    found = next(targets, None)
    if found is None:
        raise InvalidInput("more objects than its header names")
    return found
