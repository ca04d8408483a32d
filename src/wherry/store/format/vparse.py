"""GVariant's text format, read: ``uint64 42``, ``[('a', <true>)]``. The other direction is ``vtext``.

Types that the text does not say are inferred as GLib infers them: a number is an int32 unless its neighbours in an
array, or a type in front of it, make it something else. Text longer or deeper than the limits is refused.

Source: GLib reference manual, "GVariant Text Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from wherry.core.errors import InvalidInput
from wherry.store.format import variant
from wherry.store.format.variant import Variant
from wherry.store.format.vtext import split_types

MAX_TEXT_CHARS = 1024 * 1024
_KEYWORDS = {"boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "handle": "h",
             "int64": "x", "uint64": "t", "double": "d", "string": "s", "objectpath": "o",
             "signature": "g"}  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:(?P<bytes>b(?=['"]))|(?P<string>['"])|(?P<type>@[^\s]+)|(?P<punct>[\[\](){}<>,:])
    |(?P<word>[A-Za-z][A-Za-z0-9]*)|(?P<number>[-+]?(?:\.?[0-9][0-9A-Za-z.]*(?:(?<=[eE])[-+][0-9]+)?|inf|nan)))""",
    re.VERBOSE,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}
_NUMBERS, _STRINGS = "ynqiuxthd", "sog"
_Pattern = tuple[Any, ...]
_ANY: _Pattern = ("*",)


def parse_text(text: str, *, where: object = None) -> Variant:
    """Returns the value that a text stands for, with its type.

    Args:
        text: as GLib's ``g_variant_print`` writes it, with or without types.
        where: what it is, for errors.

    Raises:
        InvalidInput: it is no such text, or its type cannot be told.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInput(f"a value of more than {MAX_TEXT_CHARS} characters", where=where)
    try:
        parser = _Parser(text)
        node = parser.value(0)
        parser.end()
        type_ = _type_of(_pattern(node))
        found = Variant(type_, _build(node, type_))
        variant.encode(type_, found.value)
    except InvalidInput as error:
        raise InvalidInput(f"not a value in GVariant's text format: {error.what}", where=where or text[:80]) from None
    return found


@dataclass(slots=True)
class _Node:
    kind: str
    """``number string bytes bool array tuple dict entry variant just nothing typed``."""
    text: str = ""
    items: list[_Node] = field(default_factory=list)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def end(self) -> None:
        rest = self._text[self._at :].strip()
        if rest:
            raise InvalidInput(f"more behind the value: {rest[:40]!r}")

    def value(self, depth: int) -> _Node:
        if depth > variant.MAX_DEPTH:
            raise InvalidInput("nested too deeply")
        kind, text = self._next()
        if kind == "string":
            return _Node("string", self._string(text, octal=False))
        if kind == "bytes":
            _, quote = self._next()
            return _Node("bytes", self._string(quote, octal=True))
        if kind == "type":
            if not variant.is_type(text[1:]):
                raise InvalidInput(f"not a type: {text!r}")
            return _Node("typed", text[1:], [self.value(depth + 1)])
        if kind == "number":
            return _Node("number", text)
        if kind == "word":
            return self._word(text, depth)
        if text == "[":
            return _Node("array", items=self._items("]", depth))
        if text == "(":
            return _Node("tuple", items=self._items(")", depth))
        if text == "<":
            node = _Node("variant", items=[self.value(depth + 1)])
            self._expect(">")
            return node
        if text == "{":
            return self._dict(depth)
        raise InvalidInput(f"no value begins with {text!r}")

    def _word(self, text: str, depth: int) -> _Node:
        if text in ("true", "false"):
            return _Node("bool", text)
        if text in ("inf", "nan"):
            return _Node("number", text)
        if text == "nothing":
            return _Node("nothing")
        if text == "just":
            return _Node("just", items=[self.value(depth + 1)])
        if text in _KEYWORDS:
            return _Node("typed", _KEYWORDS[text], [self.value(depth + 1)])
        raise InvalidInput(f"unknown word {text!r}")

    def _items(self, closing: str, depth: int) -> list[_Node]:
        items = []
        while self._peek() != closing:
            items.append(self.value(depth + 1))
            if self._peek() == closing:
                break
            self._expect(",")
        self._expect(closing)
        return items

    def _dict(self, depth: int) -> _Node:
        pairs: list[_Node] = []
        while self._peek() != "}":
            key = self.value(depth + 1)
            if self._peek() == "," and not pairs:
                self._expect(",")
                node = _Node("entry", items=[key, self.value(depth + 1)])
                self._expect("}")
                return node
            self._expect(":")
            pairs.append(_Node("entry", items=[key, self.value(depth + 1)]))
            if self._peek() == "}":
                break
            self._expect(",")
        self._expect("}")
        return _Node("dict", items=pairs)

    def _next(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            raise InvalidInput(f"a value is missing at character {self._at + 1}")
        self._at = match.end()
        return match.lastgroup, match[match.lastgroup]

    def _peek(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        return match["punct"] or "" if match else ""

    def _expect(self, mark: str) -> None:
        kind, text = self._next()
        if kind != "punct" or text != mark:
            raise InvalidInput(f"{mark!r} expected before character {self._at + 1}, not {text!r}")

    def _string(self, quote: str, *, octal: bool) -> str:
        out: list[str] = []
        text = self._text
        while True:
            if self._at >= len(text):
                raise InvalidInput("a string does not end")
            char = text[self._at]
            self._at += 1
            if char == quote:
                return "".join(out)
            out.append(self._escape(octal=octal) if char == "\\" else char)

    def _escape(self, *, octal: bool) -> str:
        text, at = self._text, self._at
        char = text[at : at + 1]
        pattern = r"[0-7]{1,3}" if octal else r"u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"
        match = re.compile(pattern).match(text, at)
        if match:
            self._at = match.end()
            number = int(match[0], 8) & 0xFF if octal else int(match[0][1:], 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise InvalidInput(f"not a character: \\{match[0]}")
            return chr(number)
        if not char:
            raise InvalidInput("a string does not end")
        self._at += 1
        return _ESCAPES.get(char, char)


# --- types


def _pattern(node: _Node) -> _Pattern:
    """Returns what is known of a value's type; ``N``, ``S`` and ``*`` stand for a number, a string, anything."""
    match node.kind:
        case "number":
            return ("d",) if _is_float(node.text) else ("N",)
        case "string":
            return ("S",)
        case "bool":
            return ("b",)
        case "bytes":
            return ("a", ("y",))
        case "variant":
            return ("v",)
        case "typed":
            found = _of_type(node.text)
            _join(found, _pattern(node.items[0]))
            return found
        case "nothing":
            return ("m", _ANY)
        case "just":
            return ("m", _pattern(node.items[0]))
        case "tuple":
            return ("(", *(_pattern(item) for item in node.items))
        case "entry":
            return ("{", *(_pattern(item) for item in node.items))
        case "dict" if not node.items:
            return ("a", ("{", _ANY, _ANY))
    joined = _ANY
    for item in node.items:
        joined = _join(joined, _pattern(item))
    return ("a", joined)


def _is_float(text: str) -> bool:
    if text.lstrip("+-") in ("inf", "nan"):
        return True
    return not text.lstrip("+-").lower().startswith("0x") and any(mark in text for mark in ".eE")


def _of_type(type_: str) -> _Pattern:
    code = type_[0]
    if code in "am":
        return (code, _of_type(type_[1:]))
    if code in "({":
        return (code, *(_of_type(part) for part in split_types(type_[1:-1])))
    return (code,)


def _join(one: _Pattern, two: _Pattern) -> _Pattern:
    """Returns the type that fits both."""
    if one in (_ANY, two):
        return two
    if two == _ANY:
        return one
    for general, special in ((one, two), (two, one)):
        if (general == ("N",) and special[0] in _NUMBERS) or (general == ("S",) and special[0] in _STRINGS):
            return special
        if special[0] == "m" and general[0] != "m":
            return ("m", _join(general, special[1]))
    if one[0] != two[0] or len(one) != len(two) or len(one) == 1:
        raise InvalidInput("values of different types")
    return (one[0], *(_join(left, right) for left, right in zip(one[1:], two[1:], strict=True)))


def _type_of(pattern: _Pattern) -> str:
    code: str = pattern[0]
    if code == "*":
        raise InvalidInput("the type cannot be told; write it in front, like @as []")
    if code in ("N", "S"):
        return {"N": "i", "S": "s"}[code]
    closing = {"(": ")", "{": "}"}.get(code, "")
    return code + "".join(_type_of(part) for part in pattern[1:]) + closing


# --- values


def _build(node: _Node, type_: str) -> Any:
    if node.kind == "typed":
        return _build(node.items[0], type_)
    code = type_[0]
    if code == "m":
        if node.kind == "nothing":
            return None
        return (_build(node.items[0] if node.kind == "just" else node, type_[1:]),)
    if code == "v":
        inner = _type_of(_pattern(node.items[0]))
        return Variant(inner, _build(node.items[0], inner))
    if code in "({":
        return tuple(_build(item, part) for item, part in zip(node.items, split_types(type_[1:-1]), strict=True))
    if code == "a":
        if node.kind == "bytes":
            return _latin(node.text) + b"\0"
        if type_[1] == "{":
            return dict(_build(item, type_[1:]) for item in node.items)
        items = [_build(item, type_[1:]) for item in node.items]
        return bytes(items) if type_ == "ay" else items
    if code == "b":
        return node.text == "true"
    if code in _STRINGS:
        return node.text
    return _number(node.text, code)


def _latin(text: str) -> bytes:
    """Returns a byte string's bytes: those that were escaped as one byte each, the others as UTF-8."""
    return b"".join(bytes([ord(char)]) if ord(char) < 0x100 else char.encode() for char in text)


def _number(text: str, code: str) -> int | float:
    try:
        if code == "d":
            return float(text)
        digits = text.lstrip("+-").lower()
        base = 16 if digits.startswith("0x") else 8 if len(digits) > 1 and digits.startswith("0") else 10
        number = int(digits, base) * (-1 if text.startswith("-") else 1)
    except ValueError:
        raise InvalidInput(f"not a number: {text!r}") from None
    if code == "y" and not 0 <= number <= 0xFF:
        raise InvalidInput(f"not a byte: {text}")
    return number
