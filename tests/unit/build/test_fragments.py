"""Fragments of a chain: the later wins, whatever the kind, and who set what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.support import made

from wherry.build.fragments import KINDS, Problem, merge, parse
from wherry.build.layers import Layers
from wherry.build.resolving import resolve
from wherry.core.errors import InvalidInput, Unsupported


def chain(tmp_path: Path, kind: str = "kernel", **fragments: str) -> list[str]:
    """Makes layers a/one and a/two with a fragment each, and returns what they come to."""
    layers = made(tmp_path, {"a/two": "a/one", "a/one": ""})
    put(tmp_path, kind, **fragments)
    return merge(resolve(layers, ["a/two"]), kind).text().splitlines()


def put(top: Path, kind: str, **fragments: str) -> None:
    for name, text in fragments.items():
        folder = top / "a" / name.partition("_")[0] / kind
        folder.mkdir(exist_ok=True)
        (folder / (name.partition("_")[2] or "config")).write_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_later_wins_in_every_kind(tmp_path: Path, kind: str) -> None:
    assert chain(
        tmp_path,
        kind,
        one='# why\nBR2_A=y\nCONFIG_B=m\nCONFIG_C="x y"\n\n# CONFIG_D is not set\n',
        two="CONFIG_B=y\nCONFIG_D=1\n# BR2_A is not set\n",
    ) == [
        f"# a/one: {kind}/config",
        'CONFIG_C="x y"',
        "",
        f"# a/two: {kind}/config",
        "CONFIG_B=y",
        "CONFIG_D=1",
        "# BR2_A is not set",
    ]


def test_files_by_the_bytes_of_their_names(tmp_path: Path) -> None:
    assert chain(tmp_path, one_b9="CONFIG_A=9\n", one_b10="CONFIG_A=10\n", one_B="CONFIG_A=B\n")[-1] == "CONFIG_A=9"


def test_who_set_what(tmp_path: Path) -> None:
    layers: Layers = made(tmp_path, {"a/two": "a/one", "a/one": ""})
    put(tmp_path, "kernel", one="\nCONFIG_A=m\nCONFIG_B=y\n", two="CONFIG_A=y\nCONFIG_A=m\nCONFIG_B=y\n")
    merged = merge(resolve(layers, ["a/two"]), "kernel")
    assert [setting.where for setting in merged.history["CONFIG_A"]] == [
        "a/one: kernel/config:2",
        "a/two: kernel/config:1",
        "a/two: kernel/config:2",
    ]
    assert [(old.value, new.value) for old, new in merged.redefined()] == [("m", "y"), ("y", "m")], "B is the same"
    assert str(tmp_path) not in merged.text()


def test_the_layers_own_folder(tmp_path: Path) -> None:
    (line,) = chain(tmp_path, one='BR2_EXT="SKIFF_CONFIG_ROOT/x SKIFF_CONFIG_ROOT/y"\n')[1:]
    assert line == f'BR2_EXT="{tmp_path}/a/one/x {tmp_path}/a/one/y"'


def test_lines_that_are_none(tmp_path: Path) -> None:
    layers = made(tmp_path, {"a/two": ""})
    put(tmp_path, "kernel", two="CONFIG_A=y\nCONFIG_B\n")
    merged = merge(list(layers), "kernel")
    assert [(where, problem.text) for where, problem in merged.problems] == [("a/two: kernel/config:2", "CONFIG_B")]
    assert list(merged.history) == ["CONFIG_A"]
    with pytest.raises(Unsupported, match="no fragments of the kind 'hooks'"):
        merge([], "hooks")
    found = [item for item in parse('a\n A=y\nB="x\n#c is not set\n# d=y\nE=\nF=0x1 \n') if isinstance(item, Problem)]
    assert [(item.line, item.passed_over) for item in found] == [(1, False), (2, True), (3, False)]


def test_a_fragment_that_is_too_long_or_no_text(tmp_path: Path) -> None:
    made(tmp_path, {"a/one": ""})
    put(tmp_path, "kernel", one="")
    path = tmp_path / "a/one/kernel/config"
    for data, why in ((b"\xff\n", "UTF-8"), (b"# x\n" * 300_000, "more than")):
        path.write_bytes(data)
        from wherry.build.layers import find_layers

        with pytest.raises(InvalidInput, match=why):
            merge(list(find_layers([tmp_path])), "kernel")
