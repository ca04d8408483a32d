"""The boards that come with Wherry, by Buildroot's own Kconfig, and by what U-Boot's sources know.

``WHERRY_BUILDROOT`` is the folder of a checkout of Buildroot: every board's merged fragment goes through its ``make
defconfig``, and every symbol that a layer asks for must have taken. ``WHERRY_U_BOOT`` is the folder of a checkout of
U-Boot: it has each board's own configuration and, as a copy of the kernel's, its device tree. ``WHERRY_SKIFFOS`` is the
folder of a checkout of SkiffOS, whose table of systems is met.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from wherry.build import kconfig
from wherry.build.boards import board_of
from wherry.build.builtin import builtin_layers
from wherry.build.fragments import Merged, merge
from wherry.build.layers import Layer, find_layers
from wherry.build.resolving import resolve

FOLDER = builtin_layers()
assert FOLDER is not None
LAYERS = find_layers([FOLDER])
BOARDS = [
    layer.name
    for layer in LAYERS
    if layer.listed
    and (layer.path / "board/board.yaml").is_file()
    and board_of(resolve(LAYERS, [layer.name])).builder != "source"
]
OUTSIDE = {"allwinner/nezha": "u-boot", "allwinner/licheerv": "u-boot"}
"""Boards whose U-Boot is another branch, as their `proof_note` says."""


def checkout(variable: str, what: str) -> Path:
    folder = os.environ.get(variable, "")
    if not folder:
        pytest.skip(f"{variable} names no checkout of {what}")
    return Path(folder)


@pytest.fixture(scope="module")
def buildroot() -> Path:
    return checkout("WHERRY_BUILDROOT", "Buildroot")


@pytest.fixture(scope="module")
def u_boot() -> Path:
    return checkout("WHERRY_U_BOOT", "U-Boot")


def asked(name: str) -> tuple[list[Layer], Merged]:
    chain = resolve(LAYERS, [name])
    return chain, merge(chain, "buildroot")


def configured(buildroot: Path, merged: str, folder: Path) -> tuple[dict[str, str | None], str]:
    (folder / "defconfig").write_text(merged)
    command = ["make", "-s", "-C", str(buildroot), f"O={folder}", "defconfig", f"BR2_DEFCONFIG={folder}/defconfig"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return kconfig.read(folder / ".config"), done.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_every_symbol_takes(buildroot: Path, tmp_path: Path, name: str) -> None:
    _, merged = asked(name)
    config, said = configured(buildroot, merged.text(), tmp_path)
    assert [item.text() for item in kconfig.compare(merged, config)] == []
    assert "warning" not in said


def test_one_that_does_not_is_seen(buildroot: Path, tmp_path: Path) -> None:
    _, merged = asked("pi/4")
    config, _ = configured(buildroot, merged.text().replace("BR2_aarch64=y", "BR2_x86_64=y"), tmp_path)
    found = {item.symbol for item in kconfig.compare(merged, config)}
    assert {"BR2_aarch64", "BR2_cortex_a72"} <= found


@pytest.mark.parametrize("name", BOARDS)
def test_u_boot_and_the_kernel_know_it(u_boot: Path, name: str) -> None:
    chain, merged = asked(name)
    settings = {item.symbol: (item.value or "").strip('"') for item in merged.settings()}
    uboot = settings.get("BR2_TARGET_UBOOT_BOARD_DEFCONFIG", "")
    if uboot and OUTSIDE.get(name) != "u-boot":
        assert (u_boot / f"configs/{uboot}_defconfig").is_file()
    folders = [u_boot / "dts/upstream/src" / arch for arch in ("arm", "arm64", "riscv")]
    for tree in settings.get("BR2_LINUX_KERNEL_INTREE_DTS_NAME", "").split():
        assert any((folder / f"{tree}.dts").is_file() for folder in folders), tree
    board = board_of(chain)
    if board.device_tree:
        assert board.device_tree.removesuffix(".dtb") in settings["BR2_LINUX_KERNEL_INTREE_DTS_NAME"].split()


def test_every_system_of_skiffos_is_here() -> None:
    readme = (checkout("WHERRY_SKIFFOS", "SkiffOS") / "README.md").read_text()
    table = readme.partition("## Supported Systems")[2].partition("\n[")[0]
    rows = re.findall(r"^\|[^|]+\|((?: *\+? *\[[a-z0-9_]+/[a-z0-9_]+\])+) *\|", table, re.MULTILINE)
    wanted = {name for row in rows for name in re.findall(r"\[([^\]]+)\]", row)}
    assert len(rows) == 66
    assert wanted - set(LAYERS.by_name) == set()
