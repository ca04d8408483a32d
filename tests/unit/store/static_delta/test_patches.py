"""Static deltas: patches made and applied, and the rolling checksum."""

from __future__ import annotations

import itertools
import lzma
import random
import struct

import pytest
from tests.unit.store.static_delta.programs import CHANGED, PROGRAM

from wherry.core.errors import InvalidInput
from wherry.store.static_delta import bsdiff, bspatch, rollsum


class Bytes:
    """A source in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, at: int, size: int, /) -> bytes:
        return self._data[at : at + size]


def patched(old: bytes, patch: bytes, size: int) -> bytes:
    return b"".join(bspatch.patch(lambda at, count: patch[at : at + count], 0, len(patch), Bytes(old), size))


def test_patch() -> None:
    patch = bsdiff.diff(PROGRAM, CHANGED)
    assert patched(PROGRAM, patch, len(CHANGED)) == CHANGED
    assert len(lzma.compress(patch)) < 3000
    assert patched(b"", bsdiff.diff(b"x", b"yz"), 2) == b"yz"


def test_patch_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bsdiff, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(bsdiff, "_BLOCK_BYTES", 15_000)
    for old, new in ((PROGRAM, CHANGED), (CHANGED, PROGRAM), (PROGRAM, PROGRAM[::-1]), (PROGRAM[:100], CHANGED)):
        assert patched(old, bsdiff.diff(old, new), len(new)) == new
    assert len(lzma.compress(bsdiff.diff(PROGRAM, CHANGED))) < 6000


def test_bytes_outside_of_the_source_are_zero() -> None:
    patch = struct.pack("<QQQ", 0, 0, 1 << 63 | 3) + struct.pack("<QQQ", 10, 0, 0) + bytes(range(10))
    assert patched(b"\1\1\1", patch, 10) == bytes([0, 1, 2, 4, 5, 6, 6, 7, 8, 9])


def test_add_bytes() -> None:
    left, right = random.Random(2).randbytes(1000), random.Random(2).randbytes(1000)
    assert bspatch.add_bytes(left, right) == bytes((a + b) % 256 for a, b in zip(left, right, strict=True))
    assert bspatch.add_bytes(bytes(1000), right) == right
    assert bspatch.add_bytes(b"", b"") == b""


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        bytes(23),
        struct.pack("<QQQ", 11, 0, 0) + bytes(11),
        struct.pack("<QQQ", 5, 6, 0) + bytes(11),
        struct.pack("<QQQ", 1 << 63 | 1, 0, 0),
        struct.pack("<QQQ", 0, 1 << 63 | 1, 0),
        struct.pack("<QQQ", 10, 0, 0) + bytes(9),
        struct.pack("<QQQ", (1 << 63) - 1, (1 << 63) - 1, 0),
    ],
)
def test_bad_patches(patch: bytes) -> None:
    with pytest.raises(InvalidInput):
        patched(b"0123456789", patch, 10)


def test_rollsum() -> None:
    found = rollsum.matches(PROGRAM, CHANGED)
    assert sum(match.length for match in found) > len(CHANGED) * 0.98
    done = 0
    for match in found:
        assert match.new >= done
        assert PROGRAM[match.old : match.old + match.length] == CHANGED[match.new : match.new + match.length]
        done = match.new + match.length
    assert rollsum.matches(b"", CHANGED) == [] == rollsum.matches(PROGRAM, b"")
    pieces = list(rollsum.chunks(PROGRAM))
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(PROGRAM)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(pieces))
