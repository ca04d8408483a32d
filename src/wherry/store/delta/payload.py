"""Files with compressed payloads in them: found by their structure, and laid out as *views*.

A view is the file with every payload replaced by its content. A recipe tells how to get from one to the other: it is
the list of the pieces of the file, each raw or a payload. Two kernels that differ in one byte have views that differ
in one byte, while their compressed files differ everywhere.

Seen through: ``.gz``, ``.xz`` and ``.zst`` files; initial RAM disks, also those with uncompressed archives in front;
the payload of x86 kernels (bzImage) and of EFI zboot images: gzip, xz, zstd and LZ4's legacy frames.
Nothing here takes a header at its word: a payload counts when it was really decoded, from the place where it begins.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from wherry.core.errors import InvalidInput, WherryError
from wherry.store.delta import encoders
from wherry.store.delta.encoders import CHUNK_BYTES, GZIP, LZ4, LZ4_BLOCK_BYTES, LZMA2, MAX_LZ4_BYTES, ZLIB, ZSTD
from wherry.store.delta.wire import Reader, Writer

MAX_PIECES = 4096
MAX_PLAIN_BYTES = 1 << 40
MAX_SEEN_THROUGH_BYTES = 2 * 1024 * 1024 * 1024
"""A payload that comes to more is left alone."""
_MAX_CPIO_ENTRIES = 1_000_000
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_MAGICS = {b"\x1f\x8b\x08": GZIP, b"\xfd7zXZ\0": LZMA2, b"\x28\xb5\x2f\xfd": ZSTD, _LZ4_LEGACY: LZ4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of a file: raw, or the payload of an encoder."""

    size: int
    """In the file."""
    plain: int
    """In the view."""
    encoder: str = ""
    """Its name; empty for a raw piece."""
    numbers: tuple[int, ...] = ()


Recipe = tuple[Piece, ...]
"""Empty for a file that is its own view."""


def file_size(recipe: Recipe) -> int:
    """Returns the length of the file."""
    return sum(piece.size for piece in recipe)


def view_size(recipe: Recipe) -> int:
    """Returns the length of the view."""
    return sum(piece.plain for piece in recipe)


def write_recipe(out: Writer, recipe: Recipe) -> None:
    """Writes a recipe."""
    out.number(len(recipe))
    for piece in recipe:
        out.text(piece.encoder)
        out.number(piece.size)
        if piece.encoder:
            out.number(piece.plain)
            for number in piece.numbers:
                out.number(number)


def read_recipe(reader: Reader) -> Recipe:
    """Reads a recipe.

    Raises:
        InvalidInput: malformed.
        Unsupported: it names an encoder that is not known.
    """
    return tuple(_read_piece(reader) for _ in range(reader.number(MAX_PIECES)))


def _read_piece(reader: Reader) -> Piece:
    name = reader.text(16)
    size = reader.number(MAX_PLAIN_BYTES)
    if not name:
        return Piece(size=size, plain=size)
    plain = reader.number(MAX_PLAIN_BYTES)
    numbers = tuple(reader.number() for _ in range(encoders.count(name)))
    encoders.check_numbers(name, numbers, where="a recipe")
    if name == LZ4 and (plain > LZ4_BLOCK_BYTES or size > MAX_LZ4_BYTES):
        raise InvalidInput("malformed device delta: an LZ4 block that is too long")
    return Piece(size=size, plain=plain, encoder=name, numbers=numbers)


# --- between file and view


def expand(recipe: Recipe, file: BinaryIO, *, where: object) -> Iterator[bytes]:
    """Gives the view of a file, which is read from where it stands.

    Raises:
        IntegrityError: a payload is not what the recipe says.
    """
    for piece in recipe:
        source = _exactly(file, piece.size, where)
        if piece.encoder:
            yield from encoders.decode(piece.encoder, piece.numbers, source, piece.plain, where=where)
            for _ in source:  # what the decoder did not need
                pass
        else:
            yield from source


def restore(recipe: Recipe, view: BinaryIO, *, where: object) -> Iterator[bytes]:
    """Gives the file of a view, which is read from where it stands.

    Raises:
        Unsupported: an encoder is not here.
    """
    for piece in recipe:
        source = _exactly(view, piece.plain, where)
        if piece.encoder:
            yield from encoders.encode(piece.encoder, piece.numbers, source, piece.plain, where=where)
        else:
            yield from source


def _exactly(file: BinaryIO, size: int, where: object) -> Iterator[bytes]:
    while size:
        data = file.read(min(size, CHUNK_BYTES))
        if not data:
            raise InvalidInput("a file is shorter than its recipe", where=where)
        size -= len(data)
        yield data


# --- finding payloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A payload in a file: where it is, what it came to, and what made it, as far as its header says."""

    begin: int
    end: int
    plain: int
    encoder: str
    numbers: tuple[int, ...]
    """Good for decoding."""
    hints: tuple[int, ...] = ()
    """For who looks for the encoder: see recompress.py."""


def find(data: memoryview) -> list[Found]:
    """Returns the payloads of a file, in order. Each has been decoded once, to know where it ends."""
    found: list[Found] = []
    at = 0
    while at < len(data) and len(found) < MAX_PIECES // 2 - 1:
        at, limit = _begin_of_payload(data, at)
        if at < 0:
            break
        try:
            more = _payloads_at(data[:limit], at)
        except (WherryError, ValueError, struct.error, IndexError):
            break
        if not more:
            break
        found += more
        at = more[-1].end + (encoders.GZIP_TRAILER_BYTES if more[-1].encoder == GZIP else 0)
        if limit != len(data):
            break  # the one payload of a kernel
    return found


def recipe_of(found: list[Found], size: int) -> Recipe:
    """Returns the recipe for decoding a file of `size` bytes with these payloads."""
    if not found:
        return ()
    pieces: list[Piece] = []
    at = 0
    for item in found:
        if item.begin > at:
            pieces.append(Piece(size=item.begin - at, plain=item.begin - at))
        pieces.append(Piece(size=item.end - item.begin, plain=item.plain, encoder=item.encoder, numbers=item.numbers))
        at = item.end
    if size > at:
        pieces.append(Piece(size=size - at, plain=size - at))
    return tuple(pieces)


def _begin_of_payload(data: memoryview, at: int) -> tuple[int, int]:
    """Returns where the next payload begins (-1: nowhere), and where it ends at the latest."""
    end = len(data)
    if at == 0:
        if bytes(data[0x202:0x206]) == b"HdrS" and end > 0x250:
            sectors = data[0x1F1] or 4
            offset, length = struct.unpack_from("<II", data, 0x248)
            begin = (sectors + 1) * 512 + offset
            return (begin, begin + length) if 0 < length <= end - begin else (-1, end)
        if bytes(data[0:2]) == b"MZ" and bytes(data[4:8]) == b"zimg" and end > 64:
            begin, length = struct.unpack_from("<II", data, 8)
            return (begin, begin + length) if 0 < length <= end - begin else (-1, end)
    if bytes(data[at : at + 6]) in (b"070701", b"070702"):
        at = _end_of_cpio(data, at)
    if at:  # archives of an initial RAM disk are padded with zeros
        while 0 <= at < end and not any(data[at : at + 4096]):
            at += 4096
        while 0 <= at < end and data[at] == 0:
            at += 1
        if bytes(data[at : at + 6]) in (b"070701", b"070702"):
            return _begin_of_payload(data, at)
    return (at, end) if 0 <= at < end and _magic(data, at) else (-1, end)


def _magic(data: memoryview, at: int) -> str:
    head = bytes(data[at : at + 6])
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "")


def _end_of_cpio(data: memoryview, at: int) -> int:
    """Returns where a "newc" archive ends; -1 when it is no good."""
    for _ in range(_MAX_CPIO_ENTRIES):
        head = bytes(data[at : at + 110])
        if len(head) < 110 or head[:6] not in (b"070701", b"070702"):
            return -1
        try:
            size, name_size = int(head[54:62], 16), int(head[94:102], 16)
        except ValueError:
            return -1
        name = bytes(data[at + 110 : at + 110 + min(name_size, 16)])
        at = -(-(at + 110 + name_size) // 4) * 4
        at = -(-(at + size) // 4) * 4
        if name == b"TRAILER!!!\0":
            return at
    return -1


def _payloads_at(data: memoryview, at: int) -> list[Found]:
    name = _magic(data, at)
    if name == GZIP:
        return _find_gzip(data, at)
    if name == LZMA2:
        return _find_xz(data, at)
    if name == ZSTD:
        return _find_zstd(data, at)
    if name == LZ4:
        return _find_lz4(data, at)
    return []


def _pieces(data: memoryview, at: int) -> Iterator[bytes]:
    while at < len(data):
        yield bytes(data[at : at + CHUNK_BYTES])
        at += CHUNK_BYTES


def _find_gzip(data: memoryview, at: int) -> list[Found]:
    """RFC 1952."""
    flags, extra = data[at + 3], data[at + 8]
    begin = at + 10
    if flags & 4:
        begin += 2 + struct.unpack_from("<H", data, begin)[0]
    for flag in (8, 16):
        if flags & flag:
            while data[begin]:
                begin += 1
            begin += 1
    if flags & 2:
        begin += 2
    inflater = zlib.decompressobj(-15)
    plain = taken = 0
    for piece in _pieces(data, begin):
        rest = piece
        taken += len(piece)
        while rest and not inflater.eof:
            try:
                plain += len(inflater.decompress(rest, CHUNK_BYTES))
            except zlib.error:
                return []
            rest = inflater.unconsumed_tail
        if inflater.eof or plain > MAX_SEEN_THROUGH_BYTES:
            break
    end = begin + taken - len(inflater.unused_data)
    if not inflater.eof or plain > MAX_SEEN_THROUGH_BYTES or end + 8 > len(data):
        return []
    return [Found(begin=begin, end=end, plain=plain, encoder=ZLIB, numbers=(6, 8, 0), hints=(extra,))]


def _find_xz(data: memoryview, at: int) -> list[Found]:
    """The .xz file format 1.1.0, one stream; sizes of blocks are found by decoding."""
    import lzma

    check_sizes = (0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    check = check_sizes[data[at + 7] & 15]
    found: list[Found] = []
    at += 12
    while data[at]:  # 0: the index begins
        header = (data[at] + 1) * 4
        parsed = _xz_filters(bytes(data[at : at + header]))
        if parsed is None:
            return []
        dictionary, bcj = parsed
        begin = at + header
        # The window need not be larger than what was written; the encoder's memory grows with it.
        decoder = lzma.LZMADecompressor(
            lzma.FORMAT_RAW,
            filters=[*([{"id": bcj}] if bcj else []), {"id": lzma.FILTER_LZMA2, "dict_size": dictionary}],
        )
        plain = taken = 0
        for piece in _pieces(data, begin):
            rest = piece
            taken += len(piece)
            while not decoder.eof:
                try:
                    plain += len(decoder.decompress(rest, CHUNK_BYTES))
                except lzma.LZMAError:
                    return []
                rest = b""
                if decoder.needs_input:
                    break
            if decoder.eof or plain > MAX_SEEN_THROUGH_BYTES:
                break
        if not decoder.eof:
            return []
        end = begin + taken - len(decoder.unused_data)
        needed = max(4096, min(dictionary, 1 << max(0, plain - 1).bit_length()))
        if needed > encoders.MAX_WINDOW_BYTES:
            return []
        numbers = (needed, 6, bcj)
        found.append(Found(begin=begin, end=end, plain=plain, encoder=LZMA2, numbers=numbers, hints=(dictionary,)))
        at = begin + -(-(end - begin) // 4) * 4 + check
        if len(found) > MAX_PIECES // 4:
            return []
    return found


def _xz_filters(header: bytes) -> tuple[int, int] | None:
    """Returns the size of the dictionary and the BCJ filter (0: none) that a block's header names."""
    flags = header[1]
    reader = Reader(header[2:], "an xz block")
    for bit in (0x40, 0x80):
        if flags & bit:
            reader.number()
    bcj = dictionary = 0
    for index in range((flags & 3) + 1):
        kind = reader.number()
        properties = reader.bytes(16)
        if kind == 0x21 and len(properties) == 1 and properties[0] <= 39:
            bits = properties[0]
            dictionary = (2 | bits & 1) << (bits // 2 + 11)
        elif 4 <= kind <= 9 and not properties and index == 0:
            bcj = kind
        else:
            return None
    return (dictionary, bcj) if dictionary else None


def _find_zstd(data: memoryview, at: int) -> list[Found]:
    """RFC 8878, section 3.1.1; one frame."""
    import zstandard

    parameters = zstandard.get_frame_parameters(bytes(data[at : at + 18]))
    if parameters.window_size > encoders.MAX_WINDOW_BYTES or parameters.dict_id:
        return []
    decoder = zstandard.ZstdDecompressor(max_window_size=encoders.MAX_WINDOW_BYTES).decompressobj()
    plain = taken = 0
    for piece in _pieces(data, at):
        for begin in range(0, len(piece), 4096):
            bite = piece[begin : begin + 4096]
            taken += len(bite)
            plain += len(decoder.decompress(bite))
            if decoder.eof:
                break
        if decoder.eof or plain > MAX_SEEN_THROUGH_BYTES:
            break
    if not decoder.eof:
        return []
    end = at + taken - len(decoder.unused_data)
    flags = encoders.ZSTD_CHECKSUM if parameters.has_checksum else 0
    if parameters.content_size != zstandard.CONTENTSIZE_UNKNOWN:
        flags |= encoders.ZSTD_SIZE
    window_log = max(10, min(24, (parameters.window_size - 1).bit_length()))
    return [Found(begin=at, end=end, plain=plain, encoder=ZSTD, numbers=(3, flags, window_log, 0), hints=(window_log,))]


def _find_lz4(data: memoryview, at: int) -> list[Found]:
    """LZ4's legacy frame: blocks of 8 MiB, each behind its length; its end is that of the file or another length."""
    found: list[Found] = []
    at += 4
    while at + 4 < len(data):
        size = struct.unpack_from("<I", data, at)[0]
        begin = at + 4
        if not 0 < size <= MAX_LZ4_BYTES or begin + size > len(data):
            break
        try:
            plain = lz4_size(bytes(data[begin : begin + size]))
        except WherryError:
            break
        found.append(Found(begin=begin, end=begin + size, plain=plain, encoder=LZ4, numbers=(9,)))
        at = begin + size
        if plain < LZ4_BLOCK_BYTES:
            break
    return found


def lz4_size(block: bytes) -> int:
    """Returns how much an LZ4 block comes to.

    Raises:
        WherryError: it is damaged, or too long.
    """
    library = encoders.lz4_block()
    try:
        return len(library.decompress(block, uncompressed_size=LZ4_BLOCK_BYTES))
    except (library.LZ4BlockError, ValueError) as error:
        raise InvalidInput(f"not an LZ4 block: {error}") from error
