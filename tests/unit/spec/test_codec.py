"""Strict decoding: the place of every mistake is named, unknown fields survive where they may."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from wherry.core.errors import InvalidInput
from wherry.spec.codec import decode, encode


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    size: int
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    table: Mapping[str, Inner] = field(default_factory=dict)
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


DOCUMENT: dict[str, Any] = {
    "name": "n",
    "inner": {"size": 1, "colour": "blue"},
    "many": [{"size": 2}],
    "table": {"x": {"size": 3}},
    "mode": "b",
    "flag": True,
    "newer": {"kept": [1]},
}


def test_round_trip_keeps_unknown_fields() -> None:
    outer = decode(Outer, DOCUMENT)
    assert outer.inner == Inner(size=1, colour=Colour.BLUE)
    assert outer.extra == {"newer": {"kept": [1]}}
    assert encode(outer) == DOCUMENT


def test_defaults_are_left_out() -> None:
    assert encode(Outer(name="n")) == {"name": "n"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "f: name: must be a string, not a whole number"),
        ({"inner": {}}, "inner: key 'size' is missing"),
        ({"inner": {"size": True}}, "inner.size: must be a whole number, not true or false"),
        ({"inner": {"size": 1, "more": 1}}, "inner: unknown key 'more'"),
        ({"inner": {"size": 1, "colour": "green"}}, "inner.colour: must be one of red, blue, not 'green'"),
        ({"many": {}}, "many: must be a list, not an object"),
        ({"many": [{"size": 1}, None]}, r"many\[1\]: must be an object, not null"),
        ({"table": {"k": []}}, "table.k: must be an object, not a list"),
        ({"mode": "c"}, "mode: must be one of a, b, not 'c'"),
        ({"flag": 1}, "flag: must be true or false, not a whole number"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(Outer, DOCUMENT | change, where="f")
    import re

    text = f"{caught.value.where}: {caught.value.what}"
    assert re.search(message, text), text


def test_not_an_object() -> None:
    with pytest.raises(InvalidInput, match="must be an object, not a list"):
        decode(Outer, [])
