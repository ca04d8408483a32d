"""Orders of services, and circles."""

from __future__ import annotations

import pytest

from wherry.engine.compose.order import Circle, start_order, with_dependencies


def test_what_is_waited_for_comes_first() -> None:
    waits = {"web": ["db", "cache"], "db": ["disk"], "cache": [], "disk": [], "alone": ["gone"]}
    order = start_order(waits)
    assert sorted(order) == sorted(waits)
    for name, others in waits.items():
        assert all(order.index(other) < order.index(name) for other in others if other in waits)
    assert with_dependencies(["db"], waits) == {"db", "disk"}


def test_circles_are_named() -> None:
    with pytest.raises(Circle) as caught:
        start_order({"a": ["b"], "b": ["c"], "c": ["b"]})
    assert caught.value.trail in (("b", "c", "b"), ("c", "b", "c"))


def test_a_long_chain_needs_no_stack() -> None:
    waits = {f"s{number:05}": [f"s{number + 1:05}"] for number in range(5000)}
    assert start_order({**waits, "s05000": []})[0] == "s05000"
