"""What boot loaders read: pure functions from a host to files."""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.hostproduct import EPOCH, make_boot

from wherry.build.boards import Board, Boot
from wherry.build.bootloaders import extlinux, raspberrypi, ubootscript, uefi
from wherry.build.bootloaders.choosing import boot_files
from wherry.build.bootloaders.entry import Entry, entry_of
from wherry.core.errors import InvalidInput, NotFound, Unsupported, WherryError
from wherry.spec.architecture import architecture

_PI = "broadcom/bcm2837-rpi-3-b.dtb"


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    return make_boot(tmp_path / "boot")


def _entry(boot: Path, kind: Boot, arch: str = "arm64", tree: str = "", **more: Any) -> Entry:
    board = Board(title="A board", boot=kind, console="ttyAMA0", command_line=("quiet",), device_tree=tree)
    entry = entry_of(
        boot,
        name="kiosk",
        architecture=architecture(arch),
        board=board,
        command_line=("root=LABEL=root",),
        version="7",
        epoch=EPOCH,
    )
    return replace(entry, **more) if more else entry


def test_uefi(boot: Path) -> None:
    files = boot_files(_entry(boot, Boot.UEFI, tries=3))
    assert files["EFI/BOOT/BOOTAA64.EFI"] == boot / "firmware/systemd-bootaa64.efi"
    assert files["kiosk/linux"] == boot / "kernel"
    assert not [path for path in files if path.endswith(".dtb")]  # the firmware has its own
    assert files["loader/entries/kiosk+3.conf"] == (
        b"title A board 7\nversion 7\nsort-key wherry\narchitecture aa64\nlinux /kiosk/linux\ninitrd /kiosk/initrd\n"
        b"options console=ttyAMA0 quiet root=LABEL=root\n"
    )
    assert "loader/random-seed" not in files


def test_uefi_with_a_device_tree_and_without_tries(boot: Path) -> None:
    files = boot_files(_entry(boot, Boot.UEFI, tree=_PI))
    text = files["loader/entries/kiosk.conf"]
    assert isinstance(text, bytes)
    assert f"devicetree /kiosk/dtb/{_PI}\n".encode() in text
    assert files[f"kiosk/dtb/{_PI}"] == boot / "dtb" / _PI


def test_a_loader_of_this_machine(boot: Path, tmp_path: Path) -> None:
    (boot / "firmware/systemd-bootaa64.efi").unlink()
    entry = _entry(boot, Boot.UEFI)
    with pytest.raises(NotFound, match=r"no systemd-bootaa64.efi.*systemd-boot-efi:arm64"):
        uefi.find_loader(entry, tmp_path)
    (tmp_path / "systemd-bootaa64.efi").write_bytes(b"MZ")
    assert uefi.find_loader(entry, tmp_path) == tmp_path / "systemd-bootaa64.efi"


def test_extlinux(boot: Path) -> None:
    files = boot_files(_entry(boot, Boot.EXTLINUX, tree=_PI))
    assert files[extlinux.FILE] == (
        b"default kiosk\ntimeout 1\n\nlabel kiosk\n  menu label A board 7\n  kernel /kiosk/linux\n"
        b"  initrd /kiosk/initrd\n  fdt /kiosk/dtb/" + _PI.encode() + b"\n"
        b"  append console=ttyAMA0 quiet root=LABEL=root\n"
    )
    assert len([path for path in files if path.endswith(".dtb")]) == 1
    every = boot_files(_entry(boot, Boot.EXTLINUX))
    assert b"  fdtdir /kiosk/dtb/\n" in bytes(every[extlinux.FILE])
    assert len([path for path in every if path.endswith(".dtb")]) == 2


def test_raspberry_pi(boot: Path) -> None:
    files = boot_files(_entry(boot, Boot.RASPBERRY_PI, tree=_PI))
    assert files["config.txt"] == (
        b"gpu_mem=16\n[all]\nos_prefix=kiosk/\nkernel=linux\ninitramfs initrd followkernel\narm_64bit=1\n"
        b"device_tree=bcm2837-rpi-3-b.dtb\nenable_uart=1\n"
    )
    assert files["kiosk/cmdline.txt"] == b"console=ttyAMA0 quiet root=LABEL=root\n"
    assert files["bootcode.bin"] == boot / "firmware/raspberry-pi/bootcode.bin"
    assert files["overlays/a.dtbo"] == boot / "firmware/raspberry-pi/overlays/a.dtbo"
    assert files["kiosk/bcm2837-rpi-3-b.dtb"] == boot / "dtb" / _PI
    assert b"arm_64bit" not in bytes(boot_files(_entry(boot, Boot.RASPBERRY_PI, "armhf"))["config.txt"])


def test_two_device_trees_of_one_name(boot: Path) -> None:
    (boot / "dtb/other").mkdir()
    (boot / "dtb/other/bcm2837-rpi-3-b.dtb").write_bytes(b"")
    with pytest.raises(InvalidInput, match="two device trees of one name"):
        raspberrypi.files(_entry(boot, Boot.RASPBERRY_PI))


def test_u_boot_script(boot: Path) -> None:
    entry = _entry(boot, Boot.U_BOOT_SCRIPT, tree=_PI)
    files = boot_files(entry)
    text = files["boot.cmd"]
    image = files["boot.scr"]
    assert isinstance(text, bytes)
    assert isinstance(image, bytes)
    assert text.splitlines()[0] == b'setenv bootargs "console=ttyAMA0 quiet root=LABEL=root"'
    assert text.splitlines()[-1] == b"booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr_r}"
    assert image[72:] == text
    head = image[:4] + bytes(4) + image[8:64]
    assert struct.unpack(">I", image[4:8])[0] == zlib.crc32(head)
    assert b"bootz" in ubootscript.script(_entry(boot, Boot.U_BOOT_SCRIPT, "armhf", _PI))
    (boot / "firmware/boot.cmd").write_bytes(b"echo own\n")
    assert boot_files(_entry(boot, Boot.U_BOOT_SCRIPT))["boot.cmd"] == b"echo own\n"


REFUSED: dict[str, tuple[Boot, dict[str, Any], type[WherryError], str]] = {
    "no loader": (Boot.NONE, {}, InvalidInput, "has no boot loader"),
    "name": (Boot.UEFI, {"name": "../x"}, InvalidInput, "not a name of a boot entry"),
    "line break": (Boot.UEFI, {"command_line": ("a\noptions b",)}, InvalidInput, "not for a boot entry"),
    "title": (Boot.UEFI, {"title": "a\nb"}, InvalidInput, "not for a boot entry"),
    "too long": (Boot.UEFI, {"command_line": ("x" * 3000,)}, InvalidInput, "no more than 2048"),
    "u-boot's variable": (Boot.EXTLINUX, {"command_line": ("a=${b}",)}, InvalidInput, "cannot hand this word on"),
    "u-boot's quote": (Boot.U_BOOT_SCRIPT, {"command_line": ('a="b"',)}, InvalidInput, "cannot hand this word on"),
    "pc script": (Boot.U_BOOT_SCRIPT, {"architecture": architecture("amd64")}, Unsupported, "no script of U-Boot"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(boot: Path, name: str) -> None:
    kind, more, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        boot_files(_entry(boot, kind, **more))


def test_what_a_builder_must_leave(boot: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NotFound, match=r"without the board's device tree.*wrong/bcm2837-rpi-3-b.dtb; there is broadcom/"
    ):
        _entry(boot, Boot.UEFI, tree="wrong/bcm2837-rpi-3-b.dtb")
    (boot / "kernel").unlink()
    with pytest.raises(NotFound, match="the host has no kernel"):
        _entry(boot, Boot.UEFI)
    (boot / "vmlinuz-6.1").write_bytes(b"real")
    (boot / "kernel").symlink_to("vmlinuz-6.1")
    (boot / "initramfs").unlink()
    entry = _entry(boot, Boot.EXTLINUX)
    assert entry.kernel == boot / "vmlinuz-6.1"
    assert b"initrd" not in bytes(boot_files(entry)[extlinux.FILE])
    assert not stat.S_ISLNK(entry.kernel.lstat().st_mode)
    (tmp_path / "secret").write_bytes(b"x")
    (boot / "kernel").unlink()
    (boot / "kernel").symlink_to("../secret")
    with pytest.raises(InvalidInput, match="leads out of boot/"):
        _entry(boot, Boot.UEFI)
