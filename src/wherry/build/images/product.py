"""What images are made of: a host that was built, and the names and numbers that all of its images have.

Nothing of an image is random: every UUID, disk id, volume id, salt and seed is made of the host's `identity` and the
name of the thing, so that the same host gives the same bytes, and another one never the same ids.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.boards import Board
    from wherry.spec.architecture import Architecture

MIN_FAT_EPOCH = 315532800
"""1980: no time in a FAT is before it."""
MAX_EPOCH = 2**32 - 1
"""What squashfs and EROFS have room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A host, built."""

    root: Path | None = None
    """Its tree, to be read only; None where there is none."""
    boot: Path | None = None
    """``kernel``, ``initramfs``, ``dtb/``, ``firmware/``; None where nothing boots."""
    architecture: Architecture
    board: Board
    epoch: int = 0
    """Seconds since 1970: the time of everything in an image."""
    name: str
    """The host's: of boot entries and images."""
    command_line: tuple[str, ...] = ()
    """The kernel's, besides what the board has. ``{partuuid:NAME}`` and ``{uuid:NAME}`` stand for the partition NAME of
    the disk that the entry is on, and for its file system."""
    identity: str
    """A digest of the host."""
    version: str = ""
    """For people, in a boot menu."""
    tries: int = 0
    """How often a new host may fail to boot before the one before it is taken; 0: it is not counted."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the container image."""

    def __post_init__(self) -> None:
        if not 0 <= self.epoch <= MAX_EPOCH:
            raise InvalidInput(f"not a time that images can have: {self.epoch}", hint="seconds from 1970 to 2106")

    def uuid(self, *names: str) -> uuid.UUID:
        """Returns the UUID of something in the host's images: the same for the same host and names, on any machine."""
        digest = hashlib.sha256("\0".join((self.identity, *names)).encode()).digest()
        # a version 8 UUID: the bits are the application's own (RFC 9562, 5.8)
        value = int.from_bytes(digest[:16]) & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
        return uuid.UUID(int=value)

    def number(self, *names: str) -> int:
        """Returns 32 bits for what has room for no more; never 0."""
        return self.uuid(*names).int >> 96 or 1

    @property
    def fat_epoch(self) -> int:
        """The time of everything in a FAT: seconds since 1970, and even."""
        return max(self.epoch, MIN_FAT_EPOCH) & ~1
