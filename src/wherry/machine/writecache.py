"""A disk with a volatile write cache, and what a power cut makes of it.

What a guest writes stays in memory until it flushes, as in a drive's own cache. A cut leaves all that was flushed, and
of the rest what its mode says::

    drop      nothing
    random    each write or not, by chance; those that are left in their order
    torn      as random, and some of them only their beginning or their end, cut between two blocks of 4 KiB

Within a block of 4 KiB a write is whole or not there: disks of today have sectors of that size, and the file systems'
superblocks need it. The same seed and the same writes give the same disk. When the cache is full its oldest writes go
to the disk, as a drive's would. A write with FUA is on the disk when it is answered, and the older ones of the same
place before it.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from enum import StrEnum

BLOCK_BYTES = 4096
MAX_CACHE_BYTES = 64 * 1024 * 1024
"""What a drive's own cache holds."""


class Cut(StrEnum):
    """What a power cut leaves of writes that were not flushed."""

    DROP = "drop"
    RANDOM = "random"
    TORN = "torn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a cut left."""

    unflushed: int
    """Writes that were not flushed."""
    kept: int
    """Of those the ones that reached the disk as a whole,"""
    torn: int
    """and those of which a part did."""


class WriteCache:
    """A disk image behind a volatile cache.

    Args:
        fd: the image, for reading and writing; stays the caller's.
        limit_bytes: how much the cache holds.
    """

    def __init__(self, fd: int, *, limit_bytes: int = MAX_CACHE_BYTES) -> None:
        self._fd = fd
        self._limit = limit_bytes
        self._writes: list[tuple[int, bytes]] = []
        self._bytes = 0
        self.flushes = 0

    @property
    def pending(self) -> int:
        """How many writes are not flushed."""
        return len(self._writes)

    def read(self, offset: int, length: int) -> bytes:
        """Returns what the guest sees."""
        data = bytearray(os.pread(self._fd, length, offset))
        data.extend(bytes(length - len(data)))
        end = offset + length
        for start, written in self._writes:
            if start < end and offset < start + len(written):
                first, last = max(start, offset), min(start + len(written), end)
                data[first - offset : last - offset] = written[first - start : last - start]
        return bytes(data)

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> None:
        """Takes a write in; with `fua` it is on the disk afterwards."""
        if fua:
            self._write_out_overlapping(offset, len(data))
            self._put(offset, data)
            return
        self._writes.append((offset, data))
        self._bytes += len(data)
        while self._bytes > self._limit:
            self._write_out(1)

    def flush(self) -> None:
        """Writes all to the disk."""
        self._write_out(len(self._writes))
        self.flushes += 1

    def cut(self, mode: Cut, seed: int) -> Left:
        """Loses the power; the cache is empty afterwards.

        Args:
            mode: what is left.
            seed: of the chance.
        """
        chance = random.Random(seed)  # noqa: S311 a cut that can be had again
        kept = torn = 0
        writes, self._writes, self._bytes = self._writes, [], 0
        for offset, data in writes:
            if mode == Cut.DROP or chance.random() < 0.5:
                continue
            part = (0, data)
            blocks = -(-(offset % BLOCK_BYTES + len(data)) // BLOCK_BYTES)
            if mode == Cut.TORN and blocks > 1 and chance.random() < 0.5:
                part = _torn(offset, data, blocks, chance)
                torn += 1
            else:
                kept += 1
            self._put(offset + part[0], part[1])
        os.fsync(self._fd)
        return Left(unflushed=len(writes), kept=kept, torn=torn)

    def _write_out(self, count: int) -> None:
        for offset, data in self._writes[:count]:
            self._put(offset, data)
            self._bytes -= len(data)
        del self._writes[:count]

    def _write_out_overlapping(self, offset: int, length: int) -> None:
        """Writes out what lies below a write to the disk, lest it go over it later.

        All up to the last such write goes, so that the order of writes to one place is kept.
        """
        touching = [
            index
            for index, (start, data) in enumerate(self._writes)
            if start < offset + length and offset < start + len(data)
        ]
        if touching:
            self._write_out(touching[-1] + 1)

    def _put(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done


def _torn(offset: int, data: bytes, blocks: int, chance: random.Random) -> tuple[int, bytes]:
    """Returns where a part of a write begins in it, and the part."""
    at = chance.randrange(1, blocks) * BLOCK_BYTES - offset % BLOCK_BYTES
    return (0, data[:at]) if chance.random() < 0.5 else (at, data[at:])
