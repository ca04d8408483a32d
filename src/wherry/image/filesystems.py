"""Which file system a stretch of bytes holds, told from its first blocks; nothing but the superblock is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from wherry.image.partitions import Read

PROBED_BYTES = 70 * 1024
"""As much of the beginning as the magic numbers are in."""

_FAT_TYPES = (b"FAT12   ", b"FAT16   ", b"FAT32   ")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """What was found."""

    kind: str
    """The kernel's name of the type (``ext4``, ``squashfs``); or of what is none: ``swap``, ``luks``, ``lvm``."""
    uuid: str = ""
    """As ``UUID=`` in fstab says it."""
    label: str = ""

    @property
    def has_files(self) -> bool:
        """Whether it is a file system that Linux systems are on."""
        return self.kind in ("ext4", "squashfs", "erofs", "xfs", "btrfs", "vfat")


def probe(read: Read) -> FileSystem | None:
    """Returns what a stretch of bytes holds; None when nothing known."""
    head = read(0, PROBED_BYTES)
    for look in (_squashfs, _ext, _erofs, _xfs, _btrfs, _others, _vfat):
        found = look(head)
        if found is not None:
            return found
    return None


def _squashfs(head: bytes) -> FileSystem | None:
    return FileSystem(kind="squashfs") if head[:4] == b"hsqs" else None


def _ext(head: bytes) -> FileSystem | None:
    if head[1080:1082] != b"\x53\xef":
        return None
    return FileSystem(kind="ext4", uuid=_uuid(head[1128:1144]), label=_text(head[1144:1160]))


def _erofs(head: bytes) -> FileSystem | None:
    if head[1024:1028] != b"\xe2\xe1\xf5\xe0":
        return None
    return FileSystem(kind="erofs", uuid=_uuid(head[1072:1088]), label=_text(head[1088:1104]))


def _xfs(head: bytes) -> FileSystem | None:
    if head[:4] != b"XFSB":
        return None
    return FileSystem(kind="xfs", uuid=_uuid(head[32:48]), label=_text(head[108:120]))


def _btrfs(head: bytes) -> FileSystem | None:
    if head[65600:65608] != b"_BHRfS_M":
        return None
    return FileSystem(kind="btrfs", uuid=_uuid(head[65568:65584]), label=_text(head[65835:66091]))


def _vfat(head: bytes) -> FileSystem | None:
    if head[510:512] != b"\x55\xaa" or (head[54:62] not in _FAT_TYPES and head[82:90] not in _FAT_TYPES):
        return None
    at = 67 if head[82:90] in _FAT_TYPES else 39
    serial = int.from_bytes(head[at : at + 4], "little")
    return FileSystem(
        kind="vfat", uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}", label=_text(head[at + 4 : at + 15])
    )


def _others(head: bytes) -> FileSystem | None:
    """Recognises what cannot be read here, so that an error can say what it is."""
    if head[:6] == b"LUKS\xba\xbe":
        return FileSystem(kind="luks")
    if any(head[sector : sector + 8] == b"LABELONE" for sector in range(0, 2048, 512)):
        return FileSystem(kind="lvm")
    if head[4086:4096] in (b"SWAPSPACE2", b"SWAP-SPACE"):
        return FileSystem(kind="swap", uuid=_uuid(head[1036:1052]))
    if head[32769:32774] == b"CD001":
        return FileSystem(kind="iso9660")
    if head[3:11] == b"NTFS    ":
        return FileSystem(kind="ntfs")
    if head[1024:1028] == b"\x10\x20\xf5\xf2":
        return FileSystem(kind="f2fs")
    return None


def _uuid(raw: bytes) -> str:
    return str(UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace").strip()
