"""A volatile write cache: what the guest sees, what is on the disk, and what a cut leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.machine.writecache import BLOCK_BYTES, Cut, WriteCache

SIZE = 16 * BLOCK_BYTES


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def test_the_guest_sees_what_it_wrote_and_the_disk_what_was_flushed(disk: int) -> None:
    cache = WriteCache(disk)
    cache.write(0, b"a" * 1000)
    cache.write(500, b"b" * 1000)
    assert cache.read(0, 1600) == b"a" * 500 + b"b" * 1000 + bytes(100)
    assert os.pread(disk, 1500, 0) == bytes(1500)
    cache.flush()
    assert os.pread(disk, 1500, 0) == b"a" * 500 + b"b" * 1000


def test_fua_is_on_the_disk_and_older_writes_do_not_come_over_it(disk: int) -> None:
    cache = WriteCache(disk)
    cache.write(0, b"old" * 100)
    cache.write(8192, b"other")
    cache.write(0, b"new" * 100, fua=True)
    assert os.pread(disk, 300, 0) == b"new" * 100
    assert cache.pending == 1
    cache.cut(Cut.DROP, 0)
    assert os.pread(disk, 300, 0) == b"new" * 100
    assert os.pread(disk, 5, 8192) == bytes(5)


def test_a_full_cache_writes_its_oldest_out(disk: int) -> None:
    cache = WriteCache(disk, limit_bytes=10)
    cache.write(0, b"first---")
    cache.write(100, b"second--")
    assert os.pread(disk, 8, 0) == b"first---"
    assert os.pread(disk, 8, 100) == bytes(8)


def test_cuts(disk: int) -> None:
    cache = WriteCache(disk)
    for index in range(10):
        cache.write(index * BLOCK_BYTES, b"x" * BLOCK_BYTES)
    left = cache.cut(Cut.DROP, 1)
    assert (left.unflushed, left.kept, left.torn) == (10, 0, 0)
    assert os.pread(disk, SIZE, 0) == bytes(SIZE)
    for index in range(10):
        cache.write(index * BLOCK_BYTES, b"x" * BLOCK_BYTES)
    left = cache.cut(Cut.RANDOM, 1)
    assert 0 < left.kept < 10
    assert os.pread(disk, SIZE, 0).count(b"x" * BLOCK_BYTES) == left.kept


def test_a_torn_write_is_cut_between_blocks(disk: int) -> None:
    cache = WriteCache(disk)
    for seed in range(100):
        os.pwrite(disk, bytes(SIZE), 0)
        cache.write(512, b"x" * (4 * BLOCK_BYTES))
        left = cache.cut(Cut.TORN, seed)
        found = os.pread(disk, SIZE, 0)
        count = found.count(b"x")
        if left.torn:
            assert 0 < count < 4 * BLOCK_BYTES
            start = found.index(b"x")
            assert start == 512 or start % BLOCK_BYTES == 0
            end = start + count
            assert end % BLOCK_BYTES == 0 or end == 512 + 4 * BLOCK_BYTES
            return
    raise AssertionError("nothing was torn in a hundred cuts")


def test_the_same_seed_gives_the_same_disk(disk: int) -> None:
    found = []
    for _ in range(2):
        os.pwrite(disk, bytes(SIZE), 0)
        cache = WriteCache(disk)
        for index in range(12):
            cache.write(index * 1000, bytes([65 + index]) * 5000)
        cache.cut(Cut.TORN, 42)
        found.append(os.pread(disk, SIZE, 0))
    assert found[0] == found[1]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=60), st.booleans()),
            st.none(),
        ),
        max_size=30,
    )
)
def test_it_is_a_disk(operations: list[tuple[int, bytes, bool] | None]) -> None:
    fd = os.memfd_create("disk")
    try:
        cache, model = WriteCache(fd, limit_bytes=100), bytearray(300)
        for operation in operations:
            if operation is None:
                cache.flush()
                continue
            offset, data, fua = operation
            cache.write(offset, data, fua=fua)
            model[offset : offset + len(data)] = data
            if fua:
                assert os.pread(fd, len(data), offset) == data
        assert cache.read(0, 300) == bytes(model)
        cache.flush()
        assert cache.read(0, 300) == bytes(model)
        assert os.pread(fd, 300, 0).ljust(300, b"\0") == bytes(model)
    finally:
        os.close(fd)
