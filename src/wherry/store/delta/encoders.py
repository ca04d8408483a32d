"""The compressors that a device delta sees through: what they made is taken apart, and made again to the byte.

============  =============================================  ====================================================
name          what it stands for                             numbers
============  =============================================  ====================================================
gzip          raw deflate, as the program ``gzip`` makes it  level
zlib          raw deflate, as the library zlib makes it      level, memLevel, strategy
lzma2         a raw LZMA2 stream, the inside of ``.xz``      dictionary, preset, filter (0, or lzma's id of a BCJ)
zstd          one frame, as the library makes it             level, flags, window log, workers
zstd-program  one frame, as the program ``zstd`` makes it    the same
lz4           one block, as the library makes it             level (0 is the fast one)
============  =============================================  ====================================================

The program of a distribution is often of another version than the library of the Python package, and the output of a
compressor belongs to its version. A delta therefore names the encoders that it needs together with a digest of what
each makes of a sample; a device looks whether its own do the same before it takes the delta. Memory is bounded on both
sides: what would need more than ``MAX_ENCODER_BYTES`` is not seen through, if the maker does not say otherwise.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import IO, Any, cast

from wherry.core.errors import IntegrityError, InvalidInput, Unsupported, WherryError
from wherry.core.pipe import through_program
from wherry.store.delta.format import PROBE_BYTES, Encoder

GZIP, ZLIB, LZMA2, ZSTD, ZSTD_PROGRAM, LZ4 = "gzip", "zlib", "lzma2", "zstd", "zstd-program", "lz4"
NAMES = (GZIP, ZLIB, LZMA2, ZSTD, ZSTD_PROGRAM, LZ4)
_NUMBERS = {GZIP: 1, ZLIB: 3, LZMA2: 3, ZSTD: 4, ZSTD_PROGRAM: 4, LZ4: 1}

CHUNK_BYTES = 128 * 1024
MAX_ENCODER_BYTES = 24 * 1024 * 1024
"""What an encoder may take on a device, if its maker does not say that devices have more."""
MAX_WINDOW_BYTES = 16 * 1024 * 1024
"""The dictionary of an LZMA2 stream, and the window of a zstd frame."""
LZ4_BLOCK_BYTES = 8 * 1024 * 1024
"""The block of LZ4's legacy frames, which the kernel uses; no block may be longer."""
MAX_LZ4_BYTES = LZ4_BLOCK_BYTES + LZ4_BLOCK_BYTES // 255 + 16
GZIP_HEADER_BYTES = 10
GZIP_TRAILER_BYTES = 8

ZSTD_CHECKSUM, ZSTD_SIZE = 1, 2
"""Flags: the frame has a checksum; it names the length of its content."""
_LEAST_ZSTD_JOB_BYTES, _ZSTD_JOB_WINDOWS, _ZSTD_JOBS = 512 * 1024, 4, 4
"""With workers libzstd cuts the content into jobs, and holds some, with what they come to."""
_HIGHEST_COMMON_LEVEL = 19
"""Above it the program asks for ``--ultra``."""

Pieces = Iterable[bytes]


def decode(name: str, numbers: tuple[int, ...], pieces: Pieces, size: int, *, where: object) -> Iterator[bytes]:
    """Gives the plain content of a payload.

    Args:
        name: the encoder's.
        numbers: its parameters.
        pieces: the payload.
        size: what its content must come to, in bytes.
        where: the file, for errors.

    Raises:
        IntegrityError: damaged, or not of that size.
        Unsupported: the library for it is not installed.
    """
    check_numbers(name, numbers, where=where)
    done = 0
    for piece in _DECODERS[name](numbers, pieces, size, where):
        done += len(piece)
        if done > size:
            break
        yield piece
    if done != size:
        raise IntegrityError("a compressed payload has not the size that the delta names", where=where)


def encode(name: str, numbers: tuple[int, ...], pieces: Pieces, size: int, *, where: object) -> Iterator[bytes]:
    """Gives the payload that the encoder makes of some content, whose length is `size`.

    Raises:
        Unsupported: the library or the program for it is not installed.
    """
    check_numbers(name, numbers, where=where)
    return _ENCODERS[name](numbers, pieces, size)


def count(name: str) -> int:
    """Returns how many parameters an encoder has.

    Raises:
        Unsupported: it is not known.
    """
    if name not in _NUMBERS:
        raise Unsupported(f"a delta with the encoder {name[:20]!r}", hint="update Wherry")
    return _NUMBERS[name]


def check_numbers(name: str, numbers: tuple[int, ...], *, where: object) -> None:
    """Refuses encoders that are not known, and parameters that would take too much memory.

    Raises:
        InvalidInput: that is so.
        Unsupported: a later version's encoder.
    """
    if name not in _NUMBERS:
        raise Unsupported(f"a delta with the encoder {name[:20]!r}", where=where, hint="update Wherry")
    if len(numbers) != _NUMBERS[name] or not _fits(name, numbers):
        raise InvalidInput(f"malformed device delta: parameters of {name}: {numbers}", where=where)


def _fits(name: str, numbers: tuple[int, ...]) -> bool:
    if name == GZIP:
        return 1 <= numbers[0] <= 9
    if name == ZLIB:
        return 0 <= numbers[0] <= 9 and 1 <= numbers[1] <= 9 and 0 <= numbers[2] <= 4
    if name == LZ4:
        return numbers[0] <= 12
    if name == LZMA2:
        dictionary, preset, bcj = numbers
        known = bcj == 0 or 4 <= bcj <= 9
        return 4096 <= dictionary <= MAX_WINDOW_BYTES and preset & 31 <= 9 and known and preset >> 31 <= 1
    level, flags, window_log, workers = numbers
    return 1 <= level <= 22 and flags <= 3 and 10 <= window_log <= 24 and workers <= 1


def encoder_memory(name: str, numbers: tuple[int, ...], size: int) -> int:
    """Returns about how many bytes of memory it takes to encode, here or in a program."""
    if name == LZMA2:
        dictionary, preset, _ = numbers
        return dictionary * (8 if preset & 31 < 4 else 12) + 4 * 1024 * 1024
    if name in (ZSTD, ZSTD_PROGRAM):
        level, flags, window_log, workers = numbers
        found: int = _zstd_parameters((level, flags, window_log, 0), size).estimated_compression_context_size()
        found += min(size, 1 << window_log)
        job = max(_LEAST_ZSTD_JOB_BYTES, _ZSTD_JOB_WINDOWS << window_log)
        return found + _ZSTD_JOBS * min(size, job) if workers else found
    if name == LZ4:
        return 2 * min(size, LZ4_BLOCK_BYTES) + 512 * 1024
    return 512 * 1024


@cache
def probe(name: str, numbers: tuple[int, ...]) -> bytes:
    """Returns the digest of what the encoder makes of the sample.

    Raises:
        Unsupported: it is not installed.
    """
    data = sample()
    made = b"".join(encode(name, numbers, (data,), len(data), where="the sample"))
    return hashlib.sha256(made).digest()[:PROBE_BYTES]


def lacking(wanted: Iterable[Encoder]) -> list[Encoder]:
    """Returns those encoders that are not here, or that are of a version that does something else."""
    return [encoder for encoder in wanted if not _is_here(encoder)]


def _is_here(encoder: Encoder) -> bool:
    try:
        return probe(encoder.name, encoder.numbers) == encoder.probe
    except WherryError:
        return False


@cache
def sample() -> bytes:
    """Returns 256 KiB that look like code, text of few letters, and noise by turns: the same everywhere."""
    noise = hashlib.shake_256(b"wherry device delta sample").digest(96 * 1024)
    words = [noise[at : at + 2 + at % 9] for at in range(0, 4096, 16)]
    parts = []
    for at in range(0, len(noise), 1024):
        block = noise[at : at + 1024]
        parts.append(b"".join(words[byte] for byte in block[:512]))
        parts.append(bytes(65 + (byte & 3) for byte in block[512:]))
        parts.append(block[512 : 512 + at // 1024 * 4])
    data = b"".join(parts)
    return (data * (256 * 1024 // len(data) + 1))[: 256 * 1024]


# --- deflate


def _inflate(numbers: tuple[int, ...], pieces: Pieces, size: int, where: object) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-15)
    for piece in pieces:
        data = piece
        while data and not inflater.eof:
            try:
                plain = inflater.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise IntegrityError(f"a compressed payload is damaged: {error}", where=where) from error
            data = inflater.unconsumed_tail
            if plain:
                yield plain
    if not inflater.eof:
        yield inflater.flush()


def _deflate(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    level, memory, strategy = numbers
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()


def _gzip(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    """Runs gzip; without its header and trailer, which stand in the file as they are."""
    made = through_program(("gzip", "-c", "-n", f"-{numbers[0]}"), pieces)
    return _without_ends(made, GZIP_HEADER_BYTES, GZIP_TRAILER_BYTES)


def _without_ends(pieces: Iterator[bytes], first: int, last: int) -> Iterator[bytes]:
    """Gives all but the first and the last bytes."""
    held = b""
    for piece in pieces:
        held += piece
        if first:
            cut = min(first, len(held))
            held = held[cut:]
            first -= cut
        if len(held) > last:
            yield held[:-last]
            held = held[-last:]


# --- LZMA2


def _lzma_filters(numbers: tuple[int, ...], *, encoding: bool) -> list[dict[str, Any]]:
    import lzma

    dictionary, preset, bcj = numbers
    last: dict[str, Any] = {"id": lzma.FILTER_LZMA2, "dict_size": dictionary}
    if encoding:
        last["preset"] = preset
    return [{"id": bcj}, last] if bcj else [last]


def _lzma_decode(numbers: tuple[int, ...], pieces: Pieces, size: int, where: object) -> Iterator[bytes]:
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(numbers, encoding=False))
    try:
        for piece in pieces:
            data = piece
            while not decoder.eof:
                plain = decoder.decompress(data, CHUNK_BYTES)
                data = b""
                if plain:
                    yield plain
                if decoder.needs_input:
                    break
    except lzma.LZMAError as error:
        raise IntegrityError(f"a compressed payload is damaged: {error}", where=where) from error


def _lzma_encode(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    import lzma

    encoder = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_lzma_filters(numbers, encoding=True))
    for piece in pieces:
        yield encoder.compress(piece)
    yield encoder.flush()


# --- zstd


def _zstd_parameters(numbers: tuple[int, ...], size: int) -> Any:
    import zstandard

    level, flags, window_log, workers = numbers
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size if flags & ZSTD_SIZE else 0,
        window_log=window_log,
        write_checksum=bool(flags & ZSTD_CHECKSUM),
        write_content_size=bool(flags & ZSTD_SIZE),
        write_dict_id=False,
        threads=workers,
    )


class PieceReader:
    """Pieces as a file to read."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _zstd_decode(numbers: tuple[int, ...], pieces: Pieces, size: int, where: object) -> Iterator[bytes]:
    import zstandard

    try:
        source = cast(IO[bytes], PieceReader(pieces))
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(source) as reader:
            while plain := reader.read(CHUNK_BYTES):
                yield plain
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a compressed payload is damaged: {error}", where=where) from error


def _zstd_encode(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    import zstandard

    compressor = zstandard.ZstdCompressor(compression_params=_zstd_parameters(numbers, size))
    encoder = compressor.compressobj(size=size if numbers[1] & ZSTD_SIZE else -1)
    for piece in pieces:
        yield encoder.compress(piece)
    yield encoder.flush()


def _zstd_program(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    level, flags, window_log, workers = numbers
    args = ["zstd", "-q", "-c", f"-{level}", f"--zstd=wlog={window_log}"]
    args += ["--ultra"] if level > _HIGHEST_COMMON_LEVEL else []
    args += ["-T1"] if workers else ["--single-thread"]
    args += ["--check" if flags & ZSTD_CHECKSUM else "--no-check"]
    args += [f"--stream-size={size}"] if flags & ZSTD_SIZE else []
    return through_program(args, pieces)


# --- LZ4


def lz4_block() -> Any:
    """Returns the library's module for blocks.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        from lz4 import block
    except ImportError:
        raise Unsupported("the Python package lz4 is not installed", hint="pip install lz4") from None
    return block


def _lz4_decode(numbers: tuple[int, ...], pieces: Pieces, size: int, where: object) -> Iterator[bytes]:
    if size > LZ4_BLOCK_BYTES:
        raise IntegrityError("an LZ4 block that is too long", where=where)
    block = lz4_block()
    data = _joined(pieces, MAX_LZ4_BYTES, where)
    try:
        plain: bytes = block.decompress(data, uncompressed_size=size)
    except (block.LZ4BlockError, ValueError) as error:
        raise IntegrityError(f"a compressed payload is damaged: {error}", where=where) from error
    del data
    yield from _sliced(plain)


def _lz4_encode(numbers: tuple[int, ...], pieces: Pieces, size: int) -> Iterator[bytes]:
    block = lz4_block()
    data = _joined(pieces, LZ4_BLOCK_BYTES, None)
    level = numbers[0]
    mode = {"mode": "high_compression", "compression": level} if level else {"mode": "default"}
    made: bytes = block.compress(data, store_size=False, **mode)
    del data
    yield from _sliced(made)


def _sliced(data: bytes) -> Iterator[bytes]:
    """Gives long bytes in short pieces, so that nobody holds on to the long ones."""
    for at in range(0, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]


def _joined(pieces: Pieces, limit: int, where: object) -> bytearray:
    data = bytearray()
    for piece in pieces:
        if len(data) + len(piece) > limit:
            raise IntegrityError("an LZ4 block that is too long", where=where)
        data += piece
    return data


_Decode = Callable[[tuple[int, ...], Pieces, int, object], Iterator[bytes]]
_Encode = Callable[[tuple[int, ...], Pieces, int], Iterator[bytes]]
_DECODERS: dict[str, _Decode] = {
    GZIP: _inflate,
    ZLIB: _inflate,
    LZMA2: _lzma_decode,
    ZSTD: _zstd_decode,
    ZSTD_PROGRAM: _zstd_decode,
    LZ4: _lz4_decode,
}
_ENCODERS: dict[str, _Encode] = {
    GZIP: _gzip,
    ZLIB: _deflate,
    LZMA2: _lzma_encode,
    ZSTD: _zstd_encode,
    ZSTD_PROGRAM: _zstd_program,
    LZ4: _lz4_encode,
}
