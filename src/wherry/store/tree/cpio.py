"""Cpio archives, read front to back: the new portable format (``newc``, with or without checksum) and ``odc``.

The entries are those of ``tar.py``. Hard links come as such: of several names of one file, the one that has the
content is given first. Refused: the old binary format, names that are not UTF-8, lengths beyond ``tar.py``'s limits.

Source: cpio(5), "New ASCII Format", "Old Character Format".
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.tree.compression import PIECE_BYTES, Readable
from wherry.store.tree.tar import DEFAULT_LIMITS, EntryType, Limits, TarEntry

MAGICS = (b"070701", b"070702", b"070707")
_NEWC_BYTES = 110
_ODC_BYTES = 76
_ODC_FIELDS = ((6, 6), (12, 6), (18, 6), (24, 6), (30, 6), (36, 6), (59, 6), (65, 11))
"""dev ino mode uid gid nlink namesize filesize: where they begin, how long they are."""
_TRAILER = "TRAILER!!!"
_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
    stat.S_IFIFO: EntryType.FIFO,
}
_Inode = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    inode: _Inode
    mode: int
    uid: int
    gid: int
    links: int
    name_bytes: int
    size: int
    align: int


class CpioReader:
    """Gives the entries of an archive, and the content of the one given last; used as ``TarReader`` is.

    Args:
        stream: the plain archive.
        where: its name, for errors.
        limits: how much to take.
    """

    def __init__(self, stream: Readable, *, where: object = None, limits: Limits = DEFAULT_LIMITS) -> None:
        self._stream, self._where, self._limits = stream, where, limits
        self._buffer = b""
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[TarEntry]:
        """Gives one entry after another; the content of each must be read before the next is asked for.

        Raises:
            InvalidInput: malformed, or beyond a limit.
            IntegrityError: cut short.
        """
        empty: dict[_Inode, list[TarEntry]] = {}  # names of files whose content has not come yet
        full: dict[_Inode, str] = {}
        for head, entry in self._entries():
            if entry.type is not EntryType.FILE or head.links < 2:
                yield entry
            elif head.inode in full:
                self._skip()
                yield _link(entry, full[head.inode])
            elif entry.size:
                full[head.inode] = entry.name
                yield entry
                for other in empty.pop(head.inode, ()):
                    yield _link(other, entry.name)
            else:
                empty.setdefault(head.inode, []).append(entry)
        for first, *others in empty.values():
            yield first
            for other in others:
                yield _link(other, first.name)

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes of the current entry's content.

        Raises:
            IntegrityError: the archive is cut short.
        """
        data = self._take_some(min(size, self._left))
        self._left -= len(data)
        return data

    def read_all(self) -> bytes:
        """Returns the rest of the current entry's content; for files that are known to be small."""
        data = self._take(self._left)
        self._left = 0
        return data

    def _entries(self) -> Iterator[tuple[_Head, TarEntry]]:
        count = 0
        while True:
            self._skip()
            head = self._head()
            if not 1 < head.name_bytes <= self._limits.path_bytes + 1 or not 0 <= head.size <= self._limits.file_bytes:
                raise InvalidInput("malformed cpio header, or beyond a limit", where=self._where)
            raw = self._take(head.name_bytes + _gap(_NEWC_BYTES + head.name_bytes, head.align))[: head.name_bytes]
            name = self._text(raw)
            if name == _TRAILER:
                return
            count += 1
            if count > self._limits.entries:
                raise InvalidInput(f"more than {self._limits.entries} entries", where=self._where)
            yield head, self._entry(head, name)

    def _entry(self, head: _Head, name: str) -> TarEntry:
        kind = _TYPES.get(stat.S_IFMT(head.mode))
        if kind is None:
            raise InvalidInput(f"a cpio entry of mode {head.mode:o}: {name!r}", where=self._where)
        self._left = head.size
        self._padding = _gap(head.size, head.align)
        target = ""
        if kind is EntryType.SYMLINK:
            if head.size > self._limits.path_bytes:
                raise InvalidInput(f"the target of a symbolic link is too long: {name!r}", where=self._where)
            target = self._text(self.read_all() + b"\0")
        return TarEntry(
            type=kind,
            name=name,
            mode=stat.S_IMODE(head.mode),
            uid=head.uid,
            gid=head.gid,
            size=head.size if kind is EntryType.FILE else 0,
            target=target,
        )

    def _head(self) -> _Head:
        magic = self._take(6)
        if magic not in MAGICS:
            raise InvalidInput(f"not a cpio archive, or damaged: {magic!r}", where=self._where)
        try:
            if magic == b"070707":
                raw = magic + self._take(_ODC_BYTES - 6)
                dev, ino, mode, uid, gid, links, name, size = (int(raw[at : at + n], 8) for at, n in _ODC_FIELDS)
                return _Head(
                    inode=(0, dev, ino), mode=mode, uid=uid, gid=gid, links=links, name_bytes=name, size=size, align=1
                )
            raw = self._take(_NEWC_BYTES - 6)
            ino, mode, uid, gid, links, _, size, major, minor, _, _, name, _ = (
                int(raw[at : at + 8], 16) for at in range(0, 104, 8)
            )
        except ValueError:
            raise InvalidInput("malformed cpio header", where=self._where) from None
        inode = (major, minor, ino)
        return _Head(inode=inode, mode=mode, uid=uid, gid=gid, links=links, name_bytes=name, size=size, align=4)

    def _text(self, raw: bytes) -> str:
        if raw.find(b"\0") != len(raw) - 1:
            raise InvalidInput("malformed name in a cpio archive", where=self._where)
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"a name that is not UTF-8 cannot be stored: {raw[:80]!r}", where=self._where) from None

    # --- bytes

    def _take(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._take_some(size)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _take_some(self, size: int) -> bytes:
        if not size:
            return b""
        if not self._buffer:
            self._buffer = self._stream.read(PIECE_BYTES)
            if not self._buffer:
                raise IntegrityError("cut short: the archive has no end marker", where=self._where)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _skip(self) -> None:
        missing = self._left + self._padding
        self._left = self._padding = 0
        while missing:
            missing -= len(self._take_some(min(missing, PIECE_BYTES)))


def _gap(size: int, align: int) -> int:
    return -size % align


def _link(entry: TarEntry, target: str) -> TarEntry:
    return replace(entry, type=EntryType.HARD_LINK, target=target, size=0)
