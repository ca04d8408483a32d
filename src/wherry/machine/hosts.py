"""From what a build of a host has left to a guest: the board's machine, its image, or its kernel and initramfs."""

from __future__ import annotations

from pathlib import Path

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.units import parse_size
from wherry.machine.guest import Bus, Drive, Firmware, Guest
from wherry.machine.words import format_of
from wherry.spec.architecture import architecture
from wherry.spec.host_record import FILE, HostRecord, ImageRecord

CARD = "card"
"""Of `machine.firmware`: the machine's own ROM reads what runs first from the card, as the board's does."""
DISK_KINDS = ("disk", "sd", "raw", "qcow2")
_FIRMWARE = {"uefi": Firmware.UEFI, "extlinux": Firmware.U_BOOT, "u-boot-script": Firmware.U_BOOT}
"""How the board finds its kernel -> what runs first in a machine."""


def guest_of(record: HostRecord, workspace: Path, *, image: str = "") -> Guest:
    """Returns the guest that imitates a host's board.

    Args:
        record: of the build.
        workspace: its folder.
        image: the image that it boots, by its name; "" for the first that is a disk.

    Raises:
        NotFound: there is no such image, and no kernel either.
        InvalidInput: the record contradicts itself.
    """
    where = workspace / FILE
    board, machine, boot = record.board, record.board.machine, record.boot
    name = machine.firmware or _FIRMWARE.get(board.boot, Firmware.NONE)
    if name not in (*Firmware, CARD):
        hint = f"use {', '.join((*Firmware, CARD))}"
        raise InvalidInput(f"board.machine.firmware: {name!r} is none", where=where, hint=hint)
    firmware = Firmware.NONE if name == CARD else Firmware(name)
    if machine.drive not in (Bus.VIRTIO, Bus.SD, Bus.USB):
        raise InvalidInput(f"board.machine.drive: {machine.drive!r} is none", where=where, hint="use virtio, sd or usb")
    disk = _disk(record, image, where)
    direct = name == Firmware.NONE and bool(boot.kernel)
    if disk is None and not boot.kernel:
        raise NotFound("no image of a disk, and no kernel", where=where, hint="add one to the layout, and build again")
    if disk is None:
        firmware, direct = Firmware.NONE, True
    tree = board.device_tree if direct and boot.device_trees else ""
    return Guest(
        architecture=architecture(record.architecture, where=where),
        name=record.name,
        machine=machine.machine,
        cpu=machine.cpu,
        cpus=machine.cpus,
        memory_bytes=parse_size(machine.memory, where=where),
        firmware=firmware,
        kernel=workspace / boot.kernel if direct else None,
        initramfs=workspace / boot.initramfs if direct and boot.initramfs else None,
        device_tree=workspace / boot.device_trees / tree if tree else None,
        command_line=_words(record) if direct else (),
        console=machine.console or board.console,
        drives=() if disk is None else (_drive(workspace / disk.path, Bus(machine.drive)),),
    )


def _words(record: HostRecord) -> tuple[str, ...]:
    """Returns the kernel's words of a host whose kernel the machine itself loads."""
    words = record.boot.command_line or record.board.command_line  # the former has the latter, and the console
    if not record.board.machine.console:
        return words
    return tuple(word for word in words if not word.startswith("console="))  # the machine's own is another


def _disk(record: HostRecord, name: str, where: Path) -> ImageRecord | None:
    if name:
        found = record.images.get(name)
        if found is None:
            known = ", ".join(record.images) or "none"
            raise NotFound(f"no image {name!r}", where=where, hint=f"there are {known}")
        return found
    return next((each for each in record.images.values() if each.kind in DISK_KINDS), None)


def _drive(path: Path, bus: Bus) -> Drive:
    return Drive(path=path, format=format_of(path), bus=bus)
