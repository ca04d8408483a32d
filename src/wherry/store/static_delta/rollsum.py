"""Stretches of a file that stand in another file too, found by chunks whose borders the content itself decides.

The rolling checksum is bup's, as OSTree's: a window of 64 bytes, a border where the lower 13 bits are all set. Both
files are cut, equal chunks found by their hash and compared, and each match then grown to both sides. Used where a
bsdiff would take too much: for files over the limit, and when it is switched off.

Source: bup's ``bupsplit.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wherry.core.errors import Unsupported

WINDOW_BYTES = 64
BORDER_MASK = (1 << 13) - 1
MAX_CHUNK_BYTES = 32 * 1024
MIN_CHUNK_BYTES = 64
MIN_MATCH_BYTES = 64
"""A shorter copy costs more than it spares."""
_OFFSET = 31
_BLOCK_BYTES = 4 * 1024 * 1024


class Match(NamedTuple):
    """Equal bytes: where in the new file, where in the old one, how many."""

    new: int
    old: int
    length: int


def chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Gives start and end of each chunk.

    Raises:
        Unsupported: numpy is not installed.
    """
    start = 0
    for border in _borders(data):
        while border - start > MAX_CHUNK_BYTES:
            yield start, start + MAX_CHUNK_BYTES
            start += MAX_CHUNK_BYTES
        if border - start >= MIN_CHUNK_BYTES:
            yield start, border
            start = border
    while start < len(data):
        end = min(start + MAX_CHUNK_BYTES, len(data))
        yield start, end
        start = end


def matches(old: bytes, new: bytes) -> list[Match]:
    """Returns what of `new` stands in `old` too: sorted, not overlapping, as long as can be."""
    known: dict[bytes, int] = {}
    for start, end in chunks(old):
        known.setdefault(old[start:end], start)
    found: list[Match] = []
    done = 0
    for start, end in chunks(new):
        if end <= done:
            continue
        place = known.get(new[start:end]) if start >= done else None
        if place is None:
            continue
        before = _equal_before(old, place, new, start, start - done)
        after = _equal_after(old, place + end - start, new, end)
        match = Match(start - before, place - before, end - start + before + after)
        if match.length >= MIN_MATCH_BYTES:
            found.append(match)
            done = match.new + match.length
    return found


def _borders(data: bytes) -> Iterator[int]:
    """Gives every place behind a window whose checksum ends in ones."""
    try:
        import numpy as np
    except ImportError as error:
        raise Unsupported(
            "this installation cannot look for equal chunks", where="the package numpy is missing", hint="install it"
        ) from error

    for first in range(0, len(data), _BLOCK_BYTES):
        begin = max(0, first - WINDOW_BYTES)
        stop = min(first + _BLOCK_BYTES, len(data))
        values = np.frombuffer(data, dtype=np.uint8, count=stop - begin, offset=begin).astype(np.int64)
        # s1 is the sum over the window, s2 the sum of s1 as the window moved: both by differences of running sums.
        padded = np.concatenate([np.zeros(WINDOW_BYTES, dtype=np.int64), values])
        sums = np.cumsum(padded)
        window = sums[WINDOW_BYTES:] - sums[:-WINDOW_BYTES]
        weighted = np.cumsum(padded * np.arange(len(padded), dtype=np.int64))
        inner = weighted[WINDOW_BYTES:] - weighted[:-WINDOW_BYTES]
        places = np.arange(len(values), dtype=np.int64) + WINDOW_BYTES
        second = inner - window * (places - WINDOW_BYTES)
        second += _OFFSET * (WINDOW_BYTES * (WINDOW_BYTES + 1) // 2)
        hits = np.nonzero((second & BORDER_MASK) == BORDER_MASK)[0]
        for hit in hits[hits >= first - begin].tolist():
            yield begin + hit + 1


def _equal_before(old: bytes, old_at: int, new: bytes, new_at: int, limit: int) -> int:
    limit = min(limit, old_at, new_at)
    size = 0
    step = 4096
    while size < limit:
        count = min(step, limit - size)
        if old[old_at - size - count : old_at - size] == new[new_at - size - count : new_at - size]:
            size += count
        elif count == 1:
            break
        else:
            step = count // 2
    return size


def _equal_after(old: bytes, old_at: int, new: bytes, new_at: int) -> int:
    limit = min(len(old) - old_at, len(new) - new_at)
    size = 0
    step = 65536
    while size < limit:
        count = min(step, limit - size)
        if old[old_at + size : old_at + size + count] == new[new_at + size : new_at + size + count]:
            size += count
        elif count == 1:
            break
        else:
            step = count // 2
    return size
