"""Architectures of hosts: what each is called by Debian, OCI, the kernel, compilers and UEFI.

Debian's name is the one that is written in Wherry's own files.

Source: Debian's dpkg (cputable, ostable); the kernel's arch/; UEFI 2.10, 3.5.1.1 "Removable Media Boot Behavior";
the Discoverable Partitions Specification, UAPI.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry.core.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture."""

    name: str
    """Debian's."""
    platform: str
    """OCI's, as ``linux/arm/v7``."""
    kernel: str
    """The kernel's ``ARCH``."""
    kernel_image: str
    """What the kernel's build makes to boot from, below its tree."""
    machine: str
    """What ``uname -m`` says."""
    triplet: str
    """GNU's, of Debian's cross compilers."""
    efi: str
    """The file that UEFI boots from removable media, in ``EFI/BOOT``; "" where there is none."""
    root_type: str
    """The GPT type of a root partition."""


ARCHITECTURES = {
    found.name: found
    for found in (
        Architecture(
            name="amd64",
            platform="linux/amd64",
            kernel="x86_64",
            kernel_image="arch/x86/boot/bzImage",
            machine="x86_64",
            triplet="x86_64-linux-gnu",
            efi="BOOTX64.EFI",
            root_type="4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        ),
        Architecture(
            name="i386",
            platform="linux/386",
            kernel="i386",
            kernel_image="arch/x86/boot/bzImage",
            machine="i686",
            triplet="i686-linux-gnu",
            efi="BOOTIA32.EFI",
            root_type="44479540-f297-41b2-9af7-d131d5f0458a",
        ),
        Architecture(
            name="arm64",
            platform="linux/arm64",
            kernel="arm64",
            kernel_image="arch/arm64/boot/Image",
            machine="aarch64",
            triplet="aarch64-linux-gnu",
            efi="BOOTAA64.EFI",
            root_type="b921b045-1df0-41c3-af44-4c6f280d3fae",
        ),
        Architecture(
            name="armhf",
            platform="linux/arm/v7",
            kernel="arm",
            kernel_image="arch/arm/boot/zImage",
            machine="armv7l",
            triplet="arm-linux-gnueabihf",
            efi="BOOTARM.EFI",
            root_type="69dad710-2ce4-4e3c-b16c-21a1d49abed3",
        ),
        Architecture(
            name="armel",
            platform="linux/arm/v5",
            kernel="arm",
            kernel_image="arch/arm/boot/zImage",
            machine="armv6l",
            triplet="arm-linux-gnueabi",
            efi="BOOTARM.EFI",
            root_type="69dad710-2ce4-4e3c-b16c-21a1d49abed3",
        ),
        Architecture(
            name="riscv64",
            platform="linux/riscv64",
            kernel="riscv",
            kernel_image="arch/riscv/boot/Image",
            machine="riscv64",
            triplet="riscv64-linux-gnu",
            efi="BOOTRISCV64.EFI",
            root_type="72ec70a6-cf74-40e6-bd49-4bda08e8f224",
        ),
    )
}


def architecture(name: str, *, where: object = None) -> Architecture:
    """Returns an architecture by Debian's name.

    Raises:
        InvalidInput: there is none of that name; says which there are.
    """
    found = ARCHITECTURES.get(name)
    if found is None:
        known = ", ".join(ARCHITECTURES)
        raise InvalidInput(f"not an architecture: {name[:60]!r}", where=where, hint=f"there are {known}")
    return found


def of_machine(machine: str) -> Architecture:
    """Returns the architecture of what ``uname -m`` says.

    Raises:
        InvalidInput: it is none that is known.
    """
    aliases = {"aarch64_be": "aarch64", "armv8l": "armv7l", "i386": "i686", "i586": "i686"}
    name = aliases.get(machine, machine)
    found = next((each for each in ARCHITECTURES.values() if each.machine == name), None)
    if found is None:
        raise InvalidInput(f"not a machine that is known: {machine[:60]!r}")
    return found
