"""Byte streams on their way in: recognised by their first bytes, decompressed, hashed and bounded while they are read.

Only ``read(n)`` is asked of a stream. Nothing here holds more than a few pieces of it in memory, however much a
hostile file expands to. Broken compression is an ``IntegrityError``, an end that comes too early too.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from gzip import BadGzipFile
from typing import TYPE_CHECKING, Any, Protocol

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput

if TYPE_CHECKING:
    from bz2 import BZ2Decompressor
    from lzma import LZMADecompressor

    from zstandard import ZstdDecompressionObj

PIECE_BYTES = 256 * 1024
MAX_XZ_MEMORY_BYTES = 512 * 1024 * 1024
MAX_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
"""What ``zstd`` itself takes without ``--long``."""

_ZSTD_BITE_BYTES = 4096
"""A block of zstd has 4 bytes at least and is 128 KiB at most: a bite is 128 MiB at worst."""
MAGIC_BYTES = 6
_MAGICS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"} | {
    bytes([byte]) + b"\x2a\x4d\x18": "zstd"  # a skippable frame
    for byte in range(0x50, 0x60)
}


class Readable(Protocol):
    """Something to read bytes from, front to back."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end."""


class HashingReader:
    """Passes bytes on, and knows their digest and number.

    Args:
        inner: where they come from.
        max_bytes: more than this is refused.
        where: the file or blob, for errors.
        told: called with the number of bytes after each read.
    """

    def __init__(
        self,
        inner: Readable,
        *,
        max_bytes: int | None = None,
        where: object = None,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self._inner, self._max_bytes, self._where, self._told = inner, max_bytes, where, told
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes.

        Raises:
            InvalidInput: there are more than there may be.
        """
        data = self._inner.read(size)
        self._hash.update(data)
        self.size += len(data)
        if self._max_bytes is not None and self.size > self._max_bytes:
            raise InvalidInput(f"longer than the limit of {self._max_bytes} bytes", where=self._where)
        if self._told is not None:
            self._told(self.size)
        return data

    def drain(self) -> None:
        """Reads to the end, so that the digest is that of everything."""
        while self.read(PIECE_BYTES):
            pass

    @property
    def digest(self) -> Digest:
        """The digest of all that was read."""
        return Digest("sha256:" + self._hash.hexdigest())

    def check(self, expected: Digest, what: str) -> None:
        """Reads to the end and compares.

        Raises:
            IntegrityError: it has another digest.
        """
        self.drain()
        if self.digest != expected:
            raise IntegrityError(
                f"{what} has the wrong digest: expected {expected}, got {self.digest}", where=self._where
            )


class _Peeked:
    """A stream whose first bytes have been looked at."""

    def __init__(self, head: bytes, inner: Readable) -> None:
        self._head, self._inner = head, inner

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._inner.read(size)

    def readinto(self, buffer: memoryview, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def decompressed(stream: Readable, *, where: object = None) -> Readable:
    """Returns the plain bytes of a stream that is gzip, zstd, xz or bzip2, or plain already.

    Args:
        stream: read from its beginning.
        where: the file or blob, for errors.

    Raises:
        IntegrityError: (on reading) it is damaged or cut short.
    """
    head = b""
    while len(head) < MAGIC_BYTES and (data := stream.read(MAGIC_BYTES - len(head))):
        head += data
    peeked = _Peeked(head, stream)
    kind = compression_of(head)
    readers: dict[str, Callable[[Readable, object], Readable]] = {
        "gzip": _Gzip, "zstd": _Zstd, "xz": _Xz, "bzip2": _Bzip2,
    }  # fmt: skip
    return readers[kind](peeked, where) if kind else peeked


def compression_of(head: bytes) -> str:
    """Returns ``gzip``, ``zstd``, ``xz`` or ``bzip2`` by the first bytes of a file; "" for all else."""
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), "")


class _Gzip:
    def __init__(self, inner: Readable, where: object) -> None:
        from isal import igzip, igzip_lib

        self._file: Any = igzip.IGzipFile(fileobj=inner, mode="rb")  # type: ignore[no-untyped-call]
        self._errors: Any = (BadGzipFile, EOFError, zlib.error, igzip_lib.IsalError)
        self._where = where

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except self._errors as error:
            raise IntegrityError(f"damaged or cut short: {error}", where=self._where) from error
        return data


class _Xz:
    """Several xz streams in a row, with a bound on the memory that they may ask for."""

    def __init__(self, inner: Readable, where: object) -> None:
        self._inner, self._where = inner, where
        self._decoder: LZMADecompressor | None = None
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

        while True:
            if self._decoder is None:  # at the beginning, between two streams, in the padding of zeros, or at the end
                self._rest = self._rest.lstrip(b"\0") or self._inner.read(PIECE_BYTES)
                if not self._rest:
                    return b""
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    continue
                self._decoder = LZMADecompressor(FORMAT_XZ, memlimit=MAX_XZ_MEMORY_BYTES)
            data = b""
            if self._decoder.needs_input:
                data, self._rest = self._rest or self._inner.read(PIECE_BYTES), b""
                if not data:
                    raise IntegrityError("cut short: the xz stream has no end", where=self._where)
            try:
                plain = self._decoder.decompress(data, size)
            except LZMAError as error:
                raise IntegrityError(f"damaged: {error}", where=self._where) from error
            if self._decoder.eof:
                self._rest, self._decoder = self._decoder.unused_data, None
            if plain:
                return plain


class _Bzip2:
    """Several bzip2 streams in a row."""

    def __init__(self, inner: Readable, where: object) -> None:
        self._inner, self._where = inner, where
        self._decoder: BZ2Decompressor | None = None
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        from bz2 import BZ2Decompressor

        while True:
            if self._decoder is None:
                self._rest = self._rest or self._inner.read(PIECE_BYTES)
                if not self._rest:
                    return b""
                self._decoder = BZ2Decompressor()
            data = b""
            if self._decoder.needs_input:
                data, self._rest = self._rest or self._inner.read(PIECE_BYTES), b""
                if not data:
                    raise IntegrityError("cut short: the bzip2 stream has no end", where=self._where)
            try:
                plain = self._decoder.decompress(data, size)
            except (OSError, ValueError) as error:
                raise IntegrityError(f"damaged: {error}", where=self._where) from error
            if self._decoder.eof:
                self._rest, self._decoder = self._decoder.unused_data, None
            if plain:
                return plain


class _Zstd:
    """Several zstd frames in a row, fed in small bites, because all that a bite expands to comes at once."""

    def __init__(self, inner: Readable, where: object) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decoders = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        self._decoder: ZstdDecompressionObj | None = None
        self._inner, self._where = inner, where
        self._rest = b""
        self._plain = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        while self._at == len(self._plain):
            self._plain, self._at = b"", 0
            if not self._rest:
                self._rest = self._inner.read(PIECE_BYTES)
            if not self._rest:
                if self._decoder is not None:
                    raise IntegrityError("cut short: the zstd frame has no end", where=self._where)
                return b""
            if self._decoder is None:
                self._decoder = self._decoders.decompressobj()
            bite, self._rest = self._rest[:_ZSTD_BITE_BYTES], self._rest[_ZSTD_BITE_BYTES:]
            try:
                self._plain = self._decoder.decompress(bite)
            except self._error as error:
                raise IntegrityError(f"damaged: {error}", where=self._where) from error
            if self._decoder.eof:
                self._rest, self._decoder = self._decoder.unused_data + self._rest, None
        data = self._plain[self._at : self._at + size]
        self._at += len(data)
        return data
