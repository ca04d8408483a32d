"""From the record of a build to the machine that imitates its board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wherry.core.errors import InvalidInput, NotFound
from wherry.machine.guest import MIB, Bus, Firmware
from wherry.machine.hosts import guest_of
from wherry.spec.codec import decode
from wherry.spec.host_record import HostRecord

WORKSPACE = Path("/w")


def record(**more: Any) -> HostRecord:
    base: dict[str, Any] = {
        "format": 1,
        "name": "n",
        "architecture": "arm64",
        "board": {"boot": "uefi", "console": "ttyAMA0", "machine": {"machine": "virt", "cpus": 2, "memory": "2g"}},
        "boot": {"kernel": "output/boot/kernel", "initramfs": "output/boot/initramfs"},
        "images": {"oci": {"path": "o", "kind": "oci"}, "disk": {"path": "output/disk.img", "kind": "disk"}},
    }
    return decode(HostRecord, {**base, **more})


def test_a_board_with_firmware_boots_its_image() -> None:
    found = guest_of(record(), WORKSPACE)
    assert found.firmware == Firmware.UEFI
    assert found.kernel is None
    assert found.drives[0].path == Path("/w/output/disk.img")
    assert (found.machine, found.cpus, found.memory_bytes, found.console) == ("virt", 2, 2048 * MIB, "ttyAMA0")


def test_a_board_that_qemu_loads_the_kernel_of() -> None:
    board = {
        "boot": "raspberry-pi",
        "command_line": ["root=LABEL=root"],
        "device_tree": "broadcom/pi.dtb",
        "machine": {"machine": "raspi3b", "drive": "sd", "console": "ttyS1"},
    }
    boot = {"kernel": "output/boot/kernel", "device_trees": "output/boot/dtb"}
    found = guest_of(record(board=board, boot=boot), WORKSPACE)
    assert found.firmware == Firmware.NONE
    assert found.kernel == Path("/w/output/boot/kernel")
    assert found.device_tree == Path("/w/output/boot/dtb/broadcom/pi.dtb")
    assert found.drives[0].bus == Bus.SD
    assert found.command_line == ("root=LABEL=root",)
    assert found.console == "ttyS1"


def test_its_words_come_once_and_with_the_machines_own_console() -> None:
    board: dict[str, Any] = {
        "boot": "raspberry-pi",
        "console": "ttyS1,115200",
        "command_line": ["root=/dev/vda", "panic=1"],
    }
    boot = {"kernel": "k", "command_line": ["console=ttyS1,115200", "root=/dev/vda", "panic=1"]}
    found = guest_of(record(board=board, boot=boot), WORKSPACE)
    assert found.command_line == ("console=ttyS1,115200", "root=/dev/vda", "panic=1")
    board["machine"] = {"console": "ttyAMA0"}
    found = guest_of(record(board=board, boot=boot), WORKSPACE)
    assert (found.console, found.command_line) == ("ttyAMA0", ("root=/dev/vda", "panic=1"))


def test_a_board_whose_own_rom_reads_the_card() -> None:
    board = {"boot": "extlinux", "machine": {"machine": "orangepi-pc", "drive": "sd", "firmware": "card"}}
    found = guest_of(record(board=board), WORKSPACE)
    assert (found.firmware, found.kernel, found.command_line) == (Firmware.NONE, None, ())
    assert found.drives[0].bus == Bus.SD


def test_without_an_image_the_kernel_is_booted_itself() -> None:
    found = guest_of(record(images={}), WORKSPACE)
    assert (found.firmware, found.kernel, found.drives) == (Firmware.NONE, Path("/w/output/boot/kernel"), ())


@pytest.mark.parametrize(
    ("more", "image", "error"),
    [
        ({}, "nothing", NotFound),
        ({"images": {}, "boot": {}}, "", NotFound),
        ({"architecture": "pdp11"}, "", InvalidInput),
        ({"board": {"machine": {"firmware": "bios"}}}, "", InvalidInput),
        ({"board": {"machine": {"drive": "tape"}}}, "", InvalidInput),
        ({"board": {"machine": {"memory": "much"}}}, "", InvalidInput),
    ],
)
def test_bad_records(more: dict[str, Any], image: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        guest_of(record(**more), WORKSPACE, image=image)
