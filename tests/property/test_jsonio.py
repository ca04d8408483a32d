"""JSON read and written by the interpreter's own scanner and encoder: the library is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wherry
from wherry.core import jsonio
from wherry.core.errors import InvalidInput

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
with_fractions = st.recursive(
    plain | st.floats(allow_nan=False, allow_infinity=False), lambda inner: st.lists(inner, max_size=3), max_leaves=8
)


@given(plain)
def test_canonical_is_the_library_s(value: Any) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        expected = text.encode()
    except UnicodeEncodeError:
        return
    assert jsonio.canonical(value) == expected
    assert jsonio.loads(expected) == value


@given(with_fractions)
def test_what_is_written_is_read_back(value: Any) -> None:
    try:
        data = jsonio.compact(value)
    except UnicodeEncodeError:
        return
    assert jsonio.loads(data) == value == json.loads(data)


@given(plain, st.data())
def test_damaged_text_is_taken_or_refused_as_by_the_library(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text)))
    damaged = (
        text[:place] + data.draw(st.sampled_from(["", "x", '"', "{", "]", ",", ":", "\\", "\0"])) + text[place + 1 :]
    )
    try:
        expected = json.loads(damaged, object_pairs_hook=jsonio._no_duplicates, parse_constant=jsonio._no_constant)
    except (ValueError, InvalidInput):
        with pytest.raises(InvalidInput):
            jsonio.loads(damaged)
    else:
        assert jsonio.loads(damaged) == expected


@pytest.mark.parametrize("text", [b"", b"{", b'{"a" 1}', b'"abc', b"[1,", b"nul", b'{"a":1}x', b"\xff", b"[NaN]"])
def test_what_is_wrong_is_said_in_words(text: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"not JSON|is not a JSON number"):
        jsonio.loads(text)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InvalidInput):
        jsonio.loads("[" * 200_000)


def test_the_library_is_not_imported() -> None:
    source = Path(wherry.__file__).parents[1]
    code = (
        f"import sys; sys.path.insert(0, {str(source)!r}); from wherry.core import jsonio;"
        "jsonio.canonical(jsonio.loads(b' {\"a\": [1.5]} ')['a'][:0]);"
        "print('json' in sys.modules, 're' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]
