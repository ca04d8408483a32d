"""Which old files are like a new one: found by content, across the whole old tree, whatever the files are called.

Of each file some positions are picked by what stands there, one in 64 (one in 8 of short files): those whose 8 bytes
have a hash below a limit. Equal content is picked alike wherever it stands. Of the old files' picks those lie in one
sorted array that some new file has too; those of a new file are looked up in it, and vote. The answer is not only a
file, but the ranges in it (or in several files) that are worth to be looked at: blocks of 64 KiB with votes for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wherry.store.delta.match import Bytes, Ints, grams

_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_SHORT_BYTES = 16 * 1024
_COARSE_BITS, _FINE_BITS = 6, 3
_BATCH_BYTES = 32 * 1024
BLOCK_BITS = 16
_WANTED_BITS = 25
_LEAST_MERGE = 1 << 19
_MAX_OCCURRENCES = 8
"""Content that stands in more places says nothing about where to look."""


@dataclass(frozen=True, slots=True)
class Picks:
    """The hashes that were picked of a file, and the blocks that they stand in."""

    hashes: npt.NDArray[np.uint64]
    blocks: npt.NDArray[np.int32]


class Wanted:
    """Which hashes will be looked up: an index needs no others. Now and then it says yes of one that nobody wants."""

    def __init__(self) -> None:
        self._there = np.zeros(1 << _WANTED_BITS, dtype=bool)
        self._mask = np.uint64(len(self._there) - 1)

    def add(self, picks: Picks) -> None:
        """Takes what will be looked up."""
        self._there[picks.hashes & self._mask] = True

    def among(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Tells of each hash whether it may be wanted."""
        found: npt.NDArray[np.bool_] = self._there[hashes & self._mask]
        return found


@dataclass(frozen=True, slots=True)
class Candidate:
    """A range that is worth to be looked at."""

    file: int
    begin: int
    end: int


def pick(data: Bytes, wanted: Wanted | None = None) -> Picks:
    """Returns what is picked of a file, or of it only what is wanted."""
    bits = np.uint64(64 - (_FINE_BITS if len(data) < _SHORT_BYTES else _COARSE_BITS))
    hashes, blocks = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int32)]
    for begin in range(0, len(data), _BATCH_BYTES):
        words = grams(data[begin : begin + _BATCH_BYTES + 7])
        mixed = words * _MULTIPLIER
        mixed ^= mixed >> np.uint64(32)
        mixed *= _MULTIPLIER
        chosen = np.flatnonzero((mixed >> bits) == 0)
        turned = (words[chosen] << np.uint64(8)) | (words[chosen] >> np.uint64(56))
        chosen = chosen[turned != words[chosen]]  # runs of one byte are everywhere
        found = mixed[chosen]
        if wanted is not None:
            there = wanted.among(found)
            found, chosen = found[there], chosen[there]
        hashes.append(found)
        blocks.append(((chosen + begin) >> BLOCK_BITS).astype(np.int32))
    return Picks(np.concatenate(hashes), np.concatenate(blocks))


class Index:
    """The picks of many files."""

    def __init__(self, files: Iterable[tuple[int, Picks, int]]) -> None:
        """Takes the picks of files that are named by numbers, and the files' lengths."""
        self._sizes: dict[int, int] = {}
        self._hashes = np.empty(0, dtype=np.uint64)
        self._places = np.empty(0, dtype=np.int64)
        """Of each pick file and block, as one number."""
        waiting: list[tuple[npt.NDArray[np.uint64], Ints]] = []
        count = 0
        for number, picks, size in files:
            self._sizes[number] = size
            waiting.append((picks.hashes, np.int64(number) << 32 | picks.blocks))
            count += len(picks.hashes)
            if count > max(_LEAST_MERGE, len(self._hashes) // 2):
                self._merge(waiting)
                waiting, count = [], 0
        self._merge(waiting)
        starts = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), self._hashes[1:] != self._hashes[:-1])))
        lengths = np.diff(np.append(starts, len(self._hashes))) if len(self._hashes) else starts[:0]
        keep = np.repeat(lengths <= _MAX_OCCURRENCES, lengths)
        self._hashes, self._places = self._hashes[keep], self._places[keep]

    def _merge(self, waiting: list[tuple[npt.NDArray[np.uint64], Ints]]) -> None:
        """Sorts more picks in; of what stands in too many places one place too many is kept."""
        hashes = np.concatenate([self._hashes, *(item[0] for item in waiting)])
        places = np.concatenate([self._places, *(item[1] for item in waiting)])
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        most = _MAX_OCCURRENCES + 1
        keep = np.concatenate((np.ones(min(most, len(hashes)), dtype=bool), hashes[most:] != hashes[:-most]))
        self._hashes, self._places = hashes[keep], places[order[keep]]

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
        places, voters = self._hits(picks)
        if not len(places):
            return []
        files = places >> 32
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
        blocks, counts = np.unique(places[chosen], return_counts=True)
        ranking = np.argsort(-counts, kind="stable")
        taken: dict[int, set[int]] = {}
        weight: dict[int, int] = {}
        left = most_bytes
        for key, count in zip(blocks[ranking].tolist(), counts[ranking].tolist(), strict=True):
            file, block = key >> 32, key & 0xFFFFFFFF
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

    def _hits(self, picks: Picks) -> tuple[Ints, Ints]:
        """Returns each place that has a pick, and the number of the pick."""
        low = np.searchsorted(self._hashes, picks.hashes, "left")
        high = np.searchsorted(self._hashes, picks.hashes, "right")
        count = high - low
        voters = np.repeat(np.arange(len(count)), count)
        ends = np.cumsum(count)
        offsets = np.arange(len(voters)) - np.repeat(ends - count, count)
        places = np.repeat(low, count) + offsets
        return self._places[places], voters


def _ranges(file: int, blocks: list[int], size: int) -> list[Candidate]:
    found: list[Candidate] = []
    for block in blocks:
        begin, end = block << BLOCK_BITS, min(size, (block + 1) << BLOCK_BITS)
        if found and found[-1].end == begin:
            found[-1] = Candidate(file, found[-1].begin, end)
        else:
            found.append(Candidate(file, begin, end))
    return found
