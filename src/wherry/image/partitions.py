"""Partition tables of disk images from strangers: GPT with its checksums, and MBR with extended partitions.

::

    GPT   LBA 0 a protective MBR (type ee), LBA 1 the header, its entries where it says; a copy at the end
    MBR   LBA 0 four entries; a type of 05, 0f or 85 is a chain of further ones, each with a table of its own

A GPT counts only behind a protective or hybrid MBR, as for the kernel; it says its own sector size, by where its header
is. With an MBR the sectors are 512 bytes unless told otherwise. Refused: wrong checksums in both copies, partitions
beyond the end, chains that go in circles. Every number is bounded before anything is read by it.

Source: UEFI 2.10, section 5; the Discoverable Partitions Specification for the types of roots.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from wherry.core.errors import IntegrityError, InvalidInput

SECTOR_SIZES = (512, 4096)
MAX_ENTRIES = 1024
MAX_ENTRY_BYTES = 4096
MAX_LOGICAL = 128
"""Partitions in an extended one; the kernel takes fewer."""

_PROTECTIVE = 0xEE
_EXTENDED = (0x05, 0x0F, 0x85)
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_GPT_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_GPT_MAGIC = b"EFI PART"
_MIN_HEADER_BYTES = 92

ROOT_TYPES = {
    "44479540-f297-41b2-9af7-d131d5f0458a": "386",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "amd64",
    "69dad710-2ce4-4e3c-b16c-21a1d49abed3": "arm",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "arm64",
    "77055800-792c-4f94-b39a-98c91b762bb6": "loong64",
    "37c58c8a-d913-4156-a25f-48b1b64e07f0": "mipsle",
    "700bda43-7a34-4507-b179-eeb93d7a7ca3": "mips64le",
    "c31c45e6-3f39-412e-80fb-4809c4980599": "ppc64le",
    "72ec70a6-cf74-40e6-bd49-4bda08e8f224": "riscv64",
    "5eead9a9-fe09-4a1e-a1d7-520d00531306": "s390x",
}
"""Types of root partitions -> Go's names of their architectures."""

Read = Callable[[int, int], bytes]
"""Returns up to so many bytes at an offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition."""

    number: int
    """As in the kernel's names: ``sda5`` is 5."""
    offset_bytes: int
    size_bytes: int
    type: str
    """A GUID in lower case, or two hex digits of an MBR."""
    name: str = ""
    """Of a GPT."""
    uuid: str = ""
    """What ``PARTUUID=`` says."""

    @property
    def architecture(self) -> str:
        """What it is the root of, by its type; "" for other types."""
        return ROOT_TYPES.get(self.type, "")


def read_table(read: Read, size_bytes: int, *, where: object, sector_bytes: int | None = None) -> list[Partition]:
    """Reads the partition table of a disk.

    Args:
        read: reads the disk.
        size_bytes: how long it is.
        where: its name, for errors.
        sector_bytes: of an MBR; None: 512.

    Returns:
        The partitions, by number; none when there is no table.

    Raises:
        InvalidInput: it is malformed.
        IntegrityError: both copies of a GPT have wrong checksums.
    """
    head = read(0, 512)
    if len(head) < 512 or head[510:512] != b"\x55\xaa":
        return []
    entries = [_MBR_ENTRY.unpack_from(head, 446 + 16 * index) for index in range(4)]
    if any(entry[0] & 0x7F for entry in entries):  # neither 00 nor 80: code of a boot sector
        return []
    if any(entry[2] == _PROTECTIVE for entry in entries):
        return _read_gpt(read, size_bytes, where)
    return _Mbr(read, size_bytes, sector_bytes or SECTOR_SIZES[0], where).partitions(head)


# --- GPT


def _read_gpt(read: Read, size_bytes: int, where: object) -> list[Partition]:
    problems: list[str] = []
    for sector in SECTOR_SIZES:
        for lba in (1, size_bytes // sector - 1):
            if read(lba * sector, 8) != _GPT_MAGIC:
                continue
            try:
                return _gpt_at(read, size_bytes, sector, lba, where)
            except IntegrityError as error:
                problems.append(error.what)
    raise IntegrityError(f"damaged partition table: {problems[0] if problems else 'the GPT is not there'}", where=where)


def _gpt_at(read: Read, size_bytes: int, sector: int, lba: int, where: object) -> list[Partition]:
    raw = read(lba * sector, sector)
    if len(raw) < _GPT_HEADER.size:
        raise IntegrityError("the header of the GPT is cut short", where=where)
    (_, _, header_bytes, crc, _, own_lba, _, first, last, _, entries_lba, count, entry_bytes, entries_crc) = (
        _GPT_HEADER.unpack_from(raw)
    )
    if not _MIN_HEADER_BYTES <= header_bytes <= len(raw) or own_lba != lba:
        raise IntegrityError("the header of the GPT is not what it should be", where=where)
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:header_bytes]) != crc:
        raise IntegrityError("the header of the GPT has a wrong checksum", where=where)
    if not _GPT_ENTRY.size <= entry_bytes <= MAX_ENTRY_BYTES or entry_bytes % 8 or count > MAX_ENTRIES:
        raise InvalidInput(f"a GPT of {count} entries of {entry_bytes} bytes", where=where)
    table = read(entries_lba * sector, count * entry_bytes)
    if len(table) != count * entry_bytes or zlib.crc32(table) != entries_crc:
        raise IntegrityError("the entries of the GPT have a wrong checksum", where=where)
    found = []
    for index in range(count):
        kind, unique, begin, end, _, name = _GPT_ENTRY.unpack_from(table, index * entry_bytes)
        if kind == bytes(16):
            continue
        if not first <= begin <= end <= last or (end + 1) * sector > size_bytes:
            raise InvalidInput(f"partition {index + 1} is not within the disk", where=where)
        found.append(
            Partition(
                number=index + 1,
                offset_bytes=begin * sector,
                size_bytes=(end + 1 - begin) * sector,
                type=str(UUID(bytes_le=kind)),
                name=name.decode("utf-16-le", "replace").partition("\0")[0],
                uuid=str(UUID(bytes_le=unique)),
            )
        )
    return found


# --- MBR


class _Mbr:
    def __init__(self, read: Read, size_bytes: int, sector: int, where: object) -> None:
        self._read, self._size, self._sector, self._where = read, size_bytes, sector, where
        self._disk = ""
        self._next = 5

    def partitions(self, head: bytes) -> list[Partition]:
        self._disk = f"{int.from_bytes(head[440:444], 'little'):08x}"
        found: list[Partition] = []
        for index in range(4):
            _, _, kind, _, begin, count = _MBR_ENTRY.unpack_from(head, 446 + 16 * index)
            if not kind or not count:
                continue
            if kind in _EXTENDED:
                found += self._logical(begin, count)
            else:
                found.append(self._partition(index + 1, kind, begin, count))
        return sorted(found, key=lambda partition: partition.number)

    def _logical(self, base: int, total: int) -> list[Partition]:
        """Follows the chain of tables in an extended partition."""
        found: list[Partition] = []
        seen: set[int] = set()
        at = base
        while True:
            if at in seen or len(seen) >= MAX_LOGICAL or not base <= at < base + total:
                raise InvalidInput(
                    "the chain of logical partitions goes in circles, or leaves its own", where=self._where
                )
            seen.add(at)
            raw = self._read(at * self._sector, 512)
            if len(raw) < 512 or raw[510:512] != b"\x55\xaa":
                raise InvalidInput("the chain of logical partitions is broken", where=self._where)
            _, _, kind, _, begin, count = _MBR_ENTRY.unpack_from(raw, 446)
            if kind and count:
                found.append(self._partition(self._next, kind, at + begin, count))
                self._next += 1
            _, _, further, _, begin, count = _MBR_ENTRY.unpack_from(raw, 462)
            if further not in _EXTENDED or not count:
                return found
            at = base + begin

    def _partition(self, number: int, kind: int, begin: int, count: int) -> Partition:
        offset, size = begin * self._sector, count * self._sector
        if not offset or offset + size > self._size:
            raise InvalidInput(f"partition {number} is not within the disk", where=self._where)
        return Partition(
            number=number, offset_bytes=offset, size_bytes=size, type=f"{kind:02x}", uuid=f"{self._disk}-{number:02x}"
        )
