"""The chain: after all that it stands on, as asked otherwise; and SkiffOS' own order, as its scripts have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.build.support import made

from wherry.build.layers import Layer, Layers
from wherry.build.resolving import resolve, skiffos_order
from wherry.core.errors import InvalidInput, NotFound

REAL = {
    "core/gentoo": "skiff/core",
    "skiff/core": "apps/docker",
    "apps/docker": "apps/containerd",
    "apps/containerd": "apps/runc",
    "apps/runc": "",
    "virt/qemu": "",
}
DIAMOND = {"d/1": "d/2, d/base", "d/2": "d/top", "d/top": "d/base", "d/base": ""}


def names(chain: list[Layer]) -> list[str]:
    return [layer.name for layer in chain]


def test_a_dependency_that_is_asked_for_later_comes_first_all_the_same(tmp_path: Path) -> None:
    layers = made(tmp_path, REAL)
    asked = ["core/gentoo", "skiff/core"]
    assert names(resolve(layers, asked)) == ["apps/runc", "apps/containerd", "apps/docker", "skiff/core", "core/gentoo"]
    theirs = ["core/gentoo", "apps/runc", "apps/containerd", "apps/docker", "skiff/core"]
    assert names(skiffos_order(layers, asked, print)) == theirs


def test_a_diamond(tmp_path: Path) -> None:
    layers = made(tmp_path, DIAMOND)
    assert names(resolve(layers, ["d/1"])) == ["d/base", "d/top", "d/2", "d/1"]
    assert names(skiffos_order(layers, ["d/1"], print)) == ["d/top", "d/2", "d/base", "d/1"]


def test_as_asked_where_nothing_else_counts(tmp_path: Path) -> None:
    layers = made(tmp_path, REAL)
    assert names(resolve(layers, ["virt/qemu", "apps/runc", "virt/qemu"])) == ["virt/qemu", "apps/runc"]
    assert names(resolve(layers, ["apps/runc", "virt/qemu"])) == ["apps/runc", "virt/qemu"]


def test_the_way_to_what_is_wrong_is_told(tmp_path: Path) -> None:
    layers = made(tmp_path, {"a/1": "a/2", "a/2": "a/3", "a/3": "a/none", "c/1": "c/2", "c/2": "c/1", "c/3": "c/1"})
    with pytest.raises(NotFound, match="a/1 -> a/2 -> a/3 -> a/none"):
        resolve(layers, ["a/1"])
    with pytest.raises(InvalidInput, match="each other: c/1 -> c/2 -> c/1"):
        resolve(layers, ["c/3"])
    assert names(skiffos_order(layers, ["c/1"], print)) == ["c/2", "c/1"], "SkiffOS says nothing about circles"


def test_what_skiffos_leaves_out(tmp_path: Path) -> None:
    layers = made(tmp_path, {"a/b": "", "a/bad": "x;y", "pi/4": "", "a/d-e": "", "n/o": "-x/y"})
    told: list[str] = []
    assert names(skiffos_order(layers, ["bad", "t-x/y", "a/bad", "a/b", "Pi/4", "pi/4"], told.append)) == [
        "a/b",
        "Pi/4",
        "pi/4",
    ]
    assert [text.partition(":")[0] for text in told] == ["bad", "t-x/y", "a/bad"]
    for unknown in ("a/none", "a/d-e"):
        with pytest.raises(NotFound):
            skiffos_order(layers, [unknown], told.append)


graphs = st.integers(1, 9).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=4), min_size=size, max_size=size)
)


@given(graphs, st.lists(st.integers(0, 8), min_size=1, max_size=9))
def test_any_graph(tmp_path_factory: pytest.TempPathFactory, graph: list[list[int]], asked: list[int]) -> None:
    top = tmp_path_factory.mktemp("layers")
    below = [[other for other in others if other < index] for index, others in enumerate(graph)]  # no circles
    layers: Layers = made(top, {f"l/{i}": ",".join(f"l/{other}" for other in others) for i, others in enumerate(below)})
    wanted = [f"l/{index % len(graph)}" for index in asked]
    chain = names(resolve(layers, wanted))
    assert len(set(chain)) == len(chain)
    place = {name: index for index, name in enumerate(chain)}
    for name in chain:
        assert all(place[other] < place[name] for other in layers.get(name).dependencies)
    needed = set(wanted)
    while more := {other for name in needed for other in layers.get(name).dependencies} - needed:
        needed |= more
    assert set(chain) == needed
