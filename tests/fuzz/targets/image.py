"""What a disk image of a stranger is read by before a file system is: partition tables and superblocks."""

from __future__ import annotations

from tests.fuzz.engine import Target
from tests.unit.image.test_partitions import ROOT, circle, gpt, mbr

from wherry.image.filesystems import probe
from wherry.image.partitions import read_table

_MAX_BYTES = 60 * 1024


def _table(data: bytes) -> object:
    found = read_table(lambda offset, size: data[offset : offset + size], len(data), where="disk")
    assert all(item.offset_bytes > 0 and item.offset_bytes + item.size_bytes <= len(data) for item in found)
    return [(item.number, item.type) for item in found]


def _probe(data: bytes) -> object:
    return probe(lambda offset, size: data[offset : offset + size])


TARGETS = [
    Target(
        name="image.partitions",
        seeds=lambda: [
            bytes(gpt((ROOT, 40, 60, "root")))[:_MAX_BYTES],
            circle()[:_MAX_BYTES],
            mbr((0x83, 1, 5), (0x0F, 10, 50)) + bytes(_MAX_BYTES // 2),
        ],
        read=_table,
    ),
    Target(
        name="image.filesystems",
        seeds=lambda: [
            b"hsqs" + bytes(2000),
            bytes(1080) + b"\x53\xef" + bytes(2000),
            bytes(510) + b"\x55\xaa" + bytes(100),
        ],
        read=_probe,
    ),
]
