"""Tar archives, read front to back: ustar, pax with extended attributes, GNU's long names and large numbers.

Written for archives from strangers: every length is bounded before it is read, nothing is guessed, and a name is
handed on as it stands (what it may not be is for the caller to say). Refused: archives of several volumes, entries of
unknown types, names that are not UTF-8, and sparse files unless they are asked for (a few bytes of them become a
terabyte of zeros).

Source: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files"; ``SCHILY.xattr.`` from star(5), ``LIBARCHIVE.xattr.`` from libarchive's tar(5).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.core.errors import IntegrityError, InvalidInput, Unsupported
from wherry.store.tree.compression import PIECE_BYTES, Readable

MAX_ENTRIES = 2_000_000
MAX_PATH_BYTES = 4096
MAX_FILE_BYTES = 1 << 40
MAX_TOTAL_BYTES = 1 << 40
MAX_HOLE_BYTES = 64 << 30
MAX_RATIO = 250
"""Files of programs and data come to 2 to 20; only zeros and bombs to more."""
FREE_BYTES = 4 << 30
MAX_PAX_BYTES = 4 * 1024 * 1024
MAX_XATTRS = 512
MAX_XATTR_BYTES = 64 * 1024

_BLOCK_BYTES = 512
_XATTR_PREFIX = "SCHILY.xattr."
_LIBARCHIVE_PREFIX = "LIBARCHIVE.xattr."
"""The name percent-encoded, the value in base64; written beside the other by bsdtar, alone by some."""
_SPARSE_MAP = "GNU.sparse.map"
_SPARSE_PIECES = {"GNU.sparse.offset", "GNU.sparse.numbytes"}
MAX_SPARSE_NUMBERS = 200_000
_END = bytes(_BLOCK_BYTES)
_CHECKSUM_BLANK = sum(b" " * 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken from a stranger."""

    entries: int = MAX_ENTRIES
    path_bytes: int = MAX_PATH_BYTES
    file_bytes: int = MAX_FILE_BYTES
    total_bytes: int = MAX_TOTAL_BYTES
    """Of all streams of one image, uncompressed."""
    hole_bytes: int = MAX_HOLE_BYTES
    """Of all sparse files of one archive: zeros that are not in it."""
    ratio: int = MAX_RATIO
    """How many times its compressed size an archive may come to, once it comes to more than `FREE_BYTES`."""


DEFAULT_LIMITS = Limits()


class EntryType(enum.Enum):
    """What an entry is."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_TYPES = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,
    b"1": EntryType.HARD_LINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER_DEVICE,
    b"4": EntryType.BLOCK_DEVICE,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One entry of an archive."""

    type: EntryType
    name: str
    """As it stands in the archive."""
    mode: int
    """Permission bits, set-uid and the like; no type."""
    uid: int
    gid: int
    size: int
    """Bytes of content; 0 for anything but a file."""
    target: str = ""
    """Of links."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    offset: int = 0
    """Where the content begins in the stream."""


class TarReader:
    """Gives the entries of an archive, and the content of the one given last.

    Args:
        stream: the plain archive.
        where: its name, for errors.
        limits: how much to take.
        needs_end: whether an archive that stops without its end marker is refused as cut short. Where a digest
            says that all is there, that need not be.
        sparse: whether sparse files are read, holes as zeros.
    """

    def __init__(
        self,
        stream: Readable,
        *,
        where: object = None,
        limits: Limits = DEFAULT_LIMITS,
        needs_end: bool = True,
        sparse: bool = False,
    ) -> None:
        self._stream, self._where, self._limits, self._needs_end = stream, where, limits, needs_end
        self._reads_sparse = sparse
        self._sparse: _Sparse | None = None
        self._buffer = b""
        self._at = 0
        self._before = 0  # bytes of the stream before the buffer
        self._left = 0  # content of the entry that has not been read
        self._padding = 0
        self._holes = 0
        self._name = ""

    def __iter__(self) -> Iterator[TarEntry]:
        """Gives one entry after another; the content of each must be read before the next is asked for.

        Raises:
            InvalidInput: malformed, or beyond a limit.
            IntegrityError: cut short.
            Unsupported: an entry of a kind that is not read.
        """
        shared: dict[str, bytes] = {}
        count = 0
        while True:
            own: dict[str, bytes] = {}
            header = self._next_header(shared, own)
            if header is None:
                return
            count += 1
            if count > self._limits.entries:
                raise InvalidInput(f"more than {self._limits.entries} entries", where=self._where)
            entry = self._parse(header, {**shared, **own})
            if entry is None:
                continue
            yield entry

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes of the current entry's content.

        Raises:
            IntegrityError: the archive is cut short.
        """
        if self._sparse is not None:
            size, hole = self._sparse.next(size)
            if hole:
                return bytes(size)
        size = min(size, self._left)
        if not size:
            return b""
        if self._at == len(self._buffer):
            self._fill()
        data = self._buffer[self._at : self._at + size]
        if not data:
            raise self._cut_short()
        self._at += len(data)
        self._left -= len(data)
        if self._sparse is not None:
            self._sparse.position += len(data)
        return data

    def read_all(self) -> bytes:
        """Returns the rest of the current entry's content; for files that are known to be small."""
        if self._sparse is not None:
            return b"".join(iter(lambda: self.read(PIECE_BYTES), b""))
        data = self._take(self._left)
        self._left = 0
        return data

    # --- headers

    def _next_header(self, shared: dict[str, bytes], own: dict[str, bytes]) -> bytes | None:
        """Reads up to the next header of a real entry; what stands before it goes into `shared` and `own`."""
        while True:
            self._skip_content()
            header = self._take(_BLOCK_BYTES, at_end=True)
            if not header or header == _END:
                if own:
                    raise self._cut_short()
                if not header and self._needs_end:
                    raise IntegrityError("cut short: the archive has no end marker", where=self._where)
                return None
            self._check(header)
            kind = header[156:157]
            if kind in (b"x", b"g", b"X"):
                (shared if kind == b"g" else own).update(self._pax(self._extension(header)))
            elif kind in (b"L", b"K"):
                data = self._extension(header).rstrip(b"\0")
                own["path" if kind == b"L" else "linkpath"] = data
            else:
                return header

    def _check(self, header: bytes) -> None:
        found = sum(header) - sum(header[148:156]) + _CHECKSUM_BLANK
        digits = header[148:156].split(b"\0", 1)[0].strip()
        if not digits.isdigit() or self._number(digits) != found:
            raise InvalidInput(
                f"not a tar archive, or damaged: wrong checksum of the header after {self._name!r}"
                if self._name
                else "not a tar archive",
                where=self._where,
            )

    def _number(self, raw: bytes) -> int:
        """Reads octal digits, or GNU's base 256."""
        if raw[0] & 0x80:
            if raw[0] != 0x80:
                return -1
            return int.from_bytes(raw[1:], "big")
        digits = raw.split(b"\0", 1)[0].strip()
        try:
            return int(digits, 8) if digits else 0
        except ValueError:
            raise InvalidInput(f"not a number in a tar header: {raw!r}", where=self._where) from None

    def _extension(self, header: bytes) -> bytes:
        size = self._number(header[124:136])
        if not 0 <= size <= MAX_PAX_BYTES:
            raise InvalidInput(f"an extended header of {size} bytes; the limit is {MAX_PAX_BYTES}", where=self._where)
        data = self._take(size)
        self._padding = -size % _BLOCK_BYTES
        return data

    def _pax(self, data: bytes) -> dict[str, bytes]:
        """Parses records of ``LENGTH KEY=VALUE\\n``, the length in decimal and of the whole record."""
        found: dict[str, bytes] = {}
        at = 0
        while at < len(data) and data[at]:
            space = data.find(b" ", at, at + 20)
            length = int(data[at:space]) if space > at and data[at:space].isdigit() else 0
            end = at + length
            equals = data.find(b"=", space, end)
            if not length or end > len(data) or equals < 0 or data[end - 1 : end] != b"\n":
                raise InvalidInput("malformed pax header", where=self._where)
            key, value = self._text(data[space + 1 : equals]), data[equals + 1 : end - 1]
            if key in _SPARSE_PIECES:  # version 0.0 has the map in pieces, under two keys in turn
                value = found[_SPARSE_MAP] + b"," + value if _SPARSE_MAP in found else value
                key = _SPARSE_MAP
            found[key] = value
            at = end
        return found

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"a name that is not UTF-8 cannot be stored: {raw[:80]!r}", where=self._where) from None

    def _parse(self, header: bytes, pax: dict[str, bytes]) -> TarEntry | None:
        code = header[156:157]
        raw_name = pax.get("GNU.sparse.name") or pax.get("path") or _field(header[0:100])
        if "path" not in pax and header[257:263] == b"ustar\0" and header[345]:
            raw_name = _field(header[345:500]) + b"/" + raw_name
        name = self._name = self._text(raw_name)
        raw_target = pax.get("linkpath") or _field(header[157:257])
        if max(len(raw_name), len(raw_target)) > self._limits.path_bytes:
            raise InvalidInput(
                f"a path is longer than {self._limits.path_bytes} bytes: {name[:80]!r}", where=self._where
            )
        if "\0" in name or b"\0" in raw_target:
            raise InvalidInput(f"a path holds a NUL: {name[:80]!r}", where=self._where)
        size = self._pax_number(pax, "size") if "size" in pax else self._number(header[124:136])
        kind = EntryType.DIRECTORY if code in (b"\0", b"0") and name.endswith("/") else _TYPES.get(code)
        sparse = code == b"S" or any(key.startswith("GNU.sparse.") for key in pax)
        if sparse and not self._reads_sparse:
            raise Unsupported(
                f"a sparse file in a tar archive: {name!r}", where=self._where, hint="make it without --sparse"
            )
        if code == b"S":
            kind = EntryType.FILE
        if code == b"V":  # the label of a volume
            return None
        if kind is None:
            raise Unsupported(f"a tar entry of type {code!r}: {name!r}", where=self._where)
        if not 0 <= size <= self._limits.file_bytes:
            raise InvalidInput(f"a file of {size} bytes: {name!r}", where=self._where)
        self._left = size if kind is EntryType.FILE else 0
        self._padding = -self._left % _BLOCK_BYTES
        self._sparse = self._read_map(header, pax) if sparse else None
        return TarEntry(
            type=kind,
            name=name,
            mode=self._number(header[100:108]) & 0o7777,
            uid=self._owner(pax, "uid", header[108:116]),
            gid=self._owner(pax, "gid", header[116:124]),
            size=self._left if self._sparse is None else self._sparse.size,
            target=self._text(raw_target) if kind in (EntryType.HARD_LINK, EntryType.SYMLINK) else "",
            xattrs=self._xattrs(pax) if pax else (),
            offset=self._before + self._at,
        )

    def _owner(self, pax: dict[str, bytes], key: str, raw: bytes) -> int:
        value = self._pax_number(pax, key) if key in pax else self._number(raw)
        if not 0 <= value < 0xFFFFFFFF:  # the last one means "nobody" to chown(2)
            raise InvalidInput(f"not a {key}: {value} of {self._name!r}", where=self._where)
        return value

    def _pax_number(self, pax: dict[str, bytes], key: str) -> int:
        if not pax[key].isdigit() or len(pax[key]) > 20:
            raise InvalidInput(f"not a {key}: {pax[key][:40]!r} of {self._name!r}", where=self._where)
        return int(pax[key])

    def _xattrs(self, pax: dict[str, bytes]) -> tuple[tuple[bytes, bytes], ...]:
        found: dict[bytes, bytes] = {}
        for key, value in pax.items():
            if key.startswith(_LIBARCHIVE_PREFIX):
                from base64 import b64decode
                from urllib.parse import unquote_to_bytes

                name = unquote_to_bytes(key.removeprefix(_LIBARCHIVE_PREFIX))
                if name in found:
                    continue
                try:
                    value = b64decode(value + b"=" * (-len(value) % 4))
                except ValueError:
                    raise InvalidInput(
                        f"not an extended attribute: {name[:80]!r} of {self._name!r}", where=self._where
                    ) from None
            elif key.startswith(_XATTR_PREFIX):
                name = key.removeprefix(_XATTR_PREFIX).encode()
            else:
                continue
            if not 0 < len(name) <= 255 or b"\0" in name or len(value) > MAX_XATTR_BYTES:
                raise InvalidInput(f"not an extended attribute: {name[:80]!r} of {self._name!r}", where=self._where)
            found[name] = value
        if len(found) > MAX_XATTRS:
            raise InvalidInput(f"more than {MAX_XATTRS} extended attributes: {self._name!r}", where=self._where)
        return tuple(sorted(found.items()))

    # --- sparse files

    def _read_map(self, header: bytes, pax: dict[str, bytes]) -> _Sparse:
        """Reads where the content of a sparse file belongs; the reader is left at the content."""
        if header[156:157] == b"S":
            numbers, size = self._gnu_map(header), self._number(header[483:495])
        elif "GNU.sparse.major" in pax:
            numbers, size = self._map_before_content(), self._pax_number(pax, "GNU.sparse.realsize")
        else:
            numbers = [self._decimal(item) for item in pax.get(_SPARSE_MAP, b"").split(b",") if item]
            size = self._pax_number(pax, "GNU.sparse.size")
        pieces = list(zip(numbers[::2], numbers[1::2], strict=False))
        position = 0
        for offset, length in pieces:
            if offset < position or length < 0:
                raise self._bad_map()
            position = offset + length
        if len(numbers) % 2 or position > size or size > self._limits.file_bytes:
            raise self._bad_map()
        if sum(length for _, length in pieces) != self._left:
            raise self._bad_map()
        self._holes += size - self._left
        if self._holes > self._limits.hole_bytes:
            raise InvalidInput(
                f"more than {self._limits.hole_bytes} bytes of holes in sparse files: {self._name!r}", where=self._where
            )
        return _Sparse(size, [piece for piece in pieces if piece[1]])

    def _gnu_map(self, header: bytes) -> list[int]:
        numbers: list[int] = []
        block, at, count, more = header, 386, 4, 482
        while True:
            for index in range(count):
                raw = block[at + 24 * index : at + 24 * index + 24]
                if raw[0]:
                    numbers += [self._number(raw[:12]), self._number(raw[12:])]
            if not block[more]:
                return numbers
            if len(numbers) > MAX_SPARSE_NUMBERS:
                raise self._bad_map()
            block, at, count, more = self._take(_BLOCK_BYTES), 0, 21, 504

    def _map_before_content(self) -> list[int]:
        """Reads version 1.0's map: decimal numbers, one to a line, the first says how many pairs follow."""
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            if self._left < _BLOCK_BYTES or wanted > MAX_SPARSE_NUMBERS:
                raise self._bad_map()
            *more, rest = (rest + self._take(_BLOCK_BYTES)).split(b"\n")
            self._left -= _BLOCK_BYTES
            lines += more
            if lines:
                wanted = 1 + 2 * self._decimal(lines[0])
        return [self._decimal(line) for line in lines[1:wanted]]

    def _decimal(self, raw: bytes) -> int:
        if not raw.isdigit() or len(raw) > 20:
            raise self._bad_map()
        return int(raw)

    def _bad_map(self) -> InvalidInput:
        return InvalidInput(f"malformed map of a sparse file: {self._name!r}", where=self._where)

    # --- bytes

    def _fill(self) -> None:
        self._before += len(self._buffer)
        self._buffer = self._stream.read(PIECE_BYTES)
        self._at = 0

    def _take(self, size: int, *, at_end: bool = False) -> bytes:
        """Returns exactly `size` bytes; or none, at the end of the stream, if `at_end`."""
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        if len(data) == size:
            return data
        parts, missing = [data], size - len(data)
        while missing:
            self._fill()
            part = self._buffer[:missing]
            if not part:
                if at_end and missing == size:
                    return b""
                raise self._cut_short()
            self._at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip_content(self) -> None:
        missing = self._left + self._padding
        self._left = self._padding = 0
        while missing > len(self._buffer) - self._at:
            missing -= len(self._buffer) - self._at
            self._fill()
            if not self._buffer:
                raise self._cut_short()
        self._at += missing

    def _cut_short(self) -> IntegrityError:
        return IntegrityError(
            f"cut short: the archive ends in or after {self._name!r}" if self._name else "cut short", where=self._where
        )


class _Sparse:
    """How far a sparse file has been read."""

    def __init__(self, size: int, pieces: list[tuple[int, int]]) -> None:
        self.size = size
        self.position = 0
        self._pieces = pieces[::-1]

    def next(self, size: int) -> tuple[int, bool]:
        """Returns how much to read next, and whether that is a hole; a hole is taken for read."""
        while self._pieces and self.position >= sum(self._pieces[-1]):
            self._pieces.pop()
        begin = self._pieces[-1][0] if self._pieces else self.size
        if self.position < begin:
            size = min(size, begin - self.position, PIECE_BYTES)
            self.position += size
            return size, True
        return (min(size, sum(self._pieces[-1]) - self.position) if self._pieces else 0), False


def _field(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]
