"""Compressors of images, by the words that layouts have: which each kind of image takes, and streams for archives.

Bytes depend on the library that compresses: two machines give the same image where their tools have the same version.
"""

from __future__ import annotations

import lzma
import os
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from wherry.build.images.layout import Kind
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

NONE, GZIP, XZ, ZSTD, LZ4, LZ4HC = "none", "gzip", "xz", "zstd", "lz4", "lz4hc"
CHOICES = {
    Kind.EROFS: {LZ4: 0, LZ4HC: 12, NONE: 0},
    Kind.SQUASHFS: {ZSTD: 22, XZ: 0, GZIP: 9, LZ4: 0, NONE: 0},
    Kind.INITRAMFS: {ZSTD: 19, XZ: 9, GZIP: 9, NONE: 0},
    Kind.TAR: {ZSTD: 19, XZ: 9, GZIP: 9, NONE: 0},
    Kind.WSL: {GZIP: 9},
}
"""Kind -> compressor -> its highest level, 0 for one without; the first is the usual one."""
LEVELS = {ZSTD: 9, XZ: 6, GZIP: 6}
"""What is taken where nobody says: in the middle between speed and size."""
SUFFIXES = {NONE: "", GZIP: ".gz", XZ: ".xz", ZSTD: ".zst"}
"""What a compressed archive's name ends with."""

_GZIP_WBITS = 31


class Writer(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> object:
        """Takes bytes."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes:
        """Takes bytes; gives what is ready."""

    def flush(self) -> bytes:
        """Gives the rest."""


class _Stream:
    def __init__(self, out: BinaryIO, compressor: _Compressor) -> None:
        self._out = out
        self._compressor = compressor

    def write(self, data: bytes, /) -> None:
        self._out.write(self._compressor.compress(data))

    def close(self) -> None:
        self._out.write(self._compressor.flush())


@contextmanager
def compressed(out: BinaryIO, word: str, level: int | None = None) -> Iterator[Writer]:
    """Gives a writer that compresses into a file; neither time nor name of a file goes in.

    Args:
        out: where to.
        word: ``none``, ``gzip``, ``xz`` or ``zstd``.
        level: None for the usual one.

    Raises:
        InvalidInput: there is no such compressor.
    """
    if word == NONE:
        yield out
        return
    stream = _Stream(out, _compressor(word, LEVELS.get(word, 0) if level is None else level))
    yield stream
    stream.close()


def _compressor(word: str, level: int) -> _Compressor:
    if word == GZIP:
        return zlib.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
    if word == XZ:
        # the kernel's decompressor knows CRC32 alone (Documentation/staging/xz.rst)
        return lzma.LZMACompressor(lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=level)
    if word == ZSTD:
        import zstandard

        # with workers the bytes are the same however many there are, and others than without
        threads = max(1, min(os.cpu_count() or 1, 8))
        return cast(_Compressor, zstandard.ZstdCompressor(level=level, threads=threads).compressobj())
    raise InvalidInput(f"no compressor {word[:60]!r}", hint=f"there are {', '.join(SUFFIXES)}")
