"""UEFI: systemd-boot where every firmware looks for it, and an entry of the Boot Loader Specification.

::

    EFI/BOOT/BOOTX64.EFI          systemd-boot
    loader/loader.conf
    loader/entries.srel           "type1": where entries are (systemd 251)
    loader/entries/NAME+3.conf    three tries (systemd's Automatic Boot Assessment); NAME.conf: not counted
    NAME/linux, initrd, dtb/…

No random seed is in it: all devices with the image would have the same.

Source: UAPI.1, "Type #1 Boot Loader Specification Entries" and "Boot counting"; loader.conf(5).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.bootloaders.entry import DEVICE_TREES, INITRAMFS, KERNEL
from wherry.core.errors import NotFound, Unsupported

if TYPE_CHECKING:
    from wherry.build.bootloaders.entry import Entry, Files
    from wherry.spec.architecture import Architecture

DISTRIBUTION = Path("/usr/lib/systemd/boot/efi")
"""Where the distribution's package has the boot loader, for this machine's architecture alone."""


def loader_name(architecture: Architecture) -> str:
    """Returns what systemd calls its boot loader for an architecture: ``systemd-bootx64.efi``.

    Raises:
        Unsupported: UEFI knows no such architecture.
    """
    if not architecture.efi:
        raise Unsupported(f"UEFI does not boot {architecture.name}", hint="give the board another `boot`")
    return f"systemd-boot{architecture.efi.removeprefix('BOOT').lower()}"


def find_loader(entry: Entry, distribution: Path = DISTRIBUTION) -> Path:
    """Returns the boot loader: the host's own in ``boot/firmware``, else this machine's.

    Raises:
        NotFound: there is none for the architecture.
    """
    name = loader_name(entry.architecture)
    for path, file in entry.firmware.items():
        if path.rpartition("/")[2] == name:
            return file
    if (distribution / name).is_file():
        return distribution / name
    hint = f"a layer puts it into boot/firmware, from Debian's systemd-boot-efi:{entry.architecture.name}"
    raise NotFound(f"no {name}", where=distribution, hint=hint)


def files(entry: Entry, loader: Path) -> Files:
    """Returns the files of the ESP.

    Args:
        entry: the host.
        loader: systemd-boot for its architecture.
    """
    counter = f"+{entry.tries}" if entry.tries else ""
    lines = [f"title {entry.shown}"]
    if entry.version:
        lines.append(f"version {entry.version}")
    lines += ["sort-key wherry", f"architecture {_EFI_NAMES[entry.architecture.efi]}"]
    lines.append(f"linux /{entry.name}/{KERNEL}")
    if entry.initramfs is not None:
        lines.append(f"initrd /{entry.name}/{INITRAMFS}")
    if entry.board.device_tree:
        lines.append(f"devicetree /{entry.name}/{DEVICE_TREES}/{entry.board.device_tree}")
    if entry.command_line:
        lines.append(f"options {entry.options}")
    own = entry.own_files()
    if not entry.board.device_tree:  # the firmware has its own
        own = {path: source for path, source in own.items() if f"/{DEVICE_TREES}/" not in path}
    return {
        f"EFI/BOOT/{entry.architecture.efi}": loader,
        "loader/loader.conf": b"timeout 0\nconsole-mode keep\neditor no\n",
        "loader/entries.srel": b"type1\n",
        f"loader/entries/{entry.name}{counter}.conf": _text(lines),
        **own,
    }


_EFI_NAMES = {
    "BOOTX64.EFI": "x64",
    "BOOTIA32.EFI": "ia32",
    "BOOTAA64.EFI": "aa64",
    "BOOTARM.EFI": "arm",
    "BOOTRISCV64.EFI": "riscv64",
}
"""The specification's names of architectures, which are UEFI's."""


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
