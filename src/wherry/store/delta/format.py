"""The head of a device delta: what it leads from and to, what it asks of the device, and where its parts lie.

::

    0       8   magic "WHYDELTA"
    8       1   version, 1
    9       1   number of signatures, n
    10      4   length of the header, big-endian, h
    14    64n   Ed25519 signatures, each over magic, version, length and header
    ...     h   header (see ``serialize_header``)
    ...         the parts, one behind the other: orders, differences, new bytes, each compressed by itself

The header has the digest of every part, so that a part is checked before any of it is looked at; and each object
that comes out is checked against its own checksum, which hangs from the commit's. A signature of the delta itself is
therefore one more lock, not the only one. docs/internals/device-delta.md has it byte by byte.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, Unsupported
from wherry.store.delta.wire import Reader, Writer

MAGIC = b"WHYDELTA"
VERSION = 1
PREAMBLE_BYTES = 14
SIGNATURE_BYTES = 64

MAX_SIGNATURES = 16
MAX_HEADER_BYTES = 8 * 1024 * 1024
MAX_COMMITS = 1024
MAX_ENCODERS = 64
MAX_PARTS = 65_536
MAX_OBJECTS = 20_000_000
MAX_STREAM_BYTES = 1 << 40
MAX_ORDERS_BYTES = 8 * 1024 * 1024
"""Unpacked, in one part; they are held in memory."""
MAX_NAME_BYTES = 64
MAX_NUMBERS = 16

STORED, ZSTD, LZMA = 0, 1, 2
"""How a stream is compressed."""
STREAMS = 3
ORDERS, DIFFERENCES, NEW_BYTES = 0, 1, 2
PROBE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A compressor that the device must have, exactly as the maker had it."""

    name: str
    numbers: tuple[int, ...]
    """Its parameters; see encoders.py."""
    probe: bytes
    """The digest of what it makes of the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One of the streams of a part."""

    codec: int
    size: int
    """Compressed, in bytes."""
    unpacked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: what can be checked and applied by itself."""

    streams: tuple[Stream, ...]
    objects: int
    """How many objects end in it."""
    digest: bytes

    @property
    def size(self) -> int:
        """Its length in the file, in bytes."""
        return sum(stream.size for stream in self.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All but the parts."""

    from_commits: tuple[Checksum, ...]
    to_commits: tuple[Checksum, ...]
    sources: bytes
    """The digest of the list of all objects of `from_commits`; see sources.py."""
    objects: int
    disk_bytes: int
    """What the new objects take on disk, in whole blocks."""
    scratch_bytes: int
    """The most that lies in temporary files while it is applied, beside the delta itself."""
    encoders: tuple[Encoder, ...]
    parts: tuple[Part, ...]

    @property
    def parts_bytes(self) -> int:
        """The length of all parts."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The beginning of a delta's file."""

    header: Header
    signatures: tuple[bytes, ...]
    signed: bytes
    """What the signatures are over."""
    size: int
    """Where the parts begin."""

    @property
    def total(self) -> int:
        """The length of the whole file."""
        return self.size + self.header.parts_bytes

    @property
    def name(self) -> str:
        """The delta's own name: the digest of what is signed."""
        return hashlib.sha256(self.signed).hexdigest()


def serialize_header(header: Header) -> bytes:
    """Returns the header's bytes."""
    out = Writer()
    for commits in (header.from_commits, header.to_commits):
        out.number(len(commits))
        for commit in commits:
            out.raw(bytes.fromhex(commit))
    out.raw(header.sources)
    out.number(header.objects)
    out.number(header.disk_bytes)
    out.number(header.scratch_bytes)
    out.number(len(header.encoders))
    for encoder in header.encoders:
        out.text(encoder.name)
        out.number(len(encoder.numbers))
        for number in encoder.numbers:
            out.number(number)
        out.raw(encoder.probe)
    out.number(len(header.parts))
    for part in header.parts:
        out.number(part.objects)
        for stream in part.streams:
            out.number(stream.codec)
            out.number(stream.size)
            out.number(stream.unpacked)
        out.raw(part.digest)
    return bytes(out.data)


def signed_bytes(header: bytes) -> bytes:
    """Returns what is signed for a header."""
    return MAGIC + bytes([VERSION]) + struct.pack(">I", len(header)) + header


def serialize_head(header: Header, signatures: Sequence[bytes] = ()) -> bytes:
    """Returns the beginning of the file.

    Raises:
        InvalidInput: too many signatures, or a header that is too long.
    """
    data = serialize_header(header)
    if len(signatures) > MAX_SIGNATURES or any(len(signature) != SIGNATURE_BYTES for signature in signatures):
        raise InvalidInput(f"a delta takes up to {MAX_SIGNATURES} signatures of {SIGNATURE_BYTES} bytes")
    if len(data) > MAX_HEADER_BYTES:
        raise InvalidInput(f"the header of this delta would be longer than {MAX_HEADER_BYTES} bytes")
    return MAGIC + struct.pack(">BBI", VERSION, len(signatures), len(data)) + b"".join(signatures) + data


def head_bytes(preamble: bytes, where: object) -> int:
    """Returns the length of the whole head, from its first ``PREAMBLE_BYTES``.

    Raises:
        InvalidInput: this is no device delta.
        Unsupported: its version is not known.
    """
    if len(preamble) < PREAMBLE_BYTES or preamble[:8] != MAGIC:
        raise InvalidInput("not a device delta", where=where)
    version: int
    signatures: int
    length: int
    version, signatures, length = struct.unpack_from(">BBI", preamble, 8)
    if version != VERSION:
        raise Unsupported(f"a device delta of version {version}", where=where, hint="update Wherry")
    if signatures > MAX_SIGNATURES or length > MAX_HEADER_BYTES:
        raise InvalidInput("malformed device delta: the head is too long", where=where)
    return PREAMBLE_BYTES + signatures * SIGNATURE_BYTES + length


def parse_head(data: bytes, *, where: object) -> Head:
    """Parses the beginning of a delta's file.

    Args:
        data: as many bytes as ``head_bytes`` says, or more.
        where: the file, for errors.

    Raises:
        InvalidInput: malformed.
        Unsupported: its version is not known.
    """
    size = head_bytes(data[:PREAMBLE_BYTES], where)
    if len(data) < size:
        raise InvalidInput("malformed device delta: the head is cut short", where=where)
    count = data[9]
    begin = PREAMBLE_BYTES + count * SIGNATURE_BYTES
    signatures = tuple(data[at : at + SIGNATURE_BYTES] for at in range(PREAMBLE_BYTES, begin, SIGNATURE_BYTES))
    body = bytes(data[begin:size])
    return Head(header=_parse_header(Reader(body, where)), signatures=signatures, signed=signed_bytes(body), size=size)


def _parse_header(reader: Reader) -> Header:
    from_commits, to_commits = _commits(reader), _commits(reader)
    sources = reader.raw(32)
    objects = reader.number(MAX_OBJECTS)
    disk_bytes, scratch_bytes = reader.number(), reader.number()
    encoders = tuple(_encoder(reader) for _ in range(reader.number(MAX_ENCODERS)))
    parts = tuple(_part(reader) for _ in range(reader.number(MAX_PARTS)))
    reader.end()
    if not to_commits or len(set(from_commits)) != len(from_commits) or len(set(to_commits)) != len(to_commits):
        raise reader.error("no commit, or one twice")
    if sum(part.objects for part in parts) != objects:
        raise reader.error("the parts have not the number of objects that it names")
    return Header(
        from_commits=from_commits,
        to_commits=to_commits,
        sources=sources,
        objects=objects,
        disk_bytes=disk_bytes,
        scratch_bytes=scratch_bytes,
        encoders=encoders,
        parts=parts,
    )


def _commits(reader: Reader) -> tuple[Checksum, ...]:
    return tuple(Checksum(reader.raw(32).hex()) for _ in range(reader.number(MAX_COMMITS)))


def _encoder(reader: Reader) -> Encoder:
    name = reader.text(MAX_NAME_BYTES)
    numbers = tuple(reader.number() for _ in range(reader.number(MAX_NUMBERS)))
    return Encoder(name=name, numbers=numbers, probe=reader.raw(PROBE_BYTES))


def _part(reader: Reader) -> Part:
    objects = reader.number(MAX_OBJECTS)
    streams = tuple(_stream(reader) for _ in range(STREAMS))
    if streams[ORDERS].unpacked > MAX_ORDERS_BYTES:
        raise reader.error(f"a part with more than {MAX_ORDERS_BYTES} bytes of orders")
    return Part(objects=objects, streams=streams, digest=reader.raw(32))


def _stream(reader: Reader) -> Stream:
    codec = reader.number(LZMA)
    size = reader.number(MAX_STREAM_BYTES)
    unpacked = reader.number(MAX_STREAM_BYTES)
    if codec == STORED and size != unpacked:
        raise reader.error("a stored stream of two lengths")
    return Stream(codec=codec, size=size, unpacked=unpacked)
