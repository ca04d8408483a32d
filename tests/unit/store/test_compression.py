"""Compressed streams: recognised, read, and never trusted about their length."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable

import pytest
import zstandard

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.tree.compression import HashingReader, decompressed

DATA = os.urandom(300_000) + bytes(2_000_000) + b"the end"
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
}


def everything(data: bytes) -> bytes:
    reader = decompressed(io.BytesIO(data), where="blob")
    return b"".join(iter(lambda: reader.read(70_000), b""))


@pytest.mark.parametrize("form", FORMS)
def test_read(form: str) -> None:
    assert everything(FORMS[form](DATA)) == DATA


@pytest.mark.parametrize("form", FORMS)
def test_several_in_a_row(form: str) -> None:
    compress = FORMS[form]
    assert everything(compress(b"one") + compress(DATA) + compress(b"two")) == b"one" + DATA + b"two"


@pytest.mark.parametrize("data", [b"", b"a", b"plain text", bytes(1000)])
def test_plain(data: bytes) -> None:
    assert everything(data) == data


@pytest.mark.parametrize("form", FORMS)
def test_cut_short(form: str) -> None:
    packed = FORMS[form](DATA)
    for length in (8, len(packed) // 2, len(packed) - 1):
        with pytest.raises(IntegrityError, match=r"cut short|damaged"):
            everything(packed[:length])


@pytest.mark.parametrize("form", FORMS)
def test_damaged(form: str) -> None:
    packed = bytearray(FORMS[form](DATA))
    packed[len(packed) // 3] ^= 0xFF
    if form == "zstd":  # without a checksum of its own only the digest of the layer can tell
        packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(DATA))
        packed[len(packed) // 3] ^= 0xFF
    with pytest.raises(IntegrityError):
        everything(bytes(packed))


def test_xz_that_wants_too_much_memory() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    with pytest.raises(IntegrityError, match="damaged"):
        everything(lzma.compress(b"x", filters=filters))


def test_a_bomb_is_stopped_early() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200_000_000))
    reader = HashingReader(decompressed(io.BytesIO(bomb)), max_bytes=1_000_000, where="bomb")
    with pytest.raises(InvalidInput, match="longer than the limit of 1000000 bytes: bomb"):
        reader.drain()
    assert reader.size < 2_000_000


def test_digests() -> None:
    told: list[int] = []
    reader = HashingReader(io.BytesIO(b"abc"), told=told.append)
    assert reader.read(2) == b"ab"
    reader.check(Digest("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "a layer")
    assert told[-1] == 3
    with pytest.raises(IntegrityError, match="a layer has the wrong digest"):
        reader.check(Digest("sha256:" + "0" * 64), "a layer")
