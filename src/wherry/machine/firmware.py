"""Firmware of the distribution for virtual machines: UEFI (EDK II) and U-Boot.

UEFI writes its variables to a second flash chip, so each machine gets a copy of the empty one: nobody's boot entries
become another's. Nothing is fetched: the packages bring the files.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Unsupported
from wherry.machine.guest import Firmware


@dataclass(frozen=True, slots=True, kw_only=True)
class Uefi:
    """The files of UEFI for one architecture."""

    code: str
    variables: str
    package: str
    flash_bytes: int = 0
    """The size of each flash chip, where the machine is particular about it."""


UEFI = {
    "amd64": Uefi(code="/usr/share/OVMF/OVMF_CODE_4M.fd", variables="/usr/share/OVMF/OVMF_VARS_4M.fd", package="ovmf"),
    "i386": Uefi(
        code="/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd",
        variables="/usr/share/OVMF/OVMF32_VARS_4M.fd",
        package="ovmf-ia32",
    ),
    "arm64": Uefi(
        code="/usr/share/AAVMF/AAVMF_CODE.fd",
        variables="/usr/share/AAVMF/AAVMF_VARS.fd",
        package="qemu-efi-aarch64",
        flash_bytes=64 * 1024 * 1024,
    ),
    "armhf": Uefi(
        code="/usr/share/AAVMF/AAVMF32_CODE.fd",
        variables="/usr/share/AAVMF/AAVMF32_VARS.fd",
        package="qemu-efi-arm",
        flash_bytes=64 * 1024 * 1024,
    ),
}
U_BOOT = {
    "amd64": "/usr/lib/u-boot/qemu-x86_64/u-boot.rom",
    "i386": "/usr/lib/u-boot/qemu-x86/u-boot.rom",
    "arm64": "/usr/lib/u-boot/qemu_arm64/u-boot.bin",
    "armhf": "/usr/lib/u-boot/qemu_arm/u-boot.bin",
    "riscv64": "/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf",
}
"""Of Debian's package ``u-boot-qemu``, for the usual machines."""
U_BOOT_PACKAGE = "u-boot-qemu"


def find(firmware: Firmware, architecture: str) -> Path | None:
    """Returns the file of a firmware; None for none.

    Raises:
        Unsupported: there is none for this architecture, or its package is not installed.
    """
    if firmware == Firmware.NONE:
        return None
    if firmware == Firmware.UEFI:
        known = UEFI.get(architecture)
        path, package = (known.code, known.package) if known else ("", "")
    else:
        path, package = U_BOOT.get(architecture, ""), U_BOOT_PACKAGE
    if not path:
        raise Unsupported(f"no {firmware} for {architecture} here", hint="name a file: --firmware FILE")
    if not Path(path).exists():
        raise Unsupported(f"{firmware} for {architecture} is not installed", where=path, hint=f"apt install {package}")
    return Path(path)


def copy_variables(architecture: str, folder: Path) -> Path:
    """Copies the empty variables of UEFI to a folder, as a file that the machine may write.

    Raises:
        Unsupported: there are none for this architecture.
    """
    known = UEFI.get(architecture)
    if known is None or not Path(known.variables).exists():
        raise Unsupported(
            f"no UEFI variables for {architecture}", hint=f"apt install {known.package}" if known else None
        )
    target = folder / "uefi-variables.fd"
    try:
        shutil.copyfile(known.variables, target)
        if known.flash_bytes:
            with open(target, "r+b") as file:
                file.truncate(known.flash_bytes)
    except OSError as error:
        raise map_os_error(error, "cannot copy the variables of UEFI", where=target) from error
    return target
