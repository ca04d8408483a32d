"""Tar archives, read front to back: ustar, pax with extended attributes, GNU's long names and large numbers.

Written for archives from strangers: every length is bounded before it is read, nothing is guessed, and a name is
handed on as it stands (what it may not be is for the caller to say). Refused: sparse files, archives of several
volumes, entries of unknown types, names that are not UTF-8.

Source: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Interchange Format"; GNU tar manual, "Basic Tar
Format"; ``SCHILY.xattr.`` from star(5).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.core.errors import IntegrityError, InvalidInput, Unsupported
from wherry.store.compression import PIECE_BYTES, Readable

MAX_ENTRIES = 2_000_000
MAX_PATH_BYTES = 4096
MAX_FILE_BYTES = 1 << 40
MAX_TOTAL_BYTES = 1 << 40
MAX_PAX_BYTES = 4 * 1024 * 1024
MAX_XATTRS = 512
MAX_XATTR_BYTES = 64 * 1024

_BLOCK_BYTES = 512
_XATTR_PREFIX = "SCHILY.xattr."
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
    """

    def __init__(
        self, stream: Readable, *, where: object = None, limits: Limits = DEFAULT_LIMITS, needs_end: bool = True
    ) -> None:
        self._stream, self._where, self._limits, self._needs_end = stream, where, limits, needs_end
        self._buffer = b""
        self._at = 0
        self._before = 0  # bytes of the stream before the buffer
        self._left = 0  # content of the entry that has not been read
        self._padding = 0
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
        return data

    def read_all(self) -> bytes:
        """Returns the rest of the current entry's content; for files that are known to be small."""
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
            found[self._text(data[space + 1 : equals])] = data[equals + 1 : end - 1]
            at = end
        return found

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"a name that is not UTF-8 cannot be stored: {raw[:80]!r}", where=self._where) from None

    def _parse(self, header: bytes, pax: dict[str, bytes]) -> TarEntry | None:
        code = header[156:157]
        raw_name = pax.get("path") or _field(header[0:100])
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
        if code == b"S" or any(key.startswith("GNU.sparse.") for key in pax):
            raise Unsupported(
                f"a sparse file in a tar archive: {name!r}", where=self._where, hint="make it without --sparse"
            )
        if code == b"V":  # the label of a volume
            return None
        if kind is None:
            raise Unsupported(f"a tar entry of type {code!r}: {name!r}", where=self._where)
        if not 0 <= size <= self._limits.file_bytes:
            raise InvalidInput(f"a file of {size} bytes: {name!r}", where=self._where)
        self._left = size if kind is EntryType.FILE else 0
        self._padding = -self._left % _BLOCK_BYTES
        return TarEntry(
            type=kind,
            name=name,
            mode=self._number(header[100:108]) & 0o7777,
            uid=self._owner(pax, "uid", header[108:116]),
            gid=self._owner(pax, "gid", header[116:124]),
            size=self._left,
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
        found = []
        for key, value in pax.items():
            if key.startswith(_XATTR_PREFIX):
                name = key.removeprefix(_XATTR_PREFIX).encode()
                if not 0 < len(name) <= 255 or b"\0" in name or len(value) > MAX_XATTR_BYTES:
                    raise InvalidInput(f"not an extended attribute: {name[:80]!r} of {self._name!r}", where=self._where)
                found.append((name, value))
        if len(found) > MAX_XATTRS:
            raise InvalidInput(f"more than {MAX_XATTRS} extended attributes: {self._name!r}", where=self._where)
        return tuple(sorted(found))

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


def _field(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]
