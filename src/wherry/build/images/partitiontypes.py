"""Types of partitions by the words that layouts have: GPT's GUIDs, and the bytes of an MBR.

Source: UEFI 2.10, table 5.7; UAPI.2 (Discoverable Partitions Specification); UAPI.1 (Boot Loader Specification) for
``boot``; util-linux, "fdisk --list-types" for the bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.spec.architecture import Architecture

ROOT = "root"
"""The one word whose GUID is the architecture's."""
_LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
TYPES = {
    "esp": ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"),
    "boot": ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "ea"),
    "fat": ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "0c"),
    "linux": (_LINUX, "83"),
    ROOT: (_LINUX, "83"),
    "home": ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "83"),
    "var": ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "83"),
    "swap": ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "82"),
    "bios-boot": ("21686148-6449-6e6f-744e-656564454649", ""),
}
"""Word -> GPT's type, MBR's type ("" where it has none)."""

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_BYTE = re.compile(r"[0-9a-f]{2}\Z")


def gpt_type(word: str, architecture: Architecture, *, where: object = None) -> str:
    """Returns the GUID of a type.

    Raises:
        InvalidInput: there is no such type.
    """
    if word == ROOT:
        return architecture.root_type
    if word in TYPES:
        return TYPES[word][0]
    if _GUID.match(word.lower()):
        return word.lower()
    raise InvalidInput(f"not a type of partition: {word[:60]!r}", where=where, hint=f"{', '.join(TYPES)}, or a GUID")


def mbr_type(word: str, *, where: object = None) -> str:
    """Returns the two hex digits of a type.

    Raises:
        InvalidInput: there is no such type.
    """
    found = TYPES[word][1] if word in TYPES else word.lower()
    if _BYTE.match(found):
        return found
    known = ", ".join(name for name, (_, byte) in TYPES.items() if byte)
    raise InvalidInput(f"not a type of an MBR's partition: {word[:60]!r}", where=where, hint=f"{known}, or a byte")
