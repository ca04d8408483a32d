"""Static deltas: the operations of a part, read."""

from __future__ import annotations

import pytest

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.format.objects import ObjectType
from wherry.store.static_delta import ops

A, B = Checksum("ab" * 32), Checksum("cd" * 32)


def test_varint() -> None:
    for value in (0, 1, 127, 128, 300, 2**32, 2**64 - 1):
        assert ops.varint(ops.write_varint(value), 0) == (value, len(ops.write_varint(value)))
    for bad in (b"", b"\x80", b"\xff" * 11, b"\xff" * 9 + b"\x7f"):
        with pytest.raises(InvalidInput):
            ops.varint(bad, 0)


FILE, META = (ObjectType.FILE, A), (ObjectType.DIRMETA, B)


def test_decode() -> None:
    code = bytes([*b"S", 5, 7, *b"S", 1, 2, 3, 4, *b"r", 9, *b"o", 0, 1, 10, *b"w", 4, 0, *b"R", *b"w", 6, 2, *b"c"])
    meta, spliced, made = ops.decode(code, [META, FILE, FILE])
    assert (meta.kind, meta.steps) == (ObjectType.DIRMETA, (ops.Literal(7, 5),))
    assert (spliced.mode_index, spliced.xattrs_index, spliced.steps) == (1, 2, (ops.Literal(4, 3),))
    assert (made.size, made.steps) == (10, (ops.Copy(9, 0, 4), ops.Literal(2, 6)))
    assert list(ops.count(code, [META, FILE, FILE]).values()) == [2, 1, 2, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "code",
    [
        b"x",
        b"S",
        b"S\x01",
        b"c",
        b"w\x01\x01",
        b"B\x01\x01",
        b"o\0\0\x05",
        b"o\0\0\x05o\0\0\x05",
        b"o\0\0\x05S\0\0\0\0",
        b"o\0\0\x05B\0\0c",
        b"",
        b"S\0\0\0\0S\0\0\0\0",
    ],
)
def test_bad_operations(code: bytes) -> None:
    with pytest.raises(InvalidInput):
        list(ops.decode(code, [FILE]))


def test_metadata_is_not_made_piece_by_piece() -> None:
    with pytest.raises(InvalidInput):
        list(ops.decode(b"o\0\0\x05c", [META]))
