"""Why settings do not take, in small trees: one for every reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.place import plain_place
from tests.unit.kconfig.support import reasons, tree

from wherry.build import kconfig, kconfig_explain
from wherry.build.kconfig import Untaken, Why
from wherry.build.kconfig_tree import Tree, explained

TREE = """
config MODULES
	bool "modules"
	modules

config NET
	bool "network"

config PCI
	bool "PCI"

config OLD
	bool "old"

config DRIVER
	tristate "driver"
	depends on NET && PCI && !OLD

config EITHER
	bool "either"
	depends on NET || (PCI && OLD)

config LARGE
	bool "large" if NR > 8

config NR
	int "number"
	range 2 16
	default 4

config ADDRESS
	hex "address"
	range 0x100 0x200
	default 0x100

config NAME
	string "name"

config HIDDEN
	bool
	depends on PCI

config WANTS
	bool "wants"
	select HIDDEN
	select HELPER

config HELPER
	bool "helper"

config BROKEN_ONE
	bool "broken"
	depends on NOWHERE

config EXPERT
	bool "expert"

config ALWAYS
	bool "always" if EXPERT
	default y

choice
	prompt "compression"
config GZIP
	bool "gzip"
config XZ
	bool "xz"
config ZSTD
	bool "zstd"
	depends on PCI
endchoice

menu "sound"
	visible if NET
config SOUND
	bool "sound"
	depends on PCI
endmenu
"""


@pytest.mark.parametrize(
    ("wish", "got", "why", "text"),
    [
        ("CONFIG_NETT=y", None, Why.NO_SUCH_SYMBOL, "there is no such symbol; did you mean NET?"),
        ("CONFIG_QWERTYUIOP=y", None, Why.NO_SUCH_SYMBOL, "there is no such symbol"),
        ("CONFIG_DRIVER=y", None, Why.DEPENDS, "depends on NET=n and PCI=n"),
        ("CONFIG_NET=y\nCONFIG_DRIVER=y", None, Why.DEPENDS, "depends on PCI=n"),
        (
            "CONFIG_NET=y\nCONFIG_PCI=y\nCONFIG_OLD=y\nCONFIG_DRIVER=y",
            None,
            Why.DEPENDS,
            "depends on !OLD, and OLD is y",
        ),
        ("CONFIG_EITHER=y", None, Why.DEPENDS, "depends on NET=n"),
        ("CONFIG_LARGE=y", None, Why.DEPENDS, "depends on NR > 8, and NR is 4"),
        ("CONFIG_NR=99", "4", Why.RANGE, "out of its range, 2 to 16"),
        ("CONFIG_NR=many", "4", Why.TYPE, "it is a number, and 'many' is none"),
        ("CONFIG_ADDRESS=0x5", "0x100", Why.RANGE, "out of its range, 0x100 to 0x200"),
        ("CONFIG_ADDRESS=zz", "0x100", Why.TYPE, "it is a hexadecimal number, and 'zz' is none"),
        ("CONFIG_NAME=bare", '""', Why.TYPE, "it is a string, and 'bare' is not in quotes"),
        ('CONFIG_NET="y"', None, Why.TYPE, "it is y or n, and '\"y\"' is neither"),
        (
            "CONFIG_HIDDEN=y",
            None,
            Why.NO_PROMPT,
            "it has no prompt: others select it, as WANTS; and it depends on PCI=n",
        ),
        ("CONFIG_WANTS=y\n# CONFIG_HELPER is not set", "y", Why.SELECTED, "selected by WANTS=y"),
        ("CONFIG_BROKEN_ONE=y", None, Why.DEPENDS, "depends on NOWHERE, which there is not"),
        ("# CONFIG_ALWAYS is not set", "y", Why.DEPENDS, "depends on EXPERT=n, so its default counts"),
        ("CONFIG_GZIP=y\nCONFIG_XZ=y", None, Why.CHOICE, "of its choice, XZ is chosen"),
        ("CONFIG_ZSTD=y", None, Why.DEPENDS, "depends on PCI=n"),
        (
            "# CONFIG_GZIP is not set\n# CONFIG_XZ is not set",
            "y",
            Why.CHOICE,
            "a choice must have one; instead of it: XZ",
        ),
        ("CONFIG_PCI=y\nCONFIG_SOUND=y", None, Why.DEPENDS, "depends on NET=n"),
    ],
)
def test_every_reason(tmp_path: Path, wish: str, got: str | None, why: Why, text: str) -> None:
    found = reasons(tmp_path, TREE, wish + "\n")
    ((untaken, reason),) = found.values()
    assert (untaken.got, reason.why, reason.text) == (got, why, text)


def test_of_an_or_the_smallest_side_is_told(tmp_path: Path) -> None:
    text = (
        'config A\n\tbool\nconfig B\n\tbool\nconfig C\n\tbool\nconfig X\n\tbool "x"\n\tdepends on (A && B) || B || C\n'
    )
    ((_, reason),) = reasons(tmp_path, text, "CONFIG_X=y\n").values()
    assert reason.text == "depends on (B=n or C=n)"
    assert reason.symbols == {"CONFIG_B": "n", "CONFIG_C": "n"}


def test_a_module_that_depends_on_one_is_no_more_than_that(tmp_path: Path) -> None:
    text = (
        'config MODULES\n\tdef_bool y\n\tmodules\nconfig A\n\ttristate "a"\nconfig B\n\ttristate "b"\n\tdepends on A\n'
    )
    ((untaken, reason),) = reasons(tmp_path, text, "CONFIG_A=m\nCONFIG_B=y\n").values()
    assert (untaken.symbol, untaken.got, reason.text) == ("CONFIG_B", "m", "depends on A=m")


def test_where_there_are_no_modules(tmp_path: Path) -> None:
    kconf = tree(tmp_path, TREE)
    kconf.syms["NET"].set_value(2)
    kconf.syms["PCI"].set_value(2)
    kconf.syms["DRIVER"].set_value(2)
    (reason,) = kconfig_explain.explain(kconf, [{"symbol": "CONFIG_DRIVER", "asked": "m", "got": "y"}])
    assert reason == {
        "why": "no-modules",
        "text": "there are no modules here, so it is y",
        "symbols": {"CONFIG_MODULES": "n"},
    }


def test_another_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_", "")
    kconf = tree(tmp_path, 'config BR2_A\n\tbool "a"\n\tdepends on BR2_B\nconfig BR2_B\n\tbool "b"\n')
    (reason,) = kconfig_explain.explain(kconf, [{"symbol": "BR2_A", "asked": "y", "got": None}])
    assert (reason["text"], reason["symbols"]) == ("depends on BR2_B=n", {"BR2_B": "n"})


def untaken(symbol: str) -> Untaken:
    return Untaken(symbol=symbol, asked="y", got=None, layer="a/b", path="kernel/c", line=1)


def test_the_program_answers_with_the_trees_environment(tmp_path: Path) -> None:
    (tmp_path / "Kconfig").write_text(
        'config MADE\n\tdef_bool $(shell,echo $(FLAG))\nconfig A\n\tbool "a"\n\tdepends on B\nsource "more/Kconfig"\n'
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more/Kconfig").write_text('config B\n\tbool "b"\n\tdepends on !MADE\n\ttransitional\n')
    (tmp_path / ".config").write_text("CONFIG_MADE=y\n")
    described = Tree(folder=tmp_path, environment={"FLAG": "y", "srctree": str(tmp_path)})
    place = plain_place(tmp_path)
    found = explained(place, described, tmp_path / ".config", [untaken("CONFIG_A"), untaken("CONFIG_B")])
    assert [each.reason.text for each in found] == ["depends on B=n", "depends on !MADE, and MADE is y"]


@pytest.mark.parametrize("text", ["config A\n\tnonsense\n", 'source "missing"\n', "config A\n\tbool\n\tdepends on (\n"])
def test_a_tree_that_cannot_be_read_is_no_failure(tmp_path: Path, text: str) -> None:
    (tmp_path / "Kconfig").write_text(text)
    (tmp_path / ".config").write_text("")
    place = plain_place(tmp_path)
    described = Tree(folder=tmp_path, environment={"srctree": str(tmp_path)})
    (found,) = explained(place, described, tmp_path / ".config", [untaken("CONFIG_A")])
    assert found.reason.why == Why.NOT_KNOWN
    assert any("cannot be told" in line for line in place.lines)


def test_an_answer_is_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Kconfig").write_text('config A\n\tbool "a"\n')
    (tmp_path / ".config").write_text("CONFIG_A=y\n")
    monkeypatch.chdir(tmp_path)
    request: dict[str, Any] = {
        "folder": str(tmp_path),
        "kconfig": "Kconfig",
        "config": ".config",
        "untaken": [],
    }
    assert json.dumps(kconfig_explain.answered(request)) == "[]"
    assert kconfig.read(tmp_path / ".config") == {"CONFIG_A": "y"}
