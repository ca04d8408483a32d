"""What a board wants of the distribution's packages is asked for, and put where the layout looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.build.boards import Board, Boot, firmware_of
from wherry.build.builder import Inputs
from wherry.build.contributions import Contributions
from wherry.build.debian.kernel import place_firmware
from wherry.build.debian.lock import Role
from wherry.build.debian.options import Options
from wherry.build.debian.wishes import wishes_of
from wherry.core.errors import NotFound
from wherry.spec.architecture import architecture

BOARD = Board(
    architecture="armhf",
    boot=Boot.EXTLINUX,
    firmware={"MLO": "u-boot-omap:usr/lib/u-boot/x/MLO", "a/u-boot.img": "u-boot-omap:usr/lib/u-boot/x/u-boot.img"},
)


def test_its_package_is_asked_for_once() -> None:
    inputs = Inputs(
        name="n",
        workspace=Path("/w"),
        contributions=Contributions(),
        board=BOARD,
        architecture=architecture("armhf"),
    )
    found = [wish for wish in wishes_of(inputs, Options()) if wish.name == "u-boot-omap"]
    assert [(wish.role, wish.where) for wish in found] == [(Role.BOOT, "board/board.yaml: firmware: MLO")]
    named = wishes_of(inputs, Options(firmware=("u-boot-omap",)))
    assert [wish.where for wish in named if wish.name == "u-boot-omap"] == ["host.yaml: debian: firmware"]


def test_its_files_are_put_in_their_places(tmp_path: Path) -> None:
    package = tmp_path / "all/usr/lib/u-boot/x"
    package.mkdir(parents=True)
    (package / "MLO").write_bytes(b"1")
    first, second = firmware_of(BOARD)
    place_firmware(tmp_path / "all", tmp_path / "firmware", first)
    assert (tmp_path / "firmware/MLO").read_bytes() == b"1"
    with pytest.raises(NotFound, match="u-boot-omap has no file"):
        place_firmware(tmp_path / "all", tmp_path / "firmware", second)
    (package / "u-boot.img").write_bytes(b"2")
    place_firmware(tmp_path / "all", tmp_path / "firmware", second)
    assert (tmp_path / "firmware/a/u-boot.img").read_bytes() == b"2"
