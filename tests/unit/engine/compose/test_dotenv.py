"""Files of variables: quotes, comments, escapes, variables in them."""

from __future__ import annotations

import pytest

from wherry.core.errors import InvalidInput
from wherry.engine.compose.dotenv import parse


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("VAR=VAL", "VAL"),
        ('VAR="VAL"', "VAL"),
        ("VAR='VAL'", "VAL"),
        ("VAR=VAL # comment", "VAL"),
        ("VAR=VAL# not a comment", "VAL# not a comment"),
        ('VAR="VAL # not a comment"', "VAL # not a comment"),
        ('VAR="VAL" # comment', "VAL"),
        ("VAR='$OTHER'", "$OTHER"),
        ("VAR='${OTHER}'", "${OTHER}"),
        ("VAR=$OTHER", "there"),
        ('VAR="a ${OTHER} b"', "a there b"),
        (r"VAR='Let\'s go!'", "Let's go!"),
        (r'VAR="{\"hello\": \"json\"}"', '{"hello": "json"}'),
        (r'VAR="some\tvalue"', "some\tvalue"),
        (r"VAR='some\tvalue'", r"some\tvalue"),
        (r"VAR=some\tvalue", r"some\tvalue"),
        ("export VAR=1", "1"),
        ("VAR = spaced", "spaced"),
        ("VAR=", ""),
        ("VAR", None),
        ('VAR="two\nlines"', "two\nlines"),
        ("VAR=a=b", "a=b"),
    ],
)
def test_lines(line: str, value: str | None) -> None:
    assert parse(f"# head\n\n{line}\nNEXT=1\n", {"OTHER": "there"}, where=".env") == {"VAR": value, "NEXT": "1"}


def test_a_value_may_use_what_stands_above() -> None:
    assert parse("A=1\nB=${A}2\n", {"A": "caller"}, where=".env") == {"A": "1", "B": "12"}


def test_raw() -> None:
    assert parse("A='x $Y' # z\r\nB\n", {}, where="f", raw=True) == {"A": "'x $Y' # z", "B": None}


@pytest.mark.parametrize("line", ["=x", "a b=c", "A='1", 'A="open', "A='x' y"])
def test_refused_with_its_line(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.env:2"):
        parse(f"OK=1\n{line}\n", {}, where=".env")
