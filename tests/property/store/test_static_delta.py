"""Patches and copies give back what they were made from; hostile parts and superblocks are errors, never crashes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.examples import examples
from tests.fuzz.targets.static_delta import TARGETS

from wherry.core.errors import WherryError
from wherry.store.static_delta import bsdiff, bspatch, ops, rollsum

_TEXT = st.binary(max_size=400)
_EDITS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 60), st.binary(max_size=60)), max_size=6)


def edited(old: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, data in edits:
        old = old[:at] + data + old[at + length :]
    return old


class _Source:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, at: int, size: int, /) -> bytes:
        return self._data[at : at + size]


@settings(max_examples=60, deadline=None)
@given(_TEXT, st.integers(1, 8), _EDITS, st.integers(40, 2000))
def test_patch(piece: bytes, times: int, edits: list[tuple[int, int, bytes]], window: int) -> None:
    old = piece * times
    new = edited(old, edits)
    before = bsdiff.WINDOW_BYTES, bsdiff._BLOCK_BYTES
    bsdiff.WINDOW_BYTES, bsdiff._BLOCK_BYTES = window, max(1, window * 3 // 4)
    try:
        patch = bsdiff.diff(old, new)
    finally:
        bsdiff.WINDOW_BYTES, bsdiff._BLOCK_BYTES = before
    got = bspatch.patch(lambda at, size: patch[at : at + size], 0, len(patch), _Source(old), len(new))
    assert b"".join(got) == new


@settings(max_examples=60, deadline=None)
@given(_TEXT, st.integers(1, 200), _EDITS)
def test_copies(piece: bytes, times: int, edits: list[tuple[int, int, bytes]]) -> None:
    old = piece * times
    new = edited(old, edits)
    done = 0
    for match in rollsum.matches(old, new):
        assert match.new >= done
        assert old[match.old : match.old + match.length] == new[match.new : match.new + match.length]
        assert match.length > 0
        done = match.new + match.length
    assert done <= len(new)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_add_bytes(left: bytes, right: bytes) -> None:
    size = min(len(left), len(right))
    left, right = left[:size], right[:size]
    assert bspatch.add_bytes(left, right) == bytes((a + b) & 0xFF for a, b in zip(left, right, strict=True))


@given(st.integers(0, 2**64 - 1))
def test_varint(value: int) -> None:
    raw = ops.write_varint(value)
    assert ops.varint(raw + b"\xff", 0) == (value, len(raw))


@settings(max_examples=examples(80, 3000), deadline=None)
@given(st.data())
def test_mutations_are_taken_or_refused(data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(TARGETS))
    seed = bytearray(data.draw(st.sampled_from(list(target.seeds()))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(seed) - 1)))
        kind = data.draw(st.integers(0, 2))
        if kind == 0 and seed:
            seed[at] = data.draw(st.integers(0, 255))
        elif kind == 1:
            del seed[at : at + data.draw(st.integers(1, 16))]
        else:
            seed[at:at] = data.draw(st.binary(max_size=8))
    try:
        target.read(bytes(seed))
    except WherryError:
        pass
