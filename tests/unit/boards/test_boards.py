"""A board is what a chain's layers say, the later over the earlier; for another architecture only if it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.support import write

from wherry.build.boards import Board, Boot, Machine, board_of
from wherry.build.checking import check
from wherry.build.layers import find_layers
from wherry.build.resolving import resolve
from wherry.core.errors import InvalidInput

FAMILY = """
family: Chips
architecture: arm64
console: ttyS0,115200
command_line: [panic=1, quiet]
machine: {machine: virt, cpu: cortex-a57}
"""
ONE = """
title: One
boot: extlinux
device_tree: maker/one.dtb
command_line: [quiet]
machine: {cpu: cortex-a53}
architectures:
  armhf: {console: ttyS1, device_tree: ""}
"""


def board(top: Path, files: dict[str, str], architecture: str = "") -> Board:
    write(top, {"chips/one": "soc/chip", "soc/chip": "", "host/small": ""})
    for name, text in files.items():
        (top / name / "board").mkdir(exist_ok=True)
        (top / name / "board/board.yaml").write_text(text)
    return board_of(resolve(find_layers([top]), ["chips/one", "host/small"]), architecture)


def test_the_later_says_it_over_the_earlier(tmp_path: Path) -> None:
    found = board(tmp_path, {"soc/chip": FAMILY, "chips/one": ONE})
    assert (found.title, found.family, found.boot) == ("One", "Chips", Boot.EXTLINUX)
    assert found.command_line == ("panic=1", "quiet")
    assert found.machine == Machine(machine="virt", cpu="cortex-a53")
    assert board_of(resolve(find_layers([tmp_path]), ["host/small"])) == Board()


def test_for_another_architecture(tmp_path: Path) -> None:
    files = {"soc/chip": FAMILY, "chips/one": ONE}
    found = board(tmp_path, files, "armhf")
    assert (found.architecture, found.console, found.device_tree) == ("armhf", "ttyS1", "")
    chain = resolve(find_layers([tmp_path]), ["chips/one"])
    assert board_of(chain, "arm64") == board_of(chain)
    with pytest.raises(InvalidInput, match=r"One is not amd64.*it is arm64, armhf"):
        board_of(chain, "amd64")
    assert board_of([], "amd64").architecture == "amd64"
    with pytest.raises(InvalidInput, match="not an architecture: 'x86'"):
        board_of([], "x86")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("architecture: x86_64", "not an architecture: 'x86_64'"),
        ("boot: lilo", "boot"),
        ("colour: red", "colour"),
        ("machine: {wheels: 4}", "wheels"),
        ("command_line: quiet", "command_line"),
        ("- a list", "must be a mapping"),
        ("architecture: arm64\narchitectures: {x: {}}", "not an architecture: 'x'"),
    ],
)
def test_what_is_no_board(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        board(tmp_path, {"chips/one": text})
    assert "chips/one/board/board.yaml" in str(caught.value)


@pytest.mark.parametrize("patch", ["{boot: lilo}", "quiet", "{colour: red}"])
def test_a_check_looks_at_every_architecture(tmp_path: Path, patch: str) -> None:
    board(tmp_path, {"chips/one": f"architecture: arm64\narchitectures: {{armhf: {patch}}}\n"})
    layers = find_layers([tmp_path])
    (found,) = check(layers, layers)
    assert (found.layer, found.level) == ("chips/one", "error")
