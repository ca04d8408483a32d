"""Which old files are like a new one: found by content, across the whole old tree, whatever the files are called.

Of each file some positions are picked by what stands there, one in 64 (one in 8 of short files): those whose 8 bytes
have a hash below a limit. Equal content is picked alike wherever it stands. The picks of all old files lie in one
sorted array; those of a new file are looked up in it, and vote. The answer is not only a file, but the ranges in it (or
in several files) that are worth to be looked at: blocks of 64 KiB with votes for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wherry.store.delta.match import Bytes, Ints, grams

_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_SHORT_BYTES = 16 * 1024
_COARSE_BITS, _FINE_BITS = 6, 3
_BATCH_BYTES = 256 * 1024
BLOCK_BITS = 16
_MAX_OCCURRENCES = 8
"""Content that stands in more places says nothing about where to look."""


@dataclass(frozen=True, slots=True)
class Picks:
    """Positions of a file that were picked, and their hashes."""

    hashes: npt.NDArray[np.uint64]
    positions: Ints


@dataclass(frozen=True, slots=True)
class Candidate:
    """A range that is worth to be looked at."""

    file: int
    begin: int
    end: int


def pick(data: Bytes) -> Picks:
    """Returns what is picked of a file."""
    bits = np.uint64(64 - (_FINE_BITS if len(data) < _SHORT_BYTES else _COARSE_BITS))
    hashes, positions = [], []
    for begin in range(0, len(data), _BATCH_BYTES):
        words = grams(data[begin : begin + _BATCH_BYTES + 7])
        mixed = words * _MULTIPLIER
        mixed ^= mixed >> np.uint64(32)
        mixed *= _MULTIPLIER
        chosen = np.flatnonzero((mixed >> bits) == 0)
        turned = (words[chosen] << np.uint64(8)) | (words[chosen] >> np.uint64(56))
        chosen = chosen[turned != words[chosen]]  # runs of one byte are everywhere
        hashes.append(mixed[chosen])
        positions.append(chosen + begin)
    if not hashes:
        return Picks(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))
    return Picks(np.concatenate(hashes), np.concatenate(positions).astype(np.int64))


class Index:
    """The picks of many files."""

    def __init__(self, files: Sequence[tuple[int, Picks]], sizes: dict[int, int]) -> None:
        """Takes the picks of files that are named by numbers, and the files' lengths."""
        self._sizes = sizes
        hashes = [picks.hashes for _, picks in files] or [np.empty(0, dtype=np.uint64)]
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        self._hashes = joined[order]
        owners = [np.full(len(picks.hashes), number, dtype=np.int32) for number, picks in files]
        self._files = (np.concatenate(owners) if owners else np.empty(0, dtype=np.int32))[order]
        places = [picks.positions for _, picks in files]
        self._positions = (np.concatenate(places) if places else np.empty(0, dtype=np.int64))[order]

    def size(self, file: int) -> int:
        """Returns the length of a file; 0 when there is none of that number."""
        return self._sizes.get(file, 0)

    def candidates(self, picks: Picks, *, most_bytes: int, favourite: int | None = None) -> list[Candidate]:
        """Returns the ranges that are most like a file, or a part of one, the likeliest file first.

        Args:
            picks: of it.
            most_bytes: how much the ranges may come to.
            favourite: a file that goes first among equals.
        """
        files, positions, voters = self._hits(picks)
        if not len(files):
            return []
        names, slots = np.unique(files, return_inverse=True)
        votes = np.bincount(slots).astype(np.float64)
        if favourite is not None:
            votes[names == favourite] = votes[names == favourite] * 1.05 + 1
        # Each pick counts for one file only: the one with the most votes of those that have it.
        strength = votes[slots]
        best = np.lexsort((-strength, voters))
        first = np.ones(len(best), dtype=bool)
        first[1:] = voters[best][1:] != voters[best][:-1]
        chosen = best[first]
        files, positions = files[chosen], positions[chosen]
        blocks, counts = np.unique((files.astype(np.int64) << 40) | (positions >> BLOCK_BITS), return_counts=True)
        ranking = np.argsort(-counts, kind="stable")
        taken: dict[int, set[int]] = {}
        weight: dict[int, int] = {}
        left = most_bytes
        for key, count in zip(blocks[ranking].tolist(), counts[ranking].tolist(), strict=True):
            file, block = key >> 40, key & (1 << 40) - 1
            size = self._sizes[file]
            if count < 2 and size > 2 << BLOCK_BITS and file in taken:
                continue
            mine = taken.setdefault(file, set())
            weight[file] = weight.get(file, 0) + count
            for near in (block, block - 1, block + 1):
                if 0 <= near << BLOCK_BITS < size and near not in mine and left > 0:
                    mine.add(near)
                    left -= 1 << BLOCK_BITS
        found = []
        for file in sorted(taken, key=lambda number: (-weight[number], number)):
            found += _ranges(file, sorted(taken[file]), self._sizes[file])
        return found

    def _hits(self, picks: Picks) -> tuple[Ints, Ints, Ints]:
        """Returns the file and position of each place that has a pick, and the number of the pick."""
        low = np.searchsorted(self._hashes, picks.hashes, "left")
        high = np.searchsorted(self._hashes, picks.hashes, "right")
        count = high - low
        count[count > _MAX_OCCURRENCES] = 0
        voters = np.repeat(np.arange(len(count)), count)
        ends = np.cumsum(count)
        offsets = np.arange(len(voters)) - np.repeat(ends - count, count)
        places = np.repeat(low, count) + offsets
        return self._files[places].astype(np.int64), self._positions[places], voters


def _ranges(file: int, blocks: list[int], size: int) -> list[Candidate]:
    found: list[Candidate] = []
    for block in blocks:
        begin, end = block << BLOCK_BITS, min(size, (block + 1) << BLOCK_BITS)
        if found and found[-1].end == begin:
            found[-1] = Candidate(file, found[-1].begin, end)
        else:
            found.append(Candidate(file, begin, end))
    return found
