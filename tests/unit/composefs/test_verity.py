"""fs-verity digests: by hand, in pieces, and of what the kernel's documentation defines."""

from __future__ import annotations

import hashlib
import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.store.mount import verity

BLOCK = 4096


def by_definition(data: bytes) -> bytes:
    """The whole tree at once, level by level."""
    level = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    root = b""
    while level:
        hashes = b"".join(hashlib.sha256(block.ljust(BLOCK, b"\0")).digest() for block in level)
        if len(level) == 1:
            root = hashes
            break
        level = [hashes[start : start + BLOCK] for start in range(0, len(hashes), BLOCK)]
    return hashlib.sha256(struct.pack("<BBBBIQ64s32s144x", 1, 1, 12, 0, 0, len(data), root, b"")).digest()


def test_known_digests() -> None:
    """Of nothing, and of a line, as ``fsverity digest`` prints them."""
    assert verity.digest_pieces(()).hex() == "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
    digest = "ebaa23af194a798df610e5fe2bd10725c9c4a3a56a6b62d4d0ee551d4fc4be27"
    assert verity.digest_pieces((b"moo\n",)).hex() == digest


@pytest.mark.parametrize("blocks", [1, 127, 128, 129, 256, 128 * 128, 128 * 128 + 1])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_around_full_levels(blocks: int, more: int) -> None:
    data = b"\x5a" * (blocks * BLOCK + more)
    assert verity.digest_file(io.BytesIO(data)) == by_definition(data)


@given(st.binary(max_size=3 * BLOCK), st.lists(st.integers(0, 3 * BLOCK), max_size=6))
@settings(max_examples=60, deadline=None)
def test_pieces_of_any_length(data: bytes, cuts: list[int]) -> None:
    ends = sorted(min(cut, len(data)) for cut in cuts)
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    assert verity.digest_pieces(pieces) == by_definition(data)
