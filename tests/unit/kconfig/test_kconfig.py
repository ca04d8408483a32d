"""What a configuration has of what fragments asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.kconfig.support import fragments

from wherry.build import kconfig
from wherry.build.kconfig import MAX_CONFIG_BYTES, Reason, Why, compare, diff_fragment, parse, serialize
from wherry.core.errors import InvalidInput, NotFound

CONFIG = """#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_A=y
# CONFIG_B is not set
CONFIG_TEXT="a \\"b\\" # c"
CONFIG_NUMBER=0x10
CONFIG_A=m
"""


def test_a_configuration_is_read_as_the_tools_read_it() -> None:
    assert parse(CONFIG) == {
        "CONFIG_B": None,
        "CONFIG_TEXT": '"a \\"b\\" # c"',
        "CONFIG_NUMBER": "0x10",
        "CONFIG_A": "m",
    }


def test_what_is_written_is_read_again() -> None:
    config = parse(CONFIG)
    assert parse(serialize(config)) == config


def test_n_is_written_as_not_set() -> None:
    assert serialize({"CONFIG_A": "n", "CONFIG_B": None}) == "# CONFIG_A is not set\n# CONFIG_B is not set\n"


def test_what_is_not_there_is_not_set(tmp_path: Path) -> None:
    asked = fragments(tmp_path, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\nCONFIG_D=m\n")
    assert [(each.symbol, each.asked, each.got, each.where) for each in compare(asked, {"CONFIG_D": "y"})] == [
        ("CONFIG_A", "y", None, "a/l1: kernel/config:1"),
        ("CONFIG_D", "m", "y", "a/l1: kernel/config:4"),
    ]


def test_only_the_last_wish_counts(tmp_path: Path) -> None:
    asked = fragments(tmp_path, "CONFIG_A=y\n", "\n# CONFIG_A is not set\n")
    assert compare(asked, {}) == []
    (found,) = compare(asked, {"CONFIG_A": "y"})
    assert (found.layer, found.line) == ("a/l2", 2)


@pytest.mark.parametrize(
    ("asked", "got", "same"),
    [
        ("y", "y", True),
        ("y", "m", False),
        ("n", None, True),
        (None, "n", True),
        ('""', None, True),
        ('"a"', '"a"', True),
        ('"a"', None, False),
        ("0x10", "0x0010", True),
        ("0X1F", "0x1f", True),
        ("10", "0x10", False),
        ("007", "7", True),
        ("10", None, False),
        ("0", None, False),
        (None, "0", False),
    ],
)
def test_when_values_are_the_same(asked: str | None, got: str | None, same: bool) -> None:
    assert kconfig.same(asked, got) is same


def test_a_line_for_people_names_who_stands_in_the_way(tmp_path: Path) -> None:
    asked = fragments(tmp_path, "CONFIG_A=y\n", "# CONFIG_NET is not set\n")
    (found,) = compare(asked, {})
    reason = Reason(why=Why.DEPENDS, text="depends on NET=n", symbols={"CONFIG_NET": "n"})
    explained = kconfig.Untaken(
        symbol=found.symbol,
        asked=found.asked,
        got=found.got,
        layer=found.layer,
        path=found.path,
        line=found.line,
        reason=reason,
    )
    assert explained.text(asked) == (
        "CONFIG_A=y is n: depends on NET=n (a/l1: kernel/config:1); CONFIG_NET was set by a/l2: kernel/config:1"
    )
    assert explained.as_json() == {
        "symbol": "CONFIG_A",
        "asked": "y",
        "got": "n",
        "layer": "a/l1",
        "path": "kernel/config",
        "line": 1,
        "why": "depends",
        "reason": "depends on NET=n",
        "symbols": {"CONFIG_NET": "n"},
    }


def test_a_difference_is_a_fragment() -> None:
    before = {"CONFIG_A": "y", "CONFIG_B": None, "CONFIG_C": '"x"', "CONFIG_GONE": "y", "CONFIG_ASKED": "y"}
    after = {"CONFIG_A": None, "CONFIG_B": "m", "CONFIG_C": '"x"', "CONFIG_D": "5"}
    assert diff_fragment(before, after, asked={"CONFIG_ASKED"}) == (
        "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_D=5\n# CONFIG_ASKED is not set\n"
    )


def test_no_difference_is_an_empty_fragment() -> None:
    assert diff_fragment({"CONFIG_A": None}, {}) == ""


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        kconfig.read(tmp_path / ".config")
    (tmp_path / ".config").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not text"):
        kconfig.read(tmp_path / ".config")
    (tmp_path / ".config").write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(InvalidInput, match="more than"):
        kconfig.read(tmp_path / ".config")
