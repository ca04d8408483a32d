"""Lean code is what it was, but for documentation and columns."""

from __future__ import annotations

import marshal
import traceback
from pathlib import Path
from types import CodeType

import pytest

import wherry
from wherry.lean import lean

SOURCES = sorted(Path(wherry.__file__).parent.glob("[!_]*/*.py"))

MODULE = '''"""Of the module."""
from __future__ import annotations

class Sample:
    """Of the class."""

    field: int = 1
    """Of the field."""

    def method(self) -> str:
        """Of the method."""
        return "kept"

    def plain(self) -> str:
        return "Of nothing."

def function(number):
    """Of the function."""
    inner = lambda: "Of no lambda."
    listed = [inner() for _ in range(2)]
    return (
        listed[0] +
        1 // number
    )

async def later(): "Of a coroutine."
'''


def every(code: CodeType) -> list[CodeType]:
    return [code, *(found for item in code.co_consts if isinstance(item, CodeType) for found in every(item))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_module_keeps_its_lines_and_its_code(path: Path) -> None:
    before = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    after = lean(before)
    for old, new in zip(every(before), every(after), strict=True):
        assert old.co_code == new.co_code
        assert old.co_exceptiontable == new.co_exceptiontable
        lines = {place: line for start, end, line in old.co_lines() for place in range(start, end, 2)}
        assert lines == {place: line for start, end, line in new.co_lines() for place in range(start, end, 2)}
        assert all(column is None for *_, column, _ in new.co_positions())
    assert len(marshal.dumps(after)) < len(marshal.dumps(before))


def test_what_is_documentation_goes_and_what_looks_like_it_stays() -> None:
    names: dict[str, object] = {}
    exec(lean(compile(MODULE, "sample", "exec", dont_inherit=True)), names)
    sample, function = names["Sample"], names["function"]
    assert isinstance(sample, type)
    assert callable(function)
    assert names["__doc__"] is None
    assert sample.__doc__ is None
    assert sample.__name__ == "Sample"
    assert vars(sample)["method"].__doc__ is None
    assert (sample().method(), sample().plain()) == ("kept", "Of nothing.")
    assert names["later"].__doc__ is None
    with pytest.raises(ZeroDivisionError) as caught:
        function(0)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.lineno == MODULE.splitlines().index("        1 // number") + 1
    with pytest.raises(TypeError):
        function(1)
