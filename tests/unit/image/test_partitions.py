"""Partition tables from strangers: well formed, damaged, and made to break a reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.core.errors import IntegrityError, InvalidInput, WherryError
from wherry.image.filesystems import probe
from wherry.image.partitions import Partition, read_table

SECTORS = 4096
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ROOT = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
UNIQUE = UUID("00112233-4455-6677-8899-aabbccddeeff")


def mbr(*entries: tuple[int, int, int], disk: int = 0x1234) -> bytes:
    """Returns a sector with entries of type, begin and length."""
    head = bytearray(512)
    head[440:444] = disk.to_bytes(4, "little")
    for index, (kind, begin, count) in enumerate(entries):
        struct.pack_into("<B3sB3sII", head, 446 + 16 * index, 0, b"", kind, b"", begin, count)
    head[510:512] = b"\x55\xaa"
    return bytes(head)


def gpt(*parts: tuple[UUID, int, int, str], sector: int = 512, count: int = 128, **change: int) -> bytearray:
    """Returns a disk with a GPT and its copy; `change` alters fields of the header before its checksum."""
    size = 128
    table = bytearray(size * count)
    for index, (kind, begin, end, name) in enumerate(parts):
        struct.pack_into(
            "<16s16sQQQ72s",
            table,
            index * size,
            kind.bytes_le,
            UNIQUE.bytes_le,
            begin,
            end,
            0,
            name.encode("utf-16-le"),
        )
    disk = bytearray(SECTORS * sector)
    disk[:512] = mbr((0xEE, 1, SECTORS - 1))
    room = -(-len(table) // sector)
    for own, other, at in ((1, SECTORS - 1, 2), (SECTORS - 1, 1, SECTORS - 1 - room)):
        fields = {
            "size": 92, "own": own, "other": other, "first": 2 + room, "last": SECTORS - 2 - room,
            "at": at, "count": count, "entry": size,
        } | change  # fmt: skip
        disk[at * sector : at * sector + len(table)] = table
        head = struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, fields["size"], 0, 0, own, fields["other"], fields["first"],
            fields["last"], UNIQUE.bytes_le, fields["at"], fields["count"], fields["entry"], zlib.crc32(table),
        )  # fmt: skip
        head = head[:16] + zlib.crc32(head).to_bytes(4, "little") + head[20:]
        disk[own * sector : own * sector + len(head)] = head
    return disk


def read(disk: bytes | bytearray, **more: int) -> list[Partition]:
    return read_table(lambda offset, size: bytes(disk[offset : offset + size]), len(disk), where="disk", **more)


@pytest.mark.parametrize("sector", [512, 4096])
def test_gpt(sector: int) -> None:
    found = read(gpt((ROOT, 100, 199, "root"), (LINUX, 200, 299, "dàta"), sector=sector))
    assert found == [
        Partition(
            number=1, offset_bytes=100 * sector, size_bytes=100 * sector, type=str(ROOT), name="root", uuid=str(UNIQUE)
        ),
        Partition(
            number=2, offset_bytes=200 * sector, size_bytes=100 * sector, type=str(LINUX), name="dàta",
            uuid=str(UNIQUE),
        ),
    ]  # fmt: skip
    assert [item.architecture for item in found] == ["amd64", ""]


def test_the_copy_of_a_gpt_is_taken_where_the_first_is_damaged() -> None:
    disk = gpt((ROOT, 100, 199, "root"))
    for offset in (512 + 60, 2 * 512 + 5):  # its header, then its entries
        disk[offset] ^= 0xFF
        assert len(read(disk)) == 1
    disk[(SECTORS - 1) * 512 + 30] ^= 0xFF
    with pytest.raises(IntegrityError, match="damaged partition table: the header of the GPT"):
        read(disk)
    with pytest.raises(IntegrityError, match="the GPT is not there"):
        read(mbr((0xEE, 1, 100)) + bytes(100_000))


def test_a_hybrid_mbr_is_a_gpt_and_a_stale_gpt_is_none() -> None:
    disk = gpt((ROOT, 100, 199, "root"))
    disk[:512] = mbr((0x83, 100, 100), (0xEE, 1, 99))
    assert read(disk)[0].name == "root"
    disk[:512] = mbr((0x83, 300, 100))
    assert [(item.offset_bytes, item.type) for item in read(disk)] == [(300 * 512, "83")]


def test_mbr_with_logical_partitions() -> None:
    disk = bytearray(4096 * 512)
    disk[:512] = mbr((0x83, 10, 20), (0x0F, 100, 3000), (0x0C, 3500, 10), disk=0xCAFEBABE)
    disk[100 * 512 : 101 * 512] = mbr((0x83, 10, 40), (0x05, 1000, 500))
    disk[1100 * 512 : 1101 * 512] = mbr((0x82, 5, 7))
    found = [(item.number, item.offset_bytes // 512, item.size_bytes // 512, item.type) for item in read(disk)]
    assert found == [(1, 10, 20, "83"), (3, 3500, 10, "0c"), (5, 110, 40, "83"), (6, 1105, 7, "82")]
    assert [item.uuid for item in read(disk)] == ["cafebabe-01", "cafebabe-03", "cafebabe-05", "cafebabe-06"]


def test_no_table() -> None:
    assert read(b"") == []
    assert read(bytes(100_000)) == []
    boot_sector = bytearray(mbr())
    boot_sector[446] = 0x42  # code where the entries would be
    assert read(bytes(boot_sector)) == []


def circle() -> bytes:
    disk = bytearray(mbr((0x0F, 100, 200)) + bytes(300 * 512))
    disk[100 * 512 : 101 * 512] = mbr((0x83, 10, 40), (0x05, 0, 100))
    return bytes(disk)


def endless() -> bytes:
    disk = bytearray(mbr((0x0F, 1, 1000)) + bytes(1001 * 512))
    for index in range(1, 1000):
        disk[index * 512 : (index + 1) * 512] = mbr((0x83, 1, 1), (0x05, index, 900))
    return bytes(disk)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (circle, "in circles"),
        (endless, "in circles, or leaves its own"),
        (lambda: mbr((0x0F, 100, 200)) + bytes(300 * 512), "the chain of logical partitions is broken"),
        (lambda: mbr((0x0F, 100, 200)) + bytes(50 * 512), "the chain of logical partitions is broken"),
        (lambda: mbr((0x83, 10, 0xFFFFFFFF)) + bytes(512), "partition 1 is not within the disk"),
        (lambda: mbr((0x83, 0, 10)) + bytes(10_000), "partition 1 is not within the disk"),
        (lambda: gpt((ROOT, 100, SECTORS, "x")), "partition 1 is not within the disk"),
        (lambda: gpt((ROOT, 1, 99, "x")), "partition 1 is not within the disk"),
        (lambda: gpt((ROOT, 199, 100, "x")), "partition 1 is not within the disk"),
        (lambda: gpt((ROOT, 100, 199, "x"), last=1 << 60), None),
        (lambda: gpt((ROOT, 100, (1 << 50), "x"), last=1 << 60), "partition 1 is not within the disk"),
        (lambda: gpt(count=128, entry=64), "a GPT of 128 entries of 64 bytes"),
        (lambda: gpt(entry=1 << 20), "a GPT of 128 entries of 1048576 bytes"),
        (lambda: gpt(count=2000), "a GPT of 2000 entries"),
        (lambda: gpt(at=1 << 62), "wrong checksum"),
        (lambda: gpt(size=91), "not what it should be"),
        (lambda: gpt(size=600), "not what it should be"),
    ],
)
def test_bad_tables(make: Callable[[], bytes], message: str | None) -> None:
    if message is None:
        assert read(make())
        return
    with pytest.raises((InvalidInput, IntegrityError), match=message):
        read(make())


@given(st.lists(st.tuples(st.integers(0, 3 * 512), st.binary(min_size=1, max_size=8)), max_size=6), st.booleans())
def test_changed_tables(changes: list[tuple[int, bytes]], whole: bool) -> None:
    disk = gpt((ROOT, 100, 199, "root")) if whole else bytearray(circle())
    for offset, data in changes:
        disk[offset : offset + len(data)] = data
    try:
        found = read(disk)
    except WherryError:
        return
    assert all(item.offset_bytes > 0 and item.offset_bytes + item.size_bytes <= len(disk) for item in found)


@given(st.binary(max_size=2000))
def test_probing_takes_anything(data: bytes) -> None:
    probe(lambda offset, size: data[offset : offset + size])
