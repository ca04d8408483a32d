"""Platforms of images: the names that OCI uses (Go's), which of several fits a machine, and what a root tree is for.

Source: OCI image-spec 1.1, image-index.md ("platform"); ELF gABI, "Machine Information".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.core.errors import InvalidInput

ELF_HEAD_BYTES = 20
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}
_ELF_MACHINES = {
    (2, 1, 62): "amd64",
    (1, 1, 62): "amd64",
    (2, 1, 183): "arm64",
    (1, 1, 40): "arm",
    (1, 1, 3): "386",
    (2, 1, 243): "riscv64",
    (2, 1, 21): "ppc64le",
    (2, 2, 22): "s390x",
    (2, 1, 258): "loong64",
    (2, 1, 8): "mips64le",
    (1, 1, 8): "mipsle",
}
"""(class, data, machine) of an ELF file to Go's name of the architecture."""
TELLING_FILES = ("bin/busybox", "bin/sh", "usr/bin/env", "sbin/init", "usr/bin/dpkg", "init")
"""Programs that say what a root tree is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on. An empty architecture is: not said."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Returns ``linux/arm/v7``, ``linux/amd64`` or ``arm64`` as a platform.

        Raises:
            InvalidInput: it is none.
        """
        parts = text.split("/")
        if len(parts) > 3 or not all(part and part.isalnum() and part == part.lower() for part in parts):
            raise InvalidInput(f"not a platform: {text[:60]!r}", hint="write it as linux/arm64 or linux/arm/v7")
        if len(parts) == 1:
            parts.insert(0, "linux")
        return cls(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")

    @classmethod
    def of_this_machine(cls) -> Platform:
        """Returns the platform that this kernel runs natively."""
        machine = os.uname().machine
        architecture, variant = _MACHINES.get(machine, (machine, ""))
        return cls(architecture=architecture, variant=variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def choose(wanted: Platform, offered: Sequence[Platform]) -> int | None:
    """Returns the index of the platform that fits best, None when none does.

    A wanted variant takes itself, else the highest below it (``v7`` runs ``v6``), else one that does not say.
    """
    best: tuple[str, int] | None = None
    found: int | None = None
    for index, platform in enumerate(offered):
        if (platform.os, platform.architecture) != (wanted.os, wanted.architecture):
            continue
        variant = _variant(platform)
        if wanted.variant and variant > _variant(wanted):
            continue
        if best is None or (variant, -index) > best:
            best, found = (variant, -index), index
    return found


def _variant(platform: Platform) -> str:
    return "v8" if platform.architecture == "arm64" and not platform.variant else platform.variant


def architecture_of(head: bytes) -> str:
    """Returns the architecture that a program is for; "" for what is no ELF file or of an unknown one."""
    if len(head) < ELF_HEAD_BYTES or head[:4] != b"\x7fELF":
        return ""
    order = "little" if head[5] == 1 else "big"
    machine = int.from_bytes(head[18:20], order)  # type: ignore[arg-type]
    return _ELF_MACHINES.get((head[4], head[5], machine), "")
