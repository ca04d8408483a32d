"""Variables: the specification's table, and what is no variable."""

from __future__ import annotations

import pytest

from wherry.engine.compose.interpolate import BadVariable, escape, interpolate

VARIABLES = {"SET": "value", "EMPTY": "", "OTHER": "other", "_a1": "low"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a${SET}b$OTHER.c", "avaluebother.c"),
        ("$SET_X", ""),
        ("${_a1}", "low"),
        ("${UNSET:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${SET:-default}", "value"),
        ("${UNSET-default}", "default"),
        ("${EMPTY-default}", ""),
        ("${SET-default}", "value"),
        ("${SET:?no}", "value"),
        ("${EMPTY?no}", ""),
        ("${SET:+there}", "there"),
        ("${EMPTY:+there}", ""),
        ("${EMPTY+there}", "there"),
        ("${UNSET+there}", ""),
        ("${UNSET:-${OTHER}}", "other"),
        ("${UNSET:-${NO:-deep}}", "deep"),
        ("${UNSET:-a}b}", "ab}"),
        ("${UNSET:-$OTHER}", "other"),
        ("${UNSET:-}", ""),
        ("${SET:+${OTHER:-x}}", "other"),
        ("$$SET", "$SET"),
        ("$$$SET", "$value"),
        ("$${SET}", "${SET}"),
        ("$1 $(x) $ a$", "$1 $(x) $ a$"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-http://h:80/?q}", "http://h:80/?q"),
    ],
)
def test_table(text: str, expected: str) -> None:
    assert interpolate(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${UNSET:?give it}", "the variable UNSET must be set: give it"),
        ("${EMPTY:?}", "the variable EMPTY must be set"),
        ("${UNSET?$OTHER}", "must be set: other"),
        ("${SET", "no closing brace"),
        ("${SET/a/b}", "not a variable"),
        ("${}", "not a variable"),
        ("${1a}", "not a variable"),
        ("${SET:=x}", "not a variable"),
        ("${U:-" * 30 + "}" * 30, "nested deeper"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(BadVariable, match=words.replace("$", "\\$")):
        interpolate(text, VARIABLES)


def test_unset_variables_are_told_unless_there_is_a_default() -> None:
    told: list[str] = []
    interpolate("$A ${B} ${C:-x} ${D-x} ${E:+x} $SET", VARIABLES, unset=told.append)
    assert told == ["A", "B"]


def test_what_is_escaped_comes_back() -> None:
    for text in ("$A ${B:-c} $$", "no", "$"):
        assert interpolate(escape(text), {"A": "x"}) == text
