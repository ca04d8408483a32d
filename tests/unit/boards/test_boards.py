"""A board is what a chain's layers say, the later over the earlier; for another architecture only if it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.build.support import write

from wherry.build.boards import Board, Boot, FirmwareFile, Machine, board_of, firmware_of
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


def test_files_of_packages() -> None:
    found = Board(firmware={"b/x.bin": "u-boot-x:usr/lib/x:1.bin", "a": "y:z"})
    assert firmware_of(found) == (
        FirmwareFile(name="a", package="y", path="z"),
        FirmwareFile(name="b/x.bin", package="u-boot-x", path="usr/lib/x:1.bin"),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("a", "z"), ("a", ":z"), ("a", "y:"), ("a", "y:/z"), ("a", "y:../z"), ("../a", "y:z"), ("", "y:z")],
)
def test_what_is_no_file_of_a_package(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InvalidInput, match="not a file of a package"):
        firmware_of(Board(firmware={name: text}))
    board(tmp_path, {"chips/one": f"firmware: {{{name!r}: {text!r}}}"})
    layers = find_layers([tmp_path])
    assert [item.layer for item in check(layers, layers)] == ["chips/one"]


def test_a_check_looks_at_layouts_on_top_of_those_below(tmp_path: Path) -> None:
    board(tmp_path, {"chips/one": "title: One"})
    raw = "images: {disk: {kind: disk, table: mbr, raw: {spl: {file: firmware/spl, offset: 1KiB, size: 8KiB}}}}"
    more = "images: {disk: {raw: {u-boot: {file: firmware/u-boot, offset: 4KiB}}}}"
    for name, text in (("soc/chip", raw), ("chips/one", more)):
        (tmp_path / name / "image").mkdir()
        (tmp_path / name / "image/layout.yaml").write_text(text)
    layers = find_layers([tmp_path])
    (found,) = check(layers, layers)
    assert (found.layer, found.what) == ("chips/one", "overlaps 'spl'")
