"""Values: what a data class promises, without its imports."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import wherry
from wherry.core.value import EMPTY, Value, defaults_of, fields_of, replace


class Point(Value):
    """A value with a default."""

    x: int
    y: int = 2


class Named(Point):
    """A value that adds to another."""

    name: str
    extra: Mapping[str, Any] = EMPTY


def test_fields_come_by_keyword_and_defaults_fill_in() -> None:
    assert Point(x=1) == Point(x=1, y=2)
    assert Point(x=1) != Point(x=2)
    assert Named(x=1, name="a").y == 2
    assert fields_of(Named) == ("x", "y", "name", "extra")
    assert defaults_of(Named) == {"y": 2, "extra": {}}
    assert repr(Point(x=1)) == "Point(x=1, y=2)"
    assert Point(x=1) != (1, 2)


@pytest.mark.parametrize("given", [{}, {"y": 1}, {"x": 1, "z": 2}, {"x": 1, "y": 2, "z": 3}])
def test_wrong_fields_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="missing"):
        Point(**given)


def test_a_value_never_changes() -> None:
    point = Point(x=1)
    with pytest.raises(AttributeError, match="never changes"):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="never changes"):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 3  # type: ignore[attr-defined]
    assert replace(point, y=5) == Point(x=1, y=5)
    with pytest.raises(TypeError, match="unknown"):
        replace(point, z=5)


def test_values_are_hashed_copied_and_pickled() -> None:
    assert len({Point(x=1), Point(x=1, y=2), Point(x=2)}) == 2
    assert copy.deepcopy(Point(x=1)) == Point(x=1)
    assert pickle.loads(pickle.dumps(Point(x=1))) == Point(x=1)


def test_nothing_is_imported_for_it() -> None:
    code = "import sys; before = set(sys.modules); import wherry.core.value; print(*(set(sys.modules) - before))"
    source = Path(wherry.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert set(done.stdout.split()) == {"__future__", "wherry", "wherry.core", "wherry.core.value"}
