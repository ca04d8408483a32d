"""Layers that are compressed on their way out: for registries, where bytes on the wire count.

A compressed layer has no random access: it is read from its beginning. Its digest depends on the library that
compresses, so what is remembered of it is filed under the library's version; only uncompressed layers are the same on
every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, cast

from wherry.core.digest import Digest
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.image.layertar import LayerTar, Measured, PieceReader

Kind = Literal["gzip", "zstd"]
KINDS: tuple[Kind, ...] = ("gzip", "zstd")

_GZIP_LEVEL = 2
"""Of isal's 0 to 3: about what zlib's 6 gives, several times as fast."""
_ZSTD_LEVEL = 3
_GZIP_WBITS = 31


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes:
        """Takes bytes; gives what is ready."""

    def flush(self) -> bytes:
        """Gives the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PressedTar:
    """A layer, compressed."""

    tar: LayerTar
    kind: Kind

    @property
    def way(self) -> str:
        """What the bytes depend on besides the layer: the kind, the library, its version and the level."""
        if self.kind == "gzip":
            import isal

            return f"gzip isal {isal.__version__} {_GZIP_LEVEL}"
        import zstandard

        return f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} {_ZSTD_LEVEL}"

    def measure(self, progress: Progress = QUIET, *, total_bytes: int | None = None) -> Measured:
        """Compresses all of it once.

        Args:
            progress: is told how many bytes have been compressed.
            total_bytes: about how many there are.
        """
        digest = hashlib.sha256()
        size = done = 0

        def counted() -> Iterator[bytes]:
            nonlocal done
            for piece in self.tar.pieces():
                done += len(piece)
                progress.update("compressing", done, total_bytes, unit="B")
                yield piece

        for piece in self._pieces(counted()):
            digest.update(piece)
            size += len(piece)
        return Measured(digest=Digest("sha256:" + digest.hexdigest()), size=size)

    def open(self, offset: int = 0) -> BinaryIO:
        """Opens it; an offset other than 0 is reached by compressing what is before it."""
        return cast(BinaryIO, PieceReader(_after(self._pieces(self.tar.pieces()), offset)))

    def _pieces(self, plain: Iterator[bytes]) -> Iterator[bytes]:
        compressor = _compressor(self.kind)
        for piece in plain:
            if data := compressor.compress(piece):
                yield data
        yield compressor.flush()


def parse_kind(text: str) -> Kind:
    """Returns the word for a compression as one.

    Raises:
        InvalidInput: it is none.
    """
    for kind in KINDS:
        if text == kind:
            return kind
    raise InvalidInput(f"not a compression: {text[:40]!r}", hint=f"it is one of {', '.join(KINDS)}")


def _compressor(kind: Kind) -> _Compressor:
    if kind == "gzip":
        from isal import isal_zlib

        return cast(_Compressor, isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS))
    import zstandard

    return cast(_Compressor, zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj())


def _after(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    for piece in pieces:
        if offset >= len(piece):
            offset -= len(piece)
            continue
        yield piece[offset:]
        offset = 0
