"""Values to JSON and back, by their annotations as they are written."""

from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from wherry.core.errors import InvalidInput
from wherry.core.value import EMPTY, Value
from wherry.spec.codec import decode
from wherry.spec.values import decode_value, encode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Value):
    size: int
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    inner: Inner
    word: str = ""


class Outer(Value):
    name: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    table: Mapping[str, Inner] = EMPTY
    lists: Mapping[str, tuple[int, ...]] = EMPTY
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    share: float = 0.0
    old: Old | None = None
    extra: Mapping[str, Any] = EMPTY


class Wrong(Value):
    what: int | str = 1


DOCUMENT: dict[str, Any] = {
    "name": "n",
    "inner": {"size": 1, "colour": "blue"},
    "many": [{"size": 2}],
    "table": {"x": {"size": 3}},
    "lists": {"y": [1, 2]},
    "mode": "b",
    "flag": True,
    "share": 0.5,
    "old": {"inner": {"size": 4}},
    "newer": {"kept": [1]},
}


def test_round_trip_keeps_unknown_fields() -> None:
    outer = decode_value(Outer, DOCUMENT)
    assert outer.inner == Inner(size=1, colour=Colour.BLUE)
    assert outer.lists == {"y": (1, 2)}
    assert outer.old == Old(inner=Inner(size=4))
    assert outer.extra == {"newer": {"kept": [1]}}
    assert encode(outer) == DOCUMENT
    assert decode(Outer, DOCUMENT) == outer


def test_defaults_are_left_out_and_none_is_read() -> None:
    assert encode(Outer(name="n")) == {"name": "n"}
    assert decode_value(Outer, {"name": "n", "inner": None, "share": 1}) == Outer(name="n", share=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name: must be a string, not a whole number"),
        ({"inner": {}}, "inner: key 'size' is missing"),
        ({"inner": {"size": True}}, "inner.size: must be a whole number, not true or false"),
        ({"inner": {"size": 1, "more": 1}}, "inner: unknown key 'more'"),
        ({"inner": {"size": 1, "colour": "green"}}, "inner.colour: must be one of red, blue, not 'green'"),
        ({"many": {}}, "many: must be a list, not an object"),
        ({"many": [{"size": 1}, None]}, "many[1]: must be an object, not null"),
        ({"table": {"k": []}}, "table.k: must be an object, not a list"),
        ({"table": []}, "table: must be an object, not a list"),
        ({"lists": {"k": ["1"]}}, "lists.k[0]: must be a whole number, not a string"),
        ({"mode": "c"}, "mode: must be one of a, b, not 'c'"),
        ({"flag": 1}, "flag: must be true or false, not a whole number"),
        ({"old": {"inner": {"size": 1}, "more": 1}}, "old: unknown key 'more'"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_value(Outer, DOCUMENT | change, where="f")
    assert (caught.value.where, caught.value.what) == ("f", message)


def test_an_annotation_that_cannot_be_read_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.what"):
        decode_value(Wrong, {"what": 1})


def test_no_imports_are_paid_for() -> None:
    code = (
        "from wherry.engine.spec import ContainerConfig; from wherry.spec.values import decode_value, encode;"
        "config = decode_value(ContainerConfig, {'id': 'a', 'name': 'b', 'created_s': 1, 'image': '', 'commit': '',"
        " 'argv': [], 'spec': {'mounts': [{'type': 'bind', 'target': '/a'}]}}); encode(config);"
        "print({'typing', 'enum', 're', 'dataclasses', 'json', 'collections'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
