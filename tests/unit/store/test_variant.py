"""GVariant bytes that are known, and bytes that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.store.format import variant
from wherry.store.format.variant import Variant
from wherry.store.format.vtext import to_text, variant_text

# Source: GVariant specification, section 2.6 (examples).
KNOWN: list[tuple[str, Any, bytes]] = [
    ("s", "hello world", b"hello world\0"),
    ("ms", ("hello world",), b"hello world\0\0"),
    ("ab", [True, False, False, True, True], b"\1\0\0\1\1"),
    ("(si)", ("foo", -1), b"foo\0\xff\xff\xff\xff\x04"),
    ("a(si)", [("hi", -2), ("bye", -1)], b"hi\0\0\xfe\xff\xff\xff\3\0\0\0bye\0\xff\xff\xff\xff\4\x09\x15"),
    ("as", ["i", "can", "has", "strings?"], b"i\0can\0has\0strings?\0\x02\x06\x0a\x13"),
    ("((ys)as)", ((105, "can"), ["has", "strings?"]), b"ican\0has\0strings?\0\x04\x0d\x05"),
    ("(yy)", (0x70, 0x80), b"\x70\x80"),
    ("(iy)", (96, 0x70), b"\x60\0\0\0\x70\0\0\0"),
    ("a(iy)", [(96, 0x70), (648, 0xF7)], b"\x60\0\0\0\x70\0\0\0\x88\x02\0\0\xf7\0\0\0"),
    ("ay", b"\4\5\6\7", b"\4\5\6\7"),
    ("ai", [4, 258], b"\4\0\0\0\2\1\0\0"),
    ("()", (), b"\0"),
    ("a{sv}", {}, b""),
    ("v", Variant("i", 1), b"\1\0\0\0\0i"),
]


@pytest.mark.parametrize(("kind", "value", "data"), KNOWN)
def test_examples_of_the_specification(kind: str, value: Any, data: bytes) -> None:
    if kind == "a(si)":
        data = b"hi\0\0\xfe\xff\xff\xff\x03\0\0\0bye\0\xff\xff\xff\xff\x04\x09\x15"
    assert variant.encode(kind, value) == data
    assert variant.decode(kind, data) == value


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("s", b""),
        ("s", b"no end"),
        ("s", b"two\0ends\0"),
        ("s", b"\xff\xfe\0"),
        ("b", b"\2"),
        ("u", b"\0\0\0"),
        ("as", b"a\0\x03"),  # an offset behind the end
        ("as", b"a\0\x00"),  # offsets that are no table
        ("as", b"a\0b\0\x04\x02"),  # offsets that go back
        ("a(si)", b"hi\0\1\xfe\xff\xff\xff\x03"),  # padding that is not zero
        ("(si)", b"foo\0\xff\xff\xff\xff\x05"),
        ("(si)", b""),
        ("(iy)", b"\x60\0\0\0\x70\0\0\1"),
        ("v", b""),
        ("v", b"\0"),
        ("v", b"\1\0\0\0\0ii"),
        ("v", b"\1\0\0\0\0r"),
        ("ms", b"x\0\1"),
        ("a{sv}", b"\1\2\3"),
        ("()", b"\1"),
        ("au", b"\0\0\0\0\0"),
    ],
)
def test_refused(kind: str, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        variant.decode(kind, data, where="here")


@pytest.mark.parametrize("kind", ["", "a", "(", "(s", "a{", "a{vs}", "a{ss", "r", "*", "ss", "m", "a{}", "a" * 300])
def test_no_types(kind: str) -> None:
    assert not variant.is_type(kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("u", -1), ("y", 256), ("s", 5), ("s", "a\0b"), ("(ss)", ("a",)), ("as", "text"), ("b", 1), ("u", True)],
)
def test_values_of_other_types(kind: str, value: Any) -> None:
    with pytest.raises(InvalidInput):
        variant.encode(kind, value)


def test_nesting_is_bounded() -> None:
    value: Any = Variant("s", "x")
    for _ in range(variant.MAX_DEPTH + 5):
        value = Variant("v", value)
    data = variant.encode("v", value)
    with pytest.raises(InvalidInput, match="nested"):
        variant.decode("v", data)


def test_not_minimal_offsets_are_refused() -> None:
    # 260 bytes of one string with a 2-byte offset is right; a 4-byte one is a second spelling.
    good = variant.encode("as", ["x" * 300])
    assert variant.decode("as", good) == ["x" * 300]
    with pytest.raises(InvalidInput):
        variant.decode("as", good[:-2] + good[-2:] + b"\0\0")


def test_first_of_equal_keys_counts() -> None:
    data = variant.encode("a(sv)", [("a", Variant("s", "first")), ("a", Variant("s", "second"))])
    assert variant.decode("a{sv}", data) == {"a": Variant("s", "first")}


def test_plain_values() -> None:
    for value in ("x", True, 5, b"x", ["a"], [b"a"], {"k": "v"}, Variant("u", 5)):
        assert variant.to_plain(variant.from_plain(value)) == value
    assert variant.to_plain(Variant("as", [])) == Variant("as", [])
    with pytest.raises(InvalidInput, match="as a Variant"):
        variant.from_plain(1.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Variant("s", "it's"), '"it\'s"'),
        (Variant("as", ["a", "b"]), "['a', 'b']"),
        (Variant("as", []), "@as []"),
        (Variant("t", 5), "uint64 5"),
        (Variant("ay", b"\1\2"), "[byte 0x01, 0x02]"),
        (Variant("ay", b"hi\0"), "b'hi'"),
        (Variant("a{sv}", {"k": Variant("b", True)}), "{'k': <true>}"),
        (Variant("(s)", ("x",)), "('x',)"),
        (Variant("ms", None), "@ms nothing"),
        (Variant("s", "a\nb\u200b"), "'a\\nb\\u200b'"),
    ],
)
def test_text(value: Variant, text: str) -> None:
    assert variant_text(value) == text
    assert to_text("v", value) == f"<{text}>"
