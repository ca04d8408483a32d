"""What QEMU's ``blklogwrites`` driver wrote down, as records.

The log, in sectors, all numbers little-endian::

    superblock   magic:u64  version:u64  entries:u64  sector size:u32       (written anew at each flush)
    entry        sector:u64  sectors:u64  flags:u64  length:u64             flags: 1 flush, 2 FUA, 4 discard, 8 mark
    data         as many sectors as the entry says; none for a flush or a discard

Source: QEMU, block/blklogwrites.c, which took it from Linux, drivers/md/dm-log-writes.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tests.integration.store.power.recording_disk import Record

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
_FLUSH = 1


def read_log(path: Path, marks_at: int) -> Iterator[Record]:
    """Gives what happened to the disk up to its last flush, in its order.

    Args:
        path: the log.
        marks_at: a write to this place of the disk is a mark, not a part of the file system.
    """
    with path.open("rb") as file:
        magic, version, entries, sector = _SUPER.unpack(file.read(_SUPER.size))
        assert (magic, version) == (_MAGIC, 1)
        file.seek(sector)
        for _ in range(entries):
            start, count, flags, _ = _ENTRY.unpack(file.read(sector)[: _ENTRY.size])
            assert flags in (0, _FLUSH), "a guest on virtio only writes and flushes, when discards are off"
            data = file.read(count * sector)
            assert len(data) == count * sector
            if data:
                mark = start * sector == marks_at
                yield Record("M", 0, data.rstrip(b"\0")) if mark else Record("W", start * sector, data)
            if flags & _FLUSH:
                yield Record("F", 0, b"")
