"""JSON drop-ins of a chain: the later wins, and it is known who said what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.build import dropins
from wherry.build.dropins import Combined, combine, combine_all, names_of
from wherry.build.layers import Layer
from wherry.core.errors import InvalidInput, NotFound

NAME = "docker/daemon.json"

values = st.recursive(
    st.none() | st.integers(0, 3) | st.text("ab/~", max_size=2) | st.lists(st.integers(0, 1), max_size=2),
    lambda inner: st.dictionaries(st.text("ab/~", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text("ab/~", min_size=1, max_size=2), values, max_size=4)


def layer(top: Path, name: str, files: dict[str, Any]) -> Layer:
    """Makes a layer with drop-ins: ``docker/daemon.json.d/x.json`` -> a value, or text as it stands."""
    path = top / name
    path.mkdir(parents=True)
    for file, value in files.items():
        place = path / "resources" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(value if isinstance(value, str) else json.dumps(value))
    return Layer(name=name, path=path)


def of(top: Path, *every: dict[str, Any]) -> Combined:
    """Combines one document of each layer."""
    return combine(
        [layer(top, f"a/l{number}", {f"{NAME}.d/x.json": value}) for number, value in enumerate(every)], NAME
    )


def test_the_later_layer_wins(tmp_path: Path) -> None:
    # what SkiffOS' own hook gets wrong: the first one's value stayed
    found = of(tmp_path, {"storage-driver": "first", "a": {"b": 1, "c": 2}}, {"storage-driver": "last", "a": {"c": 3}})
    assert found.value == {"storage-driver": "last", "a": {"b": 1, "c": 3}}
    assert [(said.layer, said.value) for said in found.history["/storage-driver"]] == [
        ("a/l0", "first"),
        ("a/l1", "last"),
    ]
    assert [pointer for pointer, _, _ in found.redefined()] == ["/storage-driver", "/a/c"]
    assert found.history["/a/b"][-1].where == "a/l0: resources/docker/daemon.json.d/x.json"
    assert found.layers == ("a/l0", "a/l1")


def test_files_of_a_layer_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    files = {f"{NAME}.d/{name}": {"who": name} for name in ("b9.json", "b10.json", "B.json", ".hidden.json", "no.txt")}
    found = combine([layer(tmp_path, "a/b", files)], NAME)
    assert found.value == {"who": "b9.json"}
    assert [said.value for said in found.history["/who"]] == ["B.json", "b10.json", "b9.json"]


def test_null_takes_away_and_is_remembered(tmp_path: Path) -> None:
    found = of(tmp_path, {"a": {"x": 1, "y": 2}, "b": [1, 2]}, {"a": None, "b": [3]})
    assert found.value == {"b": [3]}
    assert found.history["/a"][-1].value is None
    assert "/a/x" not in found.history


def test_every_file_of_a_chain(tmp_path: Path) -> None:
    chain = [
        layer(tmp_path, "a/b", {f"{NAME}.d/x.json": {}, "deep/er/x.json.d/1.json": {"a": 1}, "top.json.d/1.json": {}}),
        layer(tmp_path, "a/c", {"empty.json.d/README": "", "plain/x.json": {}}),
    ]
    assert names_of(chain) == ["deep/er/x.json", NAME, "top.json"]
    assert [found.name for found in combine_all(chain)] == ["deep/er/x.json", NAME, "top.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a JSON object"),
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "a"),
        ('{"a": NaN}', "NaN"),
        ("\xff", "not JSON"),
        ('{"a":' * 70 + "1" + "}" * 70, "more than 64 objects"),
        ('{"a":' * 100_000, "not JSON"),
        (" " * (dropins.MAX_BYTES + 1), "longer than the limit"),
    ],
)
def test_what_is_no_drop_in(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        combine([layer(tmp_path, "a/b", {f"{NAME}.d/bad.json": text})], NAME)
    assert str(caught.value.where).endswith("bad.json")


def test_no_such_drop_ins(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        combine([layer(tmp_path, "a/b", {f"{NAME}.d/x.json": {}})], "docker/demon.json")
    assert caught.value.hint == "there are docker/daemon.json"


@given(st.lists(documents, min_size=1, max_size=4))
def test_the_blame_is_of_what_is_there(tmp_path_factory: pytest.TempPathFactory, every: list[dict[str, Any]]) -> None:
    found = of(tmp_path_factory.mktemp("layers"), *every)
    said = {pointer: every[-1].value for pointer, every in found.history.items() if every[-1].value is not None}
    assert {pointer: value for pointer, value in leaves(found.value, "") if value != {}} == {
        pointer: value for pointer, value in said.items() if value != {}
    }


def leaves(value: Any, pointer: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        return [(pointer, value)]
    return [
        leaf
        for key, item in value.items()
        for leaf in leaves(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    ]
