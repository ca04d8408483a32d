"""Device deltas of any small trees lead where they should; steps of any bytes make them again."""

from __future__ import annotations

import random
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.examples import examples
from tests.unit.store.delta.pairs import Pair, apply, edited, whole

from wherry.store.delta.make import MakeOptions
from wherry.store.delta.match import match
from wherry.store.delta.patch import add_bytes
from wherry.store.delta.payload import Piece, expand, file_size, read_recipe, restore, view_size, write_recipe
from wherry.store.delta.wire import MAX_NUMBER, Reader, Writer

_BLOCKS = st.lists(
    st.sampled_from([b"\0" * 50, b"abcdefgh" * 5, b"the quick brown fox ", bytes(range(64))]), max_size=40
)
_CONTENT = _BLOCKS.map(b"".join) | st.binary(max_size=300)
_NAMES = st.sampled_from(["a", "b", "c/d", "c/e-1", "c/e-2", "f/g/h"])
_TREES = st.dictionaries(_NAMES, _CONTENT, min_size=1, max_size=6)


@settings(max_examples=examples(6, 150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_TREES, _TREES)
def test_any_trees(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder), old, new)
        delta = pair.make(MakeOptions(threads=1, strong=False))
        repo = pair.device()
        apply(repo, delta)
        assert whole(repo, pair.new)


@settings(max_examples=60, deadline=None)
@given(_CONTENT, _CONTENT, st.integers(0, 1000))
def test_steps(old: bytes, other: bytes, seed: int) -> None:
    new = edited(old + other, seed, 5) if len(old + other) > 250 else other + old
    made = bytearray()
    position = 0
    for step in match(old, new):
        assert position >= 0
        assert position + step.add <= len(old)
        at = len(made)
        difference = np.frombuffer(new[at : at + step.add], np.uint8) - np.frombuffer(
            old[position : position + step.add], np.uint8
        )
        made += add_bytes(old[position : position + step.add], difference.tobytes())
        made += new[len(made) : len(made) + step.new]
        position += step.add + step.seek
    assert bytes(made) == new


@given(st.integers(0, 200_000), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_add_bytes(size: int, seed: int) -> None:
    rng = random.Random(seed)
    first, second = rng.randbytes(size), rng.randbytes(size)
    expected = (np.frombuffer(first, np.uint8) + np.frombuffer(second, np.uint8)).tobytes()
    assert add_bytes(first, second) == expected
    assert add_bytes(first, bytes(size)) == first


@given(st.lists(st.integers(0, MAX_NUMBER)), st.lists(st.integers(-(2**61), 2**61)), st.binary(max_size=300))
def test_wire(numbers: list[int], signed: list[int], data: bytes) -> None:
    out = Writer()
    for number in numbers:
        out.number(number)
    for number in signed:
        out.signed(number)
    out.bytes(data)
    reader = Reader(bytes(out.data), "test")
    assert [reader.number() for _ in numbers] == numbers
    assert [reader.signed() for _ in signed] == signed
    assert reader.bytes(300) == data
    reader.end()


@given(st.binary(max_size=50), st.binary(min_size=1, max_size=5000), st.integers(1, 9), st.binary(max_size=50))
@settings(max_examples=30, deadline=None)
def test_views(front: bytes, plain: bytes, level: int, tail: bytes) -> None:
    import zlib

    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 8)
    packed = deflater.compress(plain) + deflater.flush()
    recipe = (
        Piece(size=len(front), plain=len(front)),
        Piece(size=len(packed), plain=len(plain), encoder="zlib", numbers=(level, 8, 0)),
        Piece(size=len(tail), plain=len(tail)),
    )
    file = front + packed + tail
    view = b"".join(expand(recipe, BytesIO(file), where="test"))
    assert view == front + plain + tail
    assert (len(file), len(view)) == (file_size(recipe), view_size(recipe))
    assert b"".join(restore(recipe, BytesIO(view), where="test")) == file
    out = Writer()
    write_recipe(out, recipe)
    assert read_recipe(Reader(bytes(out.data), "test")) == recipe
