"""Adding differences to old bytes, without a loop over bytes and without a library: long integers do it.

Bytes are added modulo 256, 64 KiB at a time: the low seven bits of all bytes are added at once, as no carry can leave
them, and the high bits are put right by exclusive or.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from wherry.core.errors import InvalidInput
from wherry.store.delta.parts import PartStream
from wherry.store.delta.sources import Window

_CHUNK_BYTES = 64 * 1024
_MASK_BYTES = 256
_ZEROS = bytes(_CHUNK_BYTES)
_masks: dict[int, tuple[int, int]] = {}


class Sink(Protocol):
    """Where the bytes of a view go."""

    def write(self, data: bytes, /) -> object:
        """Takes the next bytes."""


def add_bytes(old: bytes, difference: bytes) -> bytes:
    """Returns the sum of two byte strings of one length, each byte modulo 256."""
    size = len(old)
    if size > _CHUNK_BYTES:
        return b"".join(
            add_bytes(old[at : at + _CHUNK_BYTES], difference[at : at + _CHUNK_BYTES])
            for at in range(0, size, _CHUNK_BYTES)
        )
    if difference == _ZEROS[:size]:
        return old
    low, high = _mask(size)
    first, second = int.from_bytes(old, "little"), int.from_bytes(difference, "little")
    return (((first & low) + (second & low)) ^ ((first ^ second) & high)).to_bytes(size, "little")


def _mask(size: int) -> tuple[int, int]:
    """Returns the masks of all low seven bits, and of all high bits; those of short and of the longest are kept."""
    found = _masks.get(size)
    if found is None:
        found = int.from_bytes(b"\x7f" * size, "little"), int.from_bytes(b"\x80" * size, "little")
        if size <= _MASK_BYTES or size == _CHUNK_BYTES:
            _masks[size] = found
    return found


def run_steps(
    steps: Iterable[tuple[int, int, int]],
    window: Window,
    differences: PartStream,
    new: PartStream,
    sink: Sink,
    limit: int,
) -> int:
    """Makes the next bytes of a view.

    Args:
        steps: each adds differences, takes new bytes, and moves in the window.
        window: what is added to.
        differences: the stream of them.
        new: the stream of new bytes.
        sink: where the bytes go.
        limit: how many there may be.

    Returns:
        How many there were.

    Raises:
        InvalidInput: there are more than `limit`, or a step leaves the window.
        IntegrityError: a stream or a source is too short.
    """
    position = made = 0
    for add, fresh, seek in steps:
        made += add + fresh
        if made > limit:
            raise InvalidInput("malformed device delta: a patch that makes too much")
        if add:
            for old in window.pieces(position, add):
                sink.write(add_bytes(old, differences.read(len(old))))
            position += add
        if fresh:
            for piece in new.pieces(fresh):
                sink.write(piece)
        position += seek
    return made


def skip_steps(steps: Iterable[tuple[int, int, int]], differences: PartStream, new: PartStream) -> int:
    """Passes over what ``run_steps`` would use, for an object that is here already; returns how many bytes it makes."""
    adds = fresh = 0
    for add, more, _ in steps:
        adds += add
        fresh += more
    differences.skip(adds)
    new.skip(fresh)
    return adds + fresh
