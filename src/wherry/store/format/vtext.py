"""GVariant's text format, as ``ostree show --raw`` prints it (g_variant_print with type annotations)."""

from __future__ import annotations

from typing import Any

from wherry.store.format.variant import Variant

_PREFIX = {"y": "byte ", "n": "int16 ", "q": "uint16 ", "u": "uint32 ", "x": "int64 ", "t": "uint64 ", "h": "handle ",
           "o": "objectpath ", "g": "signature "}  # fmt: skip
_WIDTH = {"n": (2, True), "q": (2, False), "i": (4, True), "u": (4, False), "x": (8, True), "t": (8, False)}
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def to_text(type_: str, value: Any, *, annotate: bool = True) -> str:
    """Returns a value as text.

    Args:
        type_: its GVariant type.
        value: as ``variant.decode`` returns it.
        annotate: whether types that the text does not show are written.
    """
    code = type_[0]
    if code == "v":
        return f"<{to_text(value.type, value.value)}>"
    if code == "a":
        return _array(type_, value, annotate=annotate)
    if code == "m":
        if value is None:
            return f"@{type_} nothing" if annotate else "nothing"
        return to_text(type_[1:], value[0], annotate=annotate)
    if code in "({":
        kinds = split_types(type_[1:-1])
        parts = [to_text(kind, part, annotate=annotate) for kind, part in zip(kinds, value, strict=True)]
        if code == "{":
            return "{" + ", ".join(parts) + "}"
        return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
    prefix = _PREFIX.get(code, "") if annotate else ""
    if code == "b":
        return "true" if value else "false"
    if code in "sog":
        return prefix + quote(value)
    if code == "y":
        return f"{prefix}0x{value:02x}"
    return f"{prefix}{value!r}"


def byteswapped(type_: str, value: Any) -> Any:
    """Returns a value with the bytes of all its integers swapped (g_variant_byteswap)."""
    code = type_[0]
    if code in _WIDTH:
        width, signed = _WIDTH[code]
        return int.from_bytes(value.to_bytes(width, "little", signed=signed), "big", signed=signed)
    if code == "v":
        return Variant(value.type, byteswapped(value.type, value.value))
    if code == "a" and type_[1] == "{":
        kinds = split_types(type_[2:-1])
        return {key: byteswapped(kinds[1], item) for key, item in value.items()}
    if code == "a" and type_[1] != "y":
        return [byteswapped(type_[1:], item) for item in value]
    if code == "(":
        return tuple(byteswapped(kind, item) for kind, item in zip(split_types(type_[1:-1]), value, strict=True))
    return value


def variant_text(variant: Variant) -> str:
    """Returns a variant's value as text."""
    return to_text(variant.type, variant.value)


def split_types(text: str) -> list[str]:
    """Returns the complete types that stand in a row in `text`."""
    found = []
    at = 0
    while at < len(text):
        end = _type_end(text, at)
        found.append(text[at:end])
        at = end
    return found


def quote(text: str) -> str:
    """Returns a string in quotes, escaped as GLib does."""
    mark = '"' if "'" in text and '"' not in text else "'"
    out = []
    for char in text:
        if char == mark:
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return mark + "".join(out) + mark


def _byte_string(value: bytes) -> str:
    """Returns bytes as g_variant_print writes those that end in their only NUL: g_strescape, in octal."""
    mark = '"' if b"'" in value else "'"
    out = []
    for byte in value:
        char = chr(byte)
        if char != "\a" and char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char == '"':
            out.append('\\"')
        else:
            out.append(char if 32 <= byte < 127 else f"\\{byte:03o}")
    return f"b{mark}{''.join(out)}{mark}"


def _array(type_: str, value: Any, *, annotate: bool) -> str:
    item = type_[1:]
    if item == "y":
        if value.endswith(b"\0") and b"\0" not in value[:-1]:
            return _byte_string(value[:-1])
        parts = [f"0x{byte:02x}" for byte in value]
        if parts and annotate:
            parts[0] = "byte " + parts[0]
    elif item.startswith("{"):
        key, entry = split_types(item[1:-1])
        if not value:
            return f"@{type_} {{}}" if annotate else "{}"
        pairs = []
        for index, (name, inner) in enumerate(value.items()):
            first = annotate and index == 0
            pairs.append(f"{to_text(key, name, annotate=first)}: {to_text(entry, inner, annotate=first)}")
        return "{" + ", ".join(pairs) + "}"
    else:
        parts = [to_text(item, part, annotate=annotate and index == 0) for index, part in enumerate(value)]
    if not parts:
        return f"@{type_} []" if annotate else "[]"
    return "[" + ", ".join(parts) + "]"


def _type_end(text: str, at: int) -> int:
    while text[at] in "am":
        at += 1
    if text[at] not in "({":
        return at + 1
    depth = 0
    while True:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
