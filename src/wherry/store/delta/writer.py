"""Parts being written: orders, differences and new bytes collected, and compressed while the next part is made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wherry.core.trace import reach
from wherry.store.delta.format import LZMA, STORED, ZSTD, Part, Stream
from wherry.store.delta.orders import ObjectOrder, OrderWriter, SourceId
from wherry.store.delta.parts import WINDOW_LOG, lzma_filters

PART_VIEW_BYTES = 32 * 1024 * 1024
"""So much is made by one part, or a little more: what a power cut costs, and what the compressor sees at once."""
PART_ORDERS_BYTES = 4 * 1024 * 1024
_AT_ONCE = 1
"""Parts that are compressed while the next one is made; each is held in memory."""
_ZSTD_LEVEL = 19
_QUICK_LEVEL = 6
_BEST_GAIN = 0.85
"""What the slow level makes of the quick one's size at best: where even that is no match for LZMA, it is not tried."""
_LEAST_GAIN = 0.98
"""LZMA is slower to unpack; it is taken when it saves a fiftieth at least."""


@dataclass(slots=True)
class Piece:
    """The next bytes of an object's view, and how to make them."""

    ranges: list[tuple[SourceId, int, int]]
    steps: list[tuple[int, int, int]]
    differences: bytes
    new: bytes
    size: int


class PartWriter:
    """Collects what objects are made of, and cuts it into parts.

    Args:
        file: where compressed parts go, one behind the other.
        pool: where they are compressed.
        strong: whether LZMA is tried too.
    """

    def __init__(self, file: BinaryIO, pool: Executor, *, strong: bool = True) -> None:
        self._file = file
        self._pool = pool
        self._strong = strong
        self._waiting: list[tuple[int, list[Future[tuple[int, bytes]]], list[int]]] = []
        self.parts: list[Part] = []
        self.made = 0
        """How many objects are whole."""
        self._order: ObjectOrder | None = None
        self._begin_part()

    def _begin_part(self) -> None:
        self._orders = OrderWriter()
        self._differences = bytearray()
        self._new = bytearray()
        self._view_bytes = self._objects = 0

    def begin(self, order: ObjectOrder) -> None:
        """Begins an object."""
        if self._view_bytes >= PART_VIEW_BYTES or len(self._orders) >= PART_ORDERS_BYTES:
            self._cut()
        self._order = order
        self._done = 0
        self._orders.begin(order)

    def add(self, piece: Piece) -> None:
        """Adds the next bytes of its view."""
        order = self._order
        assert order is not None  # noqa: S101 begun before
        if self._done and (self._view_bytes >= PART_VIEW_BYTES or len(self._orders) >= PART_ORDERS_BYTES):
            self._cut()
            again = ObjectOrder(
                kind=order.kind,
                checksum=order.checksum,
                done=self._done,
                size=order.size,
                header=order.header,
                recipe=order.recipe,
            )
            self._orders.begin(again)
        self._orders.patch(piece.ranges, piece.steps)
        self._differences += piece.differences
        self._new += piece.new
        self._done += piece.size
        self._view_bytes += piece.size

    def end(self) -> None:
        """Ends the object."""
        self._orders.end()
        self._order = None
        self._objects += 1
        self.made += 1

    def finish(self) -> None:
        """Writes the last part."""
        if len(self._orders):
            self._cut()
        while self._waiting:
            self._write_one()

    def _cut(self) -> None:
        streams: list[bytes | bytearray] = [self._orders.data, self._differences, self._new]
        futures = [
            self._pool.submit(compress, data, strong=self._strong, aligned=data is self._new) for data in streams
        ]
        self._waiting.append((self._objects, futures, [len(data) for data in streams]))
        self._begin_part()
        while len(self._waiting) > _AT_ONCE:
            self._write_one()

    def _write_one(self) -> None:
        count, futures, sizes = self._waiting.pop(0)
        digest = hashlib.sha256()
        streams = []
        for future, size in zip(futures, sizes, strict=True):
            codec, data = future.result()
            digest.update(data)
            self._file.write(data)
            streams.append(Stream(codec=codec, size=len(data), unpacked=size))
        self.parts.append(Part(streams=tuple(streams), objects=count, digest=digest.digest()))
        reach("store.device-delta.made")


def compress(data: bytes | bytearray, *, strong: bool = True, aligned: bool = True) -> tuple[int, bytes]:
    """Returns how a stream is compressed best, and what it comes to; orders and differences are not `aligned`."""
    import lzma

    import zstandard

    if not data:
        return STORED, b""

    def zstd(level: int) -> bytes:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, source_size=len(data), window_log=WINDOW_LOG, write_dict_id=False, write_content_size=False
        )
        return zstandard.ZstdCompressor(compression_params=parameters).compress(data)

    codec, best = ZSTD, b""
    if strong:
        other = lzma.compress(data, format=lzma.FORMAT_RAW, filters=lzma_filters(strong=True, aligned=aligned))
        if len(other) < len(zstd(_QUICK_LEVEL)) * _BEST_GAIN * _LEAST_GAIN:
            codec, best = LZMA, other
    if codec == ZSTD:
        best = zstd(_ZSTD_LEVEL)
        if strong and len(other) < len(best) * _LEAST_GAIN:
            codec, best = LZMA, other
    return (codec, best) if len(best) < len(data) else (STORED, bytes(data))


Sign = Callable[[bytes], bytes]
"""Returns the Ed25519 signature of some bytes."""


def write_delta(output: BinaryIO, head: bytes, parts: Path) -> int:
    """Writes a delta from its head and the file of its parts; returns its length."""
    size = output.write(head)
    with open(parts, "rb") as file:
        while data := file.read(1024 * 1024):
            size += output.write(data)
    return size
