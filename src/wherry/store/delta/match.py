"""What of a new file stands in an old one: bsdiff's idea, found by sorting instead of a suffix array.

The result is a list of steps, as bsdiff has them: *add* so many bytes of the old file to a string of differences,
take so many new bytes, move in the old file. Where a program was compiled again, almost every address in it differs
by a little and all else is equal: the differences are mostly zeros, and compress to a fraction of what copies do.

Positions of the old bytes go into one sorted array of 64-bit numbers, a hash of the 8 bytes there above the position;
one search in it by the positions of the new bytes, sorted too, makes the seeds. A position in two is picked on both
sides, by its hash. Time is n log n whatever the bytes are (bsdiff's own sort can be quadratic, and recurses without
bound); memory is 25 bytes for each byte at most. Needs numpy; only who makes deltas needs that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

GRAM_BYTES = 8
POSITION_BITS = 25
MAX_OLD_BYTES = 1 << POSITION_BITS
MAX_NEW_BYTES = 1 << POSITION_BITS
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_NOWHERE = np.iinfo(np.int32).min
_BATCH = 1 << 15
PASSES = (0, 1, 0)
"""Of each pass: how often weak stretches are thinned out first. The one that comes out shortest counts."""
SAMPLE_BITS = 1
"""One position in two is picked, by what stands there; the others follow from those around them."""
_GROW_BYTES = 8
_MIN_SEED_BYTES = 12
_SWITCH_BYTES = 10
"""How many bytes more must match before it is worth to leave a diagonal."""
_LONG_BYTES = 32
"""Of longer stretches what is equal is counted; of shorter ones it is known from the seeds."""
_THIN_BYTES = 64
_THIN_ROWS = 8192
_COST_LEVEL = 3
_STEP_COST_BYTES = 4
_MAX_KNOWN = 200_000
_LEAST_AHEAD_BYTES, _MOST_AHEAD_BYTES = 1024, 64 * 1024
REFINEMENTS = 3
_MAX_REACH_BYTES = 1 << 20
"""How far a match is carried on into a gap."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a patch."""

    add: int
    """Bytes that are old bytes plus differences."""
    new: int
    """Bytes that are new."""
    seek: int
    """How far to move in the old bytes then, beyond `add`."""


def match(
    old: bytes | memoryview | Bytes, new: bytes | memoryview | Bytes, *, passes: Sequence[int] = PASSES
) -> list[Step]:
    """Returns the steps from `old` to `new`; their `add` and `new` come to the length of `new`.

    Args:
        old: at most ``MAX_OLD_BYTES``.
        new: at most ``MAX_NEW_BYTES``.
        passes: see ``PASSES``; fewer are quicker.
    """
    before, after = _array(old), _array(new)
    if len(before) > MAX_OLD_BYTES or len(after) > MAX_NEW_BYTES:
        raise ValueError("too long to be matched at once")
    if not len(after):
        return []
    index = _Index(before, after)
    equals = _Equals(before, after)
    best: list[Step] = []
    least = -1
    expected: Ints | None = None
    for thinnings in passes:
        stretches = _choose(before, after, index.seeds(expected), thinnings, equals)
        steps = _steps(before, after, stretches)
        cost = _cost(before, after, steps) if len(passes) > 1 else 0
        if least < 0 or cost < least:
            best, least = steps, cost
        if not stretches:
            break
        expected = _profile(stretches, len(after))
    return best


def _cost(old: Bytes, new: Bytes, steps: list[Step]) -> int:
    """Returns about how many bytes the steps come to, compressed."""
    import zstandard

    at = position = 0
    differences, fresh = bytearray(), bytearray()
    for step in steps:
        differences += (new[at : at + step.add] - old[position : position + step.add]).tobytes()
        at += step.add
        fresh += new[at : at + step.new].tobytes()
        at += step.new
        position += step.add + step.seek
    compressor = zstandard.ZstdCompressor(level=_COST_LEVEL)
    return len(compressor.compress(differences)) + len(compressor.compress(fresh)) + _STEP_COST_BYTES * len(steps)


def _array(data: bytes | memoryview | Bytes) -> Bytes:
    return data if isinstance(data, np.ndarray) else np.frombuffer(data, dtype=np.uint8)


def grams(data: Bytes) -> npt.NDArray[np.uint64]:
    """Returns the 8 bytes at each position as a number."""
    count = len(data) - GRAM_BYTES + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    result = np.empty(count, dtype=np.uint64)
    for shift in range(min(GRAM_BYTES, count)):
        words = (len(data) - shift) // GRAM_BYTES
        result[shift::GRAM_BYTES] = data[shift : shift + words * GRAM_BYTES].view(np.uint64)
    return result


def _keys(data: Bytes) -> npt.NDArray[np.uint64]:
    """Returns a hash of the 8 bytes at each position that is picked, above the position, in the order of positions."""
    found = [np.empty(0, dtype=np.uint64)]
    for begin in range(0, len(data), _BATCH):
        keys = grams(data[begin : begin + _BATCH + GRAM_BYTES - 1])
        # Bytes that repeat themselves match everywhere: each would be a stretch of its own, and none the right one.
        repeated = keys == (keys << np.uint64(32) | keys >> np.uint64(32))
        keys *= _MULTIPLIER
        keys ^= keys >> np.uint64(29)
        keys *= _MULTIPLIER
        places = np.flatnonzero((keys >> np.uint64(64 - SAMPLE_BITS) == 0) & ~repeated)
        keys = keys[places]
        keys <<= np.uint64(SAMPLE_BITS)
        keys &= np.uint64(-1 << POSITION_BITS & 0xFFFFFFFFFFFFFFFF)
        keys |= (places + begin).astype(np.uint64)
        found.append(keys)
    return np.concatenate(found)


class _Index:
    """Where each 8 bytes stand in the old bytes, and in the new ones, both in the order of their hashes."""

    def __init__(self, old: Bytes, new: Bytes) -> None:
        self._old, self._new = old, new
        self._mask = np.uint64(MAX_OLD_BYTES - 1)
        self._index = _keys(old)
        self._index.sort()
        self._wanted = _keys(new)
        self._places = (self._wanted & self._mask).astype(np.int64)
        self._wanted.sort()

    def seeds(self, expected: Ints | None) -> tuple[Ints, Ints, Ints]:
        """Returns runs of equal bytes: where they begin and end in the new bytes, and their diagonals.

        Args:
            expected: for each position of the new bytes the diagonal to look near to; None takes the first place.
        """
        nothing = np.empty(0, dtype=np.int64)
        if not len(self._index) or not len(self._wanted):
            return nothing, nothing, nothing
        by_place = np.full(len(self._new), _NOWHERE, dtype=np.int32)
        for begin in range(0, len(self._wanted), _BATCH):
            at, diagonal = self._look_up(self._wanted[begin : begin + _BATCH], expected)
            by_place[at] = diagonal
        return _runs(self._old, self._new, self._places, by_place[self._places])

    def _look_up(self, wanted: npt.NDArray[np.uint64], expected: Ints | None) -> tuple[Ints, Ints]:
        """Returns places of the new bytes, and the diagonals found for them."""
        index, mask = self._index, self._mask
        at = (wanted & mask).astype(np.int64)
        hashes = wanted & ~mask
        if expected is None:
            places = np.searchsorted(index, hashes)
            places[places == len(index)] = 0
            found = index[places]
        else:
            near = np.clip(at + expected[at], 0, MAX_OLD_BYTES - 1)
            places = np.searchsorted(index, hashes | near.astype(np.uint64))
            above = index[np.minimum(places, len(index) - 1)]
            below = index[np.maximum(places - 1, 0)]
            far = np.int64(1) << 60
            rise = np.where((above & ~mask) == hashes, np.abs((above & mask).astype(np.int64) - near), far)
            fall = np.where((below & ~mask) == hashes, np.abs((below & mask).astype(np.int64) - near), far)
            found = np.where(rise <= fall, above, below)
        hit = (found & ~mask) == hashes
        at = at[hit]
        return at, (found[hit] & mask).astype(np.int64) - at


def _profile(stretches: list[tuple[int, int, int]], size: int) -> Ints:
    """Returns the diagonal to expect at each position: that of the last stretch that began before it."""
    begins = np.array([0, *(begin for begin, _, _ in stretches[1:]), size], dtype=np.int64)
    return np.repeat(np.array([diagonal for _, _, diagonal in stretches], dtype=np.int64), np.diff(begins))


def _runs(old: Bytes, new: Bytes, places: Ints, found: npt.NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
    """Returns the runs of places in which the diagonal stays the same, those that are too short left out."""
    cuts = np.flatnonzero(found[1:] != found[:-1]) + 1
    first = np.concatenate((np.zeros(1, dtype=np.int64), cuts))
    last = np.concatenate((cuts, np.full(1, len(found), dtype=np.int64))) - 1
    there = found[first] != _NOWHERE
    first, last = first[there], last[there]
    begins, ends, diagonals = places[first], places[last] + GRAM_BYTES, found[first].astype(np.int64)
    # A hash says only that bytes are equal very likely, and places on one diagonal nothing of what lies between.
    right = (old[begins + diagonals] == new[begins]) & (old[ends - 1 + diagonals] == new[ends - 1])
    begins, ends, diagonals = begins[right], ends[right], diagonals[right]
    # A short run counts when the run before it, or behind it, is on its diagonal, or when more is equal around it.
    keep = ends - begins >= _MIN_SEED_BYTES
    if len(begins) > 1:
        equal = diagonals[1:] == diagonals[:-1]
        keep[1:] |= equal
        keep[:-1] |= equal
    begins, ends = _grow(old, new, begins, ends, diagonals, ~keep)
    keep |= ends - begins >= _MIN_SEED_BYTES
    return begins[keep], ends[keep], diagonals[keep]


def _grow(
    old: Bytes, new: Bytes, begins: Ints, ends: Ints, diagonals: Ints, which: npt.NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Carries some runs on by up to ``_GROW_BYTES`` equal bytes on both sides."""
    begins, ends = begins.copy(), ends.copy()
    for forward in (True, False):
        going = np.flatnonzero(which)
        for _ in range(_GROW_BYTES):
            at = ends[going] if forward else begins[going] - 1
            inside = (at >= 0) & (at < len(new)) & (at + diagonals[going] >= 0) & (at + diagonals[going] < len(old))
            going, at = going[inside], at[inside]
            equal = new[at] == old[at + diagonals[going]]
            going = going[equal]
            if not len(going):
                break
            if forward:
                ends[going] += 1
            else:
                begins[going] -= 1
    return begins, ends


def _choose(
    old: Bytes, new: Bytes, seeds: tuple[Ints, Ints, Ints], thinnings: int, equals: _Equals
) -> list[tuple[int, int, int]]:
    """Returns the stretches of the new bytes that are taken from one diagonal each: begin, end, diagonal."""
    begins, ends, diagonals = seeds
    if not len(begins):
        return []
    lengths = ends - begins
    lengths[1:] -= np.where(diagonals[1:] == diagonals[:-1], np.maximum(0, ends[:-1] - begins[1:]), 0)
    rows = _Rows(begins, ends, diagonals, lengths).joined()
    for _ in range(thinnings):
        rows = rows.thinned(old, new).joined()
    chosen: list[tuple[int, int, int]] = []
    begin = end = 0
    current: int | None = None
    ahead = _Ahead(old, new)
    for at, stop, diagonal, matched in rows.listed():
        if diagonal == current:
            end = max(end, stop)
            continue
        if current is not None:
            at = max(at, begin)
            enough = ahead.count(at, stop) + _SWITCH_BYTES
            if stop - at <= enough:
                continue
            if matched <= enough and stop - at > _LONG_BYTES:
                matched = equals.count(at, stop, diagonal)
            if matched <= enough:
                continue
            chosen.append((begin, end, current))
        begin, end, current = at, stop, diagonal
        ahead.follow(diagonal)
    if current is not None:
        chosen.append((begin, end, current))
    for _ in range(REFINEMENTS):
        before = len(chosen)
        chosen = _refine(equals, chosen)
        if len(chosen) == before:
            break
    return chosen


@dataclass(frozen=True, slots=True)
class _Rows:
    """Stretches before they are chosen from: where they begin and end, their diagonals, how much of them is equal."""

    begins: Ints
    ends: Ints
    diagonals: Ints
    support: Ints

    def joined(self) -> _Rows:
        """Returns them with those on one diagonal, one behind the other, as one; what lies between differs in place."""
        if not len(self.begins):
            return self
        first = np.concatenate((np.ones(1, dtype=bool), self.diagonals[1:] != self.diagonals[:-1]))
        starts = np.flatnonzero(first)
        return _Rows(
            self.begins[starts],
            np.maximum.reduceat(self.ends, starts),
            self.diagonals[starts],
            np.add.reduceat(self.support, starts),
        )

    def thinned(self, old: Bytes, new: Bytes) -> _Rows:
        """Returns them without those short ones that a stronger neighbour's diagonal does nearly as well."""
        count = len(self.begins)
        weak = np.zeros(count, dtype=bool)
        short = self.ends - self.begins <= _THIN_BYTES
        for shift in (1, -1):
            other = np.roll(self.diagonals, shift)
            strength = np.roll(self.support, shift)
            below = strength > self.support if shift == 1 else strength >= self.support
            asked = short & below & ~weak
            asked[0 if shift == 1 else count - 1] = False
            which = np.flatnonzero(asked)
            for at in range(0, len(which), _THIN_ROWS):
                some = which[at : at + _THIN_ROWS]
                weak[some] = self.support[some] <= self._equal(old, new, some, other[some]) + _SWITCH_BYTES
        keep = ~weak
        return _Rows(self.begins[keep], self.ends[keep], self.diagonals[keep], self.support[keep])

    def _equal(self, old: Bytes, new: Bytes, which: Ints, diagonals: Ints) -> Ints:
        """Counts, for some rows, what is equal on other diagonals."""
        offsets = np.arange(_THIN_BYTES)
        places = self.begins[which][:, None] + offsets
        inside = places < self.ends[which][:, None]
        sources = places + diagonals[:, None]
        inside &= (sources >= 0) & (sources < len(old))
        equal = new[np.where(inside, places, 0)] == old[np.where(inside, sources, 0)]
        equal &= inside
        result: Ints = equal.sum(axis=1, dtype=np.int64)
        return result

    def listed(self) -> Iterator[tuple[int, int, int, int]]:
        """Gives them one by one."""
        return zip(
            self.begins.tolist(), self.ends.tolist(), self.diagonals.tolist(), self.support.tolist(), strict=True
        )


def _refine(equals: _Equals, chosen: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Leaves out stretches that the diagonal before them, or that behind them, does nearly as well."""
    kept: list[tuple[int, int, int]] = []
    for number, (begin, end, diagonal) in enumerate(chosen):
        others = [kept[-1][2]] if kept else []
        if number + 1 < len(chosen):
            others.append(chosen[number + 1][2])
        if kept and kept[-1][2] == diagonal:
            kept[-1] = kept[-1][0], end, diagonal
            continue
        if others:
            enough = equals.count(begin, end, diagonal) - _SWITCH_BYTES
            if any(enough <= equals.count(begin, end, other) for other in others):
                continue
        kept.append((begin, end, diagonal))
    return kept


class _Ahead:
    """Counts equal bytes on one diagonal, for many stretches one behind the other: sums of them are made ahead."""

    def __init__(self, old: Bytes, new: Bytes) -> None:
        self._old, self._new = old, new
        self.follow(0)

    def follow(self, diagonal: int) -> None:
        """Goes over to another diagonal."""
        self._diagonal = diagonal
        self._low = self._high = -1
        self._reach = _LEAST_AHEAD_BYTES

    def count(self, begin: int, end: int) -> int:
        """Returns how many of the new bytes from `begin` to `end` are equal."""
        if begin >= end:
            return 0
        if begin < self._low or end > self._high:
            self._look(begin, end)
        return self._sum(end - self._low) - self._sum(begin - self._low)

    def _look(self, begin: int, end: int) -> None:
        self._low, self._high = begin, min(len(self._new), max(end, begin + self._reach))
        self._reach = min(self._reach * 2, _MOST_AHEAD_BYTES)
        first = min(max(self._low, -self._diagonal), self._high)
        last = max(first, min(self._high, len(self._old) - self._diagonal))
        sums = np.zeros(self._high - self._low + 1, dtype=np.int32)
        equal = self._new[first:last] == self._old[first + self._diagonal : last + self._diagonal]
        sums[first - self._low + 1 : last - self._low + 1] = equal
        np.cumsum(sums, out=sums)
        self._sum = sums.item


class _Equals:
    """Counts equal bytes; the same is asked again and again, while what is around it changes."""

    def __init__(self, old: Bytes, new: Bytes) -> None:
        self._old, self._new = old, new
        self._known: dict[tuple[int, int, int], int] = {}

    def count(self, begin: int, end: int, diagonal: int) -> int:
        """Returns how many of the new bytes from `begin` to `end` are equal to the old ones on a diagonal."""
        key = begin, end, diagonal
        found = self._known.get(key)
        if found is None:
            begin, end = max(begin, -diagonal), min(end, len(self._old) - diagonal)
            found = 0
            if begin < end:
                found = int(np.count_nonzero(self._new[begin:end] == self._old[begin + diagonal : end + diagonal]))
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found


def _steps(old: Bytes, new: Bytes, stretches: list[tuple[int, int, int]]) -> list[Step]:
    """Carries each stretch on into the gaps beside it, and writes the steps."""
    steps: list[Step] = []
    position = 0  # in the old bytes
    done = 0  # in the new bytes
    pending: tuple[int, int, int] | None = None
    for begin, end, diagonal in [*stretches, (len(new), len(new), 0)]:
        last = begin == len(new) == end
        before = pending
        left = done if before is None else before[1]
        forward = 0 if before is None else _reach_forward(old, new, left, begin, before[2])
        backward = 0 if last else _reach_backward(old, new, left, begin, diagonal)
        if begin < left:  # the stretches overlap: the later one begins where it is better
            cut = left if last else _best_cut(old, new, begin, left, before[2] if before else 0, diagonal)
            left, begin, forward, backward = cut, cut, 0, 0
        elif forward + backward > begin - left:
            low, high = begin - backward, left + forward
            cut = _best_cut(old, new, low, high, before[2] if before else 0, diagonal)
            forward, backward = cut - left, begin - cut
        if before is not None:
            steps.append(_step(before[0], left + forward, begin - backward, before[2], position))
            position = left + forward + before[2]
        elif begin - backward:
            steps.append(Step(0, begin - backward, 0))
        if last:
            break
        begin -= backward
        if steps:
            steps[-1] = Step(steps[-1].add, steps[-1].new, begin + diagonal - position)
        elif begin + diagonal:
            steps.append(Step(0, 0, begin + diagonal))
        position = begin + diagonal
        pending = (begin, end, diagonal)
        done = begin
    return [step for step in steps if step.add or step.new or step.seek]


def _step(begin: int, end: int, new_end: int, diagonal: int, position: int) -> Step:
    assert position == begin + diagonal  # noqa: S101 the steps would not fit together
    return Step(end - begin, new_end - end, 0)


def _equal(old: Bytes, new: Bytes, begin: int, end: int, diagonal: int) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = new[begin:end] == old[begin + diagonal : end + diagonal]
    return result


def _gain(equal: npt.NDArray[np.bool_]) -> int:
    """Returns how many bytes to go on: as far as twice the equal ones, less all, is greatest."""
    if not len(equal):
        return 0
    score = np.cumsum(equal.astype(np.int32) * 2 - 1)
    best = int(np.argmax(score))
    return best + 1 if score[best] > 0 else 0


def _reach_forward(old: Bytes, new: Bytes, begin: int, end: int, diagonal: int) -> int:
    end = min(end, begin + _MAX_REACH_BYTES, len(old) - diagonal)
    return _gain(_equal(old, new, begin, end, diagonal)) if begin < end else 0


def _reach_backward(old: Bytes, new: Bytes, begin: int, end: int, diagonal: int) -> int:
    begin = max(begin, end - _MAX_REACH_BYTES, -diagonal)
    return _gain(_equal(old, new, begin, end, diagonal)[::-1]) if begin < end else 0


def _best_cut(old: Bytes, new: Bytes, begin: int, end: int, first: int, second: int) -> int:
    """Returns where between `begin` and `end` to change from one diagonal to the other."""
    if begin >= end:
        return end
    gain: Any = _equal(old, new, begin, end, first).astype(np.int32)
    gain -= _equal(old, new, begin, end, second)
    score = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(gain)))
    return begin + int(np.argmax(score))
