"""A delta's superblock: what it leads from and to, its parts, and what must be fetched besides.

::

    superblock  (a{sv} t ay ay COMMIT ay a(uayttay) a(yaytt))
                metadata, time, from, to, the commit itself, deltas to apply before (unused), parts, fallbacks
    signed      (t ay a{sv})   "OSTSGNDT", the superblock, signatures over it

The time is big-endian. Version and sizes of parts and fallbacks are in the order that the metadata's
``ostree.endianness`` names (``l`` or ``B``); old deltas do not say, and it is guessed from the sizes, as OSTree does.
The metadata may hold the parts themselves and the commit's detached metadata, under the paths they would have.
Nothing is trusted: not one length, offset or count; and the commit must have the checksum that the delta leads to.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.format import variant
from wherry.store.format.objects import COMMIT_TYPE, MAX_METADATA_BYTES, ObjectType
from wherry.store.format.variant import Variant
from wherry.store.static_delta import names
from wherry.store.static_delta.frames import ArraySpans, FileRange, Span, tuple_spans

MAGIC = b"OSTSGNDT"
PART_VERSION = 0
MAX_SUPERBLOCK_BYTES = 64 * 1024 * 1024
"""Without the parts that it may hold: what is fetched, and what is read into memory."""
MAX_INLINE_BYTES = 4 * 1024 * 1024 * 1024
"""A superblock with the parts in it; only what is asked for is read."""
MAX_PARTS = 100_000
MAX_FALLBACKS = 1_000_000
MAX_PART_OBJECTS = 1_000_000
MAX_SIGNATURE_BYTES = 1024 * 1024
_MAX_VALUE_BYTES = MAX_METADATA_BYTES
_MAX_KEY_BYTES = 4096
_OBJECT_BYTES = 33
_PARTS_TYPE = "a(uayttay)"
_FALLBACKS_TYPE = "a(yaytt)"
SUPERBLOCK_TYPE = f"(a{{sv}}tayay{COMMIT_TYPE}ay{_PARTS_TYPE}{_FALLBACKS_TYPE})"
SIGNED_TYPE = "(taya{sv})"
_SUPERBLOCK_LAYOUT = ((8, 0), (8, 8), (1, 0), (1, 0), (8, 0), (1, 0), (8, 0), (8, 0))
_SIGNED_LAYOUT = ((8, 8), (1, 0), (8, 0))
_ENTRY_LAYOUT = ((1, 0), (8, 0))
_IMPLAUSIBLE_BYTES = 1 << 48


class Endianness(enum.Enum):
    """The order of bytes of version and sizes."""

    LITTLE = "l"
    BIG = "B"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHeader:
    """One part: a file that holds objects, or the way to make them."""

    index: int
    checksum: Checksum
    """SHA-256 of the part's file."""
    size_bytes: int
    unpacked_bytes: int
    """Of the objects that come out."""
    object_bytes: bytes
    """For each object its type, one byte, and its checksum, 32 bytes."""
    inline: memoryview | FileRange | None = None
    """The part itself, when it stands in the superblock."""

    def __len__(self) -> int:
        return len(self.object_bytes) // _OBJECT_BYTES

    @property
    def objects(self) -> Iterator[tuple[ObjectType, Checksum]]:
        """The objects, in the order in which they come out.

        Raises:
            InvalidInput: one is of a type that no part may hold.
        """
        for at in range(0, len(self.object_bytes), _OBJECT_BYTES):
            yield (
                _object_type(self.object_bytes[at]),
                Checksum(self.object_bytes[at + 1 : at + _OBJECT_BYTES].hex()),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """An object that is not in the delta and must be fetched by itself."""

    kind: ObjectType
    checksum: Checksum
    size_bytes: int
    unpacked_bytes: int


@dataclass(frozen=True, kw_only=True)
class Superblock:
    """A parsed superblock. It keeps the bytes it was parsed from."""

    origin: Checksum | None
    target: Checksum
    timestamp_s: int
    commit_bytes: bytes
    parts: tuple[PartHeader, ...]
    fallbacks: tuple[Fallback, ...]
    endianness: Endianness
    endianness_guessed: bool
    detached: bytes | None = None
    """The commit's detached metadata, ``a{sv}``."""
    parents: int = 0
    """Deltas that would have to be applied before."""
    signed: bool = False
    signed_bytes: memoryview | FileRange = field(default_factory=lambda: memoryview(b""), repr=False)
    """What signatures are made over: the superblock proper."""
    signatures: Mapping[str, Variant] = field(default_factory=dict)

    @cached_property
    def size_bytes(self) -> int:
        """What the parts come to, fallbacks included."""
        return sum(part.size_bytes for part in self.parts) + sum(item.size_bytes for item in self.fallbacks)

    @cached_property
    def unpacked_bytes(self) -> int:
        """What the objects come to, fallbacks included."""
        return sum(part.unpacked_bytes for part in self.parts) + sum(item.unpacked_bytes for item in self.fallbacks)

    @property
    def name(self) -> str:
        """``FROM-TO`` or ``TO``."""
        return names.delta_name(self.origin, self.target)


def parse_superblock(data: bytes | memoryview | FileRange, *, where: object = None) -> Superblock:
    """Returns a superblock, signed or not; signatures are not verified here.

    Args:
        data: its bytes, or where they stand in a file.
        where: its file or URL, for errors.

    Raises:
        InvalidInput: malformed, or over a limit.
        IntegrityError: the commit in it is not the one that it leads to.
    """
    try:
        return _parse(data if isinstance(data, FileRange) else memoryview(data), where)
    except _NoDelta:
        raise InvalidInput("not a static delta", where=where) from None
    except InvalidInput as error:
        raise InvalidInput(f"malformed delta superblock: {error.what}", where=where) from None


class _NoDelta(InvalidInput):
    """Nothing in the bytes looks like a superblock."""


def _parse(view: memoryview | FileRange, where: object) -> Superblock:
    if len(view) > MAX_INLINE_BYTES:
        raise InvalidInput(f"longer than {MAX_INLINE_BYTES} bytes")
    signed = bytes(view[:8]) == MAGIC
    signatures: dict[str, Variant] = {}
    if signed:
        _, inner, meta = tuple_spans(_reader(view), (0, len(view)), _SIGNED_LAYOUT)
        if meta[1] - meta[0] > MAX_SIGNATURE_BYTES:
            raise InvalidInput(f"more than {MAX_SIGNATURE_BYTES} bytes of signatures")
        signatures = variant.decode("a{sv}", bytes(view[meta[0] : meta[1]]))
        view = view[inner[0] : inner[1]]
    try:
        metadata, *rest = tuple_spans(_reader(view), (0, len(view)), _SUPERBLOCK_LAYOUT)
    except InvalidInput as error:
        raise _NoDelta(error.what) from None
    if rest[2][1] - rest[2][0] != 32:
        raise _NoDelta("it names no commit that it leads to")
    if len(view) - (metadata[1] - metadata[0]) > MAX_SUPERBLOCK_BYTES:
        raise InvalidInput(f"longer than {MAX_SUPERBLOCK_BYTES} bytes")
    time, raw_origin, raw_target, commit, parents, parts, fallbacks = (bytes(view[start:end]) for start, end in rest)
    if len(raw_origin) not in (0, 32):
        raise InvalidInput("a checksum has not 32 bytes")
    if len(parents) % 64:
        raise InvalidInput("the list of deltas to apply before is malformed")
    origin = Checksum(raw_origin.hex()) if raw_origin else None
    target = Checksum(raw_target.hex())
    if len(commit) > MAX_METADATA_BYTES or hashlib.sha256(commit).hexdigest() != target:
        raise IntegrityError(f"the commit in a delta is not {target}", where=where)
    values = _Metadata(view, metadata)
    part_values = variant.decode(_PARTS_TYPE, parts)
    fallback_values = variant.decode(_FALLBACKS_TYPE, fallbacks)
    if len(part_values) > MAX_PARTS or len(fallback_values) > MAX_FALLBACKS:
        raise InvalidInput(f"more than {MAX_PARTS} parts or {MAX_FALLBACKS} fallbacks")
    declared = values.get("ostree.endianness", "y")
    endianness, guessed = _endianness(declared, part_values)
    swap = endianness is Endianness.BIG
    return Superblock(
        origin=origin,
        target=target,
        timestamp_s=int.from_bytes(time, "big"),
        commit_bytes=commit,
        parts=tuple(
            _part(index, value, swap, values.inline(names.delta_path(origin, target, str(index))))
            for index, value in enumerate(part_values)
        ),
        fallbacks=tuple(_fallback(value, swap) for value in fallback_values),
        endianness=endianness,
        endianness_guessed=guessed,
        detached=values.raw(names.delta_path(origin, target, "commitmeta"), "a{sv}"),
        parents=len(parents) // 64,
        signed=any(key.startswith("ostree.sign.") for key in signatures),
        signed_bytes=view,
        signatures=signatures,
    )


class _Metadata:
    """The metadata's entries by their keys; values stay where they are until they are asked for."""

    def __init__(self, view: memoryview | FileRange, span: Span) -> None:
        self._view = view
        self._spans: dict[str, tuple[Span, str]] = {}
        read = _reader(view)
        for count, entry in enumerate(ArraySpans(read, span, 8)):
            if count > MAX_PARTS + MAX_FALLBACKS:
                raise InvalidInput("too many entries of metadata")
            key, value = tuple_spans(read, entry, _ENTRY_LAYOUT)
            if key[1] - key[0] > _MAX_KEY_BYTES:
                raise InvalidInput("a key of the metadata is too long")
            name = variant.decode("s", read(key[0], key[1] - key[0]))
            tail_start = max(value[0], value[1] - variant.MAX_TYPE_CHARS - 1)
            tail = read(tail_start, value[1] - tail_start)
            nul = tail.rfind(b"\0")
            if nul < 0:
                raise InvalidInput("a variant has no type")
            type_ = tail[nul + 1 :].decode("ascii", errors="replace")
            self._spans.setdefault(name, ((value[0], tail_start + nul), type_))

    def raw(self, key: str, type_: str) -> bytes | None:
        """Returns the bytes of a value that has this type."""
        found = self._find(key, type_)
        if found is None:
            return None
        if len(found) > _MAX_VALUE_BYTES:
            raise InvalidInput(f"{key!r} in the metadata is too long")
        return bytes(found)

    def get(self, key: str, type_: str) -> Any:
        """Returns a value that has this type."""
        raw = self.raw(key, type_)
        return None if raw is None else variant.decode(type_, raw)

    def inline(self, key: str) -> memoryview | FileRange | None:
        """Returns a part, which stands there as ``(yay)``."""
        return self._find(key, "(yay)")

    def _find(self, key: str, type_: str) -> memoryview | FileRange | None:
        span, its_type = self._spans.get(key, ((0, 0), ""))
        return self._view[span[0] : span[1]] if its_type == type_ else None


def _reader(view: memoryview | FileRange) -> Any:
    return lambda at, size: bytes(view[at : at + size])


def _endianness(declared: int | None, parts: list[Any]) -> tuple[Endianness, bool]:
    """Returns the order of bytes, and whether it was guessed.

    A delta that does not say is little-endian, unless that makes its parts, or its objects, larger than any can be.
    (OSTree looks at the ratio of the sizes first, and is wrong about small deltas.)
    """
    if declared is not None:
        try:
            return Endianness(chr(declared)), False
        except ValueError:
            raise InvalidInput(f"unknown endianness {declared:#x}") from None
    implausible = any(max(size, unpacked) > _IMPLAUSIBLE_BYTES for _, _, size, unpacked, _ in parts)
    return (Endianness.BIG if implausible else Endianness.LITTLE), True


def _part(index: int, value: Any, swap: bool, inline: memoryview | FileRange | None) -> PartHeader:
    version, checksum, size, unpacked, items = value
    if swap:
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        size, unpacked = _swap64(size), _swap64(unpacked)
    if version > PART_VERSION:
        raise InvalidInput(f"Delta part has too new version {version}")
    if len(checksum) != 32 or len(items) % _OBJECT_BYTES or len(items) // _OBJECT_BYTES > MAX_PART_OBJECTS:
        raise InvalidInput(f"the header of part {index} is malformed")
    return PartHeader(
        index=index,
        checksum=Checksum(checksum.hex()),
        size_bytes=size,
        unpacked_bytes=unpacked,
        object_bytes=items,
        inline=inline,
    )


def _fallback(value: Any, swap: bool) -> Fallback:
    kind, checksum, size, unpacked = value
    if len(checksum) != 32:
        raise InvalidInput("a checksum has not 32 bytes")
    if swap:
        size, unpacked = _swap64(size), _swap64(unpacked)
    return Fallback(
        kind=_object_type(kind), checksum=Checksum(checksum.hex()), size_bytes=size, unpacked_bytes=unpacked
    )


def _object_type(number: int) -> ObjectType:
    """Returns the type of an object in a delta: files and directories alone, as a commit stands in the superblock."""
    try:
        kind = ObjectType(number)
    except ValueError:
        kind = ObjectType.COMMIT
    if kind not in (ObjectType.FILE, ObjectType.DIRTREE, ObjectType.DIRMETA):
        raise InvalidInput(f"an object of type {number} in a delta")
    return kind


def _swap64(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little"), "big")


# --- writing


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """What stands in the superblock about a part that was made."""

    checksum: Checksum
    size_bytes: int
    unpacked_bytes: int
    object_bytes: bytes
    path: str


def build_superblock(
    *,
    origin: Checksum | None,
    target: Checksum,
    commit_bytes: bytes,
    timestamp_s: int,
    parts: list[NewPart],
    fallbacks: list[Fallback],
    endianness: Endianness = Endianness.LITTLE,
    detached: bytes | None = None,
    inline: bool = False,
) -> bytes:
    """Returns a superblock.

    Args:
        origin: the commit that it leads from.
        target: the commit that it leads to.
        commit_bytes: that commit's object.
        timestamp_s: when it is made.
        parts: its parts, in their order.
        fallbacks: what is fetched besides.
        endianness: the order of bytes of the sizes.
        detached: the commit's detached metadata, ``a{sv}``.
        inline: whether the parts are put into it; they are read from their files.
    """
    swap = endianness is Endianness.BIG
    entries = [("ostree.endianness", b"%c\0y" % ord(endianness.value))]
    if inline:
        for index, part in enumerate(parts):
            with open(part.path, "rb") as file:
                entries.append((names.delta_path(origin, target, str(index)), file.read() + b"\0(yay)"))
    if detached is not None:
        entries.append((names.delta_path(origin, target, "commitmeta"), detached + b"\0a{sv}"))
    metadata = _array([_tuple([(key.encode() + b"\0", 1), (value, 8)]) for key, value in entries], 8)
    part_values = [
        (0, bytes.fromhex(part.checksum), _order(part.size_bytes, swap), _order(part.unpacked_bytes, swap),
         part.object_bytes)
        for part in parts
    ]  # fmt: skip
    fallback_values = [
        (item.kind.value, bytes.fromhex(item.checksum), _order(item.size_bytes, swap),
         _order(item.unpacked_bytes, swap))
        for item in fallbacks
    ]  # fmt: skip
    head = [(metadata, 8), (struct.pack(">Q", timestamp_s), -8), (bytes.fromhex(origin) if origin else b"", 1)]
    return _tuple(
        [
            *head,
            (bytes.fromhex(target), 1),
            (commit_bytes, 8),
            (b"", 1),
            (variant.encode(_PARTS_TYPE, part_values), 8),
            (variant.encode(_FALLBACKS_TYPE, fallback_values), 8),
        ]
    )


def build_signed(superblock: bytes, signatures: Mapping[str, Variant]) -> bytes:
    """Returns a superblock with signatures over it."""
    return _tuple([(MAGIC, -8), (superblock, 1), (variant.encode("a{sv}", dict(signatures)), 8)])


def _order(value: int, swap: bool) -> int:
    return _swap64(value) if swap else value


def _tuple(children: list[tuple[bytes, int]]) -> bytes:
    """Joins serialised children, each given with its alignment, negative for one of fixed size."""
    out = bytearray()
    ends: list[int] = []
    for child, align in children:
        out.extend(bytes(-len(out) % abs(align)))
        out.extend(child)
        if align > 0:
            ends.append(len(out))
    if children[-1][1] > 0:
        ends.pop()
    width = variant.offset_size(len(out), len(ends))
    for end in reversed(ends):
        out.extend(end.to_bytes(width, "little"))
    return bytes(out)


def _array(items: list[bytes], align: int) -> bytes:
    """Joins serialised items of differing length."""
    out = bytearray()
    ends: list[int] = []
    for item in items:
        out.extend(bytes(-len(out) % align))
        out.extend(item)
        ends.append(len(out))
    width = variant.offset_size(len(out), len(ends))
    for end in ends:
        out.extend(end.to_bytes(width, "little"))
    return bytes(out)
