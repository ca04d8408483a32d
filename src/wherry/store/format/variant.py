"""GVariant, the serialisation of every OSTree metadata object: bytes to Python values and back.

Little-endian framing only, as OSTree writes it. Reading is strict: only *normal form* is taken, that is, the one
byte string that a correct writer makes for a value; so hostile bytes are an ``InvalidInput``, never a crash, a
read past the end, or two meanings. Nothing is byte-swapped here: OSTree's big-endian integers are its own custom.

Python values: ``y n q i u x t h`` int, ``b`` bool, ``d`` float, ``s o g`` str, ``ay`` bytes, other arrays list,
``a{..}`` dict (of two equal keys the first counts, as in GLib), tuples tuple, ``m`` None or a one-element tuple,
``v`` a ``Variant``.

Source: GVariant specification (https://docs.gtk.org/glib/gvariant-format-strings.html, gvariant.pdf sections 2.3-2.5).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

from wherry.core.errors import InvalidInput

MAX_DEPTH = 40
"""Containers within containers, variants included (GLib's own limit is 128)."""
MAX_TYPE_CHARS = 255

_BASIC_KEYS = "ybnqiuxthdsog"
_INTEGERS = {"y": "B", "n": "<h", "q": "<H", "i": "<i", "u": "<I", "x": "<q", "t": "<Q", "h": "<i"}
_LIMITS = ((0xFF, 1), (0xFFFF, 2), (0xFFFFFFFF, 4), (0xFFFFFFFFFFFFFFFF, 8))


class Variant(NamedTuple):
    """A value with its type string, as it stands in a ``v``."""

    type: str
    value: Any


def encode(type_: str, value: Any) -> bytes:
    """Returns the bytes of `value` as GVariant type `type_`.

    Raises:
        InvalidInput: the type is malformed, or the value does not have it.
    """
    try:
        return _codec(type_).encode(value)
    except (struct.error, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"not a value of GVariant type {type_!r}: {error}") from error


def decode(type_: str, data: bytes, *, where: object = None) -> Any:
    """Returns the value that `data` is, as GVariant type `type_`.

    Raises:
        InvalidInput: `data` is not the normal form of a value of this type.
    """
    try:
        return _codec(type_).decode(data, 0)
    except InvalidInput as error:
        raise InvalidInput(f"malformed GVariant {type_!r}: {error.what}", where=where) from None


def to_plain(variant: Variant) -> Any:
    """Returns the plain Python value of types that say themselves what they are; others stay a ``Variant``.

    Plain are str, bool, bytes, int (``t``), non-empty lists of str or bytes, and ``a{sv}`` as a dict of such.
    ``from_plain`` gives the same type back.
    """
    kind, value = variant
    if kind in ("s", "b", "ay", "t") or (kind in ("as", "aay") and value):
        return value
    if kind == "a{sv}":
        return {key: to_plain(item) for key, item in value.items()}
    return variant


def from_plain(value: Any) -> Variant:
    """Returns a plain value as a ``Variant``.

    Raises:
        InvalidInput: it is of no plain type, so it must be given as a ``Variant``.
    """
    if isinstance(value, Variant):
        return value
    if isinstance(value, bool):
        return Variant("b", value)
    if isinstance(value, str):
        return Variant("s", value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Variant("ay", bytes(value))
    if isinstance(value, int):
        return Variant("t", value)
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return Variant("as", list(value))
        if all(isinstance(item, bytes) for item in value):
            return Variant("aay", list(value))
    if isinstance(value, dict):
        return Variant("a{sv}", {key: from_plain(item) for key, item in value.items()})
    raise InvalidInput(f"give metadata of type {type(value).__name__} as a Variant")


def is_type(text: str) -> bool:
    """Tells whether `text` is one complete, definite GVariant type."""
    try:
        _codec(text)
    except InvalidInput:
        return False
    return True


def offset_size(body: int, count: int) -> int:
    """Returns the width of framing offsets for `count` of them behind `body` bytes."""
    for limit, width in _LIMITS:
        if body + count * width <= limit:
            return width
    raise InvalidInput("too long")


class _Codec:
    """How one type is written and read. `size` is 0 for a type whose values differ in length."""

    align = 1
    size = 0

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes, depth: int) -> Any:
        raise NotImplementedError


class _Integer(_Codec):
    def __init__(self, code: str) -> None:
        self._struct = struct.Struct(_INTEGERS[code])
        self.size = self.align = self._struct.size

    def encode(self, value: Any) -> bytes:
        if isinstance(value, bool):
            raise InvalidInput("a boolean is not an integer")
        return self._struct.pack(value)

    def decode(self, data: bytes, depth: int) -> int:
        if len(data) != self.size:
            raise InvalidInput("wrong length of an integer")
        return int(self._struct.unpack(data)[0])


class _Double(_Codec):
    size = align = 8

    def encode(self, value: Any) -> bytes:
        return struct.pack("<d", value)

    def decode(self, data: bytes, depth: int) -> float:
        if len(data) != 8:
            raise InvalidInput("wrong length of a double")
        return float(struct.unpack("<d", data)[0])


class _Boolean(_Codec):
    size = 1

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, bool):
            raise InvalidInput("not a boolean")
        return b"\1" if value else b"\0"

    def decode(self, data: bytes, depth: int) -> bool:
        if data not in (b"\0", b"\1"):
            raise InvalidInput("a boolean is neither 0 nor 1")
        return data == b"\1"


class _String(_Codec):
    def encode(self, value: Any) -> bytes:
        data: bytes = value.encode()
        if b"\0" in data:
            raise InvalidInput("a string holds a NUL")
        return data + b"\0"

    def decode(self, data: bytes, depth: int) -> str:
        if data.find(b"\0") != len(data) - 1 or not data:
            raise InvalidInput("a string does not end in one NUL")
        try:
            return data[:-1].decode()
        except UnicodeDecodeError:
            raise InvalidInput("a string is not UTF-8") from None


class _Bytes(_Codec):
    def encode(self, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidInput("not bytes")
        return bytes(value)

    def decode(self, data: bytes, depth: int) -> bytes:
        return bytes(data)


class _Array(_Codec):
    def __init__(self, item: _Codec, *, entries: bool) -> None:
        self._item = item
        self._entries = entries
        self.align = item.align

    def encode(self, value: Any) -> bytes:
        if isinstance(value, str | bytes) or (self._entries and not isinstance(value, dict)):
            raise InvalidInput("not an array")
        items = value.items() if self._entries else value
        parts = [self._item.encode(item) for item in items]
        return b"".join(parts) if self._item.size else _frame(parts, self._item.align)

    def decode(self, data: bytes, depth: int) -> Any:
        depth = _deeper(depth)
        item, size = self._item, self._item.size
        if size:
            if len(data) % size:
                raise InvalidInput("an array is not a whole number of items")
            found = [item.decode(data[at : at + size], depth) for at in range(0, len(data), size)]
        else:
            found = [item.decode(data[start:end], depth) for start, end in _unframe(data, item.align)]
        if not self._entries:
            return found
        result: dict[Any, Any] = {}
        for key, entry in found:
            result.setdefault(key, entry)
        return result


class _Tuple(_Codec):
    def __init__(self, items: list[_Codec]) -> None:
        self._items = items
        self.align = max((item.align for item in items), default=1)
        self._framed = sum(1 for item in items[:-1] if not item.size)
        if all(item.size for item in items):
            at = 0
            for item in items:
                at = _aligned(at, item.align) + item.size
            self.size = _aligned(at, self.align) or 1

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, tuple | list) or len(value) != len(self._items):
            raise InvalidInput(f"not a tuple of {len(self._items)}")
        out = bytearray()
        ends: list[int] = []
        for item, part in zip(self._items, value, strict=True):
            out.extend(bytes(-len(out) % item.align))
            out.extend(item.encode(part))
            if not item.size:
                ends.append(len(out))
        if self.size:
            out.extend(bytes(self.size - len(out)))
            return bytes(out)
        del ends[self._framed :]
        width = offset_size(len(out), len(ends))
        for end in reversed(ends):
            out.extend(end.to_bytes(width, "little"))
        return bytes(out)

    def decode(self, data: bytes, depth: int) -> tuple[Any, ...]:
        depth = _deeper(depth)
        length = len(data)
        if self.size and length != self.size:
            raise InvalidInput("wrong length of a tuple")
        width = _width(length)
        body = length - self._framed * width
        if body < 0 or (self._framed and offset_size(body, self._framed) != width):
            raise InvalidInput("framing offsets do not fit")
        at, framed, result = 0, 0, []
        for index, item in enumerate(self._items):
            start = _aligned(at, item.align)
            if item.size:
                end = start + item.size
            elif index == len(self._items) - 1:
                end = body
            else:
                framed += 1
                end = int.from_bytes(data[length - framed * width : length - (framed - 1) * width], "little")
            if not start <= end <= body or any(data[at:start]):
                raise InvalidInput("a framing offset or padding is wrong")
            result.append(item.decode(data[start:end], depth))
            at = end
        if any(data[at:]) if self.size else at != body:
            raise InvalidInput("bytes behind the last item of a tuple")
        return tuple(result)


class _Maybe(_Codec):
    def __init__(self, item: _Codec) -> None:
        self._item = item
        self.align = item.align

    def encode(self, value: Any) -> bytes:
        if value is None:
            return b""
        (inner,) = value
        data: bytes = self._item.encode(inner)
        return data if self._item.size else data + b"\0"

    def decode(self, data: bytes, depth: int) -> tuple[Any] | None:
        depth = _deeper(depth)
        if not data:
            return None
        if self._item.size:
            return (self._item.decode(data, depth),)
        if data[-1]:
            raise InvalidInput("a maybe does not end in NUL")
        return (self._item.decode(data[:-1], depth),)


class _AnyVariant(_Codec):
    align = 8

    def encode(self, value: Any) -> bytes:
        kind, inner = str(value[0]), value[1]
        return _codec(kind).encode(inner) + b"\0" + kind.encode()

    def decode(self, data: bytes, depth: int) -> Variant:
        depth = _deeper(depth)
        at = data.rfind(b"\0")
        if at < 0:
            raise InvalidInput("a variant has no type")
        try:
            kind = data[at + 1 :].decode("ascii")
        except UnicodeDecodeError:
            raise InvalidInput("a variant has no type") from None
        return Variant(kind, _codec(kind).decode(data[:at], depth))


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH}")
    return depth + 1


def _aligned(at: int, align: int) -> int:
    return at + -at % align


def _width(length: int) -> int:
    for limit, width in _LIMITS:
        if length <= limit:
            return width
    raise InvalidInput("too long")


def _frame(parts: list[bytes], align: int) -> bytes:
    """Joins items of differing length and puts the end of each behind them."""
    if not parts:
        return b""
    out = bytearray()
    ends = []
    for part in parts:
        if align > 1:
            out.extend(bytes(-len(out) % align))
        out.extend(part)
        ends.append(len(out))
    width = offset_size(len(out), len(ends))
    for end in ends:
        out.extend(end.to_bytes(width, "little"))
    return bytes(out)


def _unframe(data: bytes, align: int) -> list[tuple[int, int]]:
    """Returns start and end of every item of an array whose items differ in length."""
    if not data:
        return []
    length = len(data)
    width = _width(length)
    body = int.from_bytes(data[-width:], "little")
    table = length - body
    if table <= 0 or table % width or offset_size(body, table // width) != width:
        raise InvalidInput("framing offsets do not fit")
    found = []
    at = 0
    for place in range(body, length, width):
        start = _aligned(at, align)
        end = int.from_bytes(data[place : place + width], "little")
        if not start <= end <= body or (start != at and any(data[at:start])):
            raise InvalidInput("a framing offset or padding is wrong")
        found.append((start, end))
        at = end
    return found


@lru_cache(maxsize=256)
def _codec(type_: str) -> _Codec:
    if len(type_) > MAX_TYPE_CHARS:
        raise InvalidInput("the type is too long")
    codec, at = _parse(type_, 0, 0)
    if at != len(type_):
        raise InvalidInput(f"not one complete type: {type_!r}")
    return codec


def _parse(text: str, at: int, depth: int) -> tuple[_Codec, int]:
    """Returns the codec of the type that begins at `at`, and where the type ends."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"nested deeper than {MAX_DEPTH}")
    code = text[at : at + 1]
    if code in _INTEGERS:
        return _Integer(code), at + 1
    if code in ("s", "o", "g"):
        return _String(), at + 1
    if code == "a":
        if text[at + 1 : at + 2] == "y":
            return _Bytes(), at + 2
        item, end = _parse(text, at + 1, depth + 1)
        return _Array(item, entries=text[at + 1] == "{"), end
    if code == "m":
        item, end = _parse(text, at + 1, depth + 1)
        return _Maybe(item), end
    if code == "(":
        return _parse_tuple(text, at + 1, depth)
    if code == "{":
        if text[at + 1 : at + 2] not in _BASIC_KEYS or not text[at + 1 : at + 2]:
            raise InvalidInput(f"a dictionary key of no basic type: {text!r}")
        key, middle = _parse(text, at + 1, depth + 1)
        value, end = _parse(text, middle, depth + 1)
        if text[end : end + 1] != "}":
            raise InvalidInput(f"a dictionary entry that does not end: {text!r}")
        return _Tuple([key, value]), end + 1
    simple = {"b": _Boolean, "d": _Double, "v": _AnyVariant}.get(code)
    if simple is None:
        raise InvalidInput(f"not a GVariant type: {text!r}")
    return simple(), at + 1


def _parse_tuple(text: str, at: int, depth: int) -> tuple[_Codec, int]:
    items = []
    while text[at : at + 1] != ")":
        item, at = _parse(text, at, depth + 1)
        items.append(item)
    return _Tuple(items), at + 1
