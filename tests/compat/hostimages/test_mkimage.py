"""Scripts of U-Boot, byte for byte as its own mkimage makes them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.hostproduct import EPOCH, make_boot

from wherry.build.boards import Board, Boot
from wherry.build.bootloaders import ubootscript
from wherry.build.bootloaders.entry import entry_of
from wherry.spec.architecture import architecture

pytestmark = pytest.mark.skipif(shutil.which("mkimage") is None, reason="needs mkimage (u-boot-tools)")


@pytest.mark.parametrize(
    ("arch", "word"), [("arm64", "arm64"), ("armhf", "arm"), ("riscv64", "riscv"), ("i386", "x86")]
)
def test_same_as_mkimage(arch: str, word: str, tmp_path: Path) -> None:
    board = Board(boot=Boot.U_BOOT_SCRIPT, device_tree="broadcom/bcm2837-rpi-3-b.dtb")
    boot = make_boot(tmp_path / "boot")
    entry = replace(entry_of(boot, name="kiosk", architecture=architecture(arch), board=board), epoch=EPOCH)
    text = ubootscript.script(entry) if arch != "i386" else b"echo hello\n"
    (tmp_path / "boot.cmd").write_bytes(text)
    command = [
        "mkimage",
        "-A",
        word,
        "-O",
        "linux",
        "-T",
        "script",
        "-C",
        "none",
        "-n",
        "kiosk",
        "-d",
        "boot.cmd",
        "out",
    ]
    env = {"PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": str(EPOCH)}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=env)
    assert ubootscript.image(text, entry) == (tmp_path / "out").read_bytes()
