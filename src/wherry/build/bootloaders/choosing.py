"""Which boot loader a board has, and so which files its boot partition gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.build.boards import Boot
from wherry.build.bootloaders import extlinux, raspberrypi, ubootscript, uefi
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Entry, Files


def boot_files(entry: Entry) -> Files:
    """Returns the files of the boot partition of an entry's board.

    Raises:
        InvalidInput: the board has no boot loader, or the entry is none for it.
        NotFound: the boot loader is not there.
    """
    match entry.board.boot:
        case Boot.UEFI:
            return uefi.files(entry, uefi.find_loader(entry))
        case Boot.EXTLINUX:
            return extlinux.files(entry)
        case Boot.RASPBERRY_PI:
            return raspberrypi.files(entry, raspberrypi.config_of(entry))
        case Boot.U_BOOT_SCRIPT:
            return ubootscript.files(entry, ubootscript.own_script(entry))
        case Boot.NONE:
            name = entry.board.title or entry.name
            raise InvalidInput(f"{name} has no boot loader, and so no boot entries", hint="say `boot` in board.yaml")
