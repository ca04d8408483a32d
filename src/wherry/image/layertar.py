"""A tree of the store as one image layer: a tar archive that is never written down, only read, from any offset.

The layer is the whole tree, or what makes it of the tree below: what is new or other, with the directories above, and
whiteouts for what has gone. Trees are compared by their checksums, so what is the same is not even looked at.

::

    entry*  2 x 512 zeros
    entry  = [pax header, its records, padding]  ustar header  [content, padding]     see store/tree/tarwrite.py

The order: ``./``, then of each directory its whiteouts by name, its files, then its directories, each followed by what
is in it. Names have no ``./`` before them, those of directories a slash behind them. Every time is the one given;
owners are numbers alone. Equal files are written out each: the store does not know hard links. So trees and a time give
the same bytes on any machine, as long as this file stays as it is.

To begin in the middle, a reader starts at the last *mark* before: the offset of an entry, and its path, from which the
walk goes on. Marks are noted while the digest is computed, one for every `MARK_BYTES` at most.

Refused: names that an archive would mean as whiteouts, attributes whose names have a ``=`` in them.

Source: OCI image-spec 1.1, layer.md; POSIX.1-2024, pax.
"""

from __future__ import annotations

import hashlib
import io
import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.store.disk.stored import content_size
from wherry.store.format.objects import DirMeta, Mode, Xattrs
from wherry.store.tree.tar import EntryType
from wherry.store.tree.tarwrite import entry_head
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MARK_BYTES = 1024 * 1024
MAX_MARKS = 2048
"""When there are more, every second one goes, and they are noted half as often."""
PIECE_BYTES = 512 * 1024

WHITEOUT = ".wh."
"""Begins the name of an empty file that says that something below has gone."""
_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)
_PADDING = [bytes(-size % _BLOCK_BYTES) for size in range(_BLOCK_BYTES)]


class Mark(NamedTuple):
    """Where an entry begins."""

    offset: int
    path: str
    """As it is written, without ``./`` for the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is known of a layer once it was read."""

    digest: Digest
    size: int
    marks: tuple[Mark, ...] = ()


class _Item(NamedTuple):
    path: str
    """That of a directory ends in a slash; that of the root is empty."""
    checksum: Checksum
    """Of the file object, or the dirtree; "" of a whiteout."""
    meta: Checksum | None
    """Of a directory."""
    below: Checksum | None = None
    """The dirtree of the same directory in the tree below."""


class Tree(NamedTuple):
    """A tree of the store."""

    tree: Checksum
    """Its dirtree."""
    meta: Checksum
    """The dirmeta of its root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTar:
    """The archive of one tree. Several threads may read it at once."""

    repo: Repository
    tree: Checksum
    meta: Checksum
    time_s: int
    """Of every entry."""
    below: Tree | None = None
    """The tree that the layer is laid over; None: it is the lowest."""

    def measure(self, progress: Progress = QUIET, *, total_bytes: int | None = None) -> Measured:
        """Reads all of it once.

        Args:
            progress: is told how many bytes have been read.
            total_bytes: about how many there are.

        Raises:
            NotFound: the tree lacks an object.
            InvalidInput: it has a name that no image may have.
        """
        marks: list[Mark] = []
        digest = hashlib.sha256()
        size = 0
        for piece in self.pieces(noted=marks):
            digest.update(piece)
            size += len(piece)
            progress.update("hashing", size, total_bytes, unit="B")
        return Measured(digest=Digest("sha256:" + digest.hexdigest()), size=size, marks=tuple(marks))

    def open(self, offset: int = 0, marks: Sequence[Mark] = ()) -> BinaryIO:
        """Opens it, from an offset on.

        Args:
            offset: in bytes; beyond the end there is nothing to read.
            marks: of `measure`; without them all before the offset is gone through, though not read.
        """
        return cast(BinaryIO, PieceReader(self.pieces(offset, marks)))

    def pieces(self, offset: int = 0, marks: Sequence[Mark] = (), noted: list[Mark] | None = None) -> Iterator[bytes]:
        """Gives its bytes in pieces of about half a megabyte.

        Args:
            offset: where to begin.
            marks: of `measure`.
            noted: a list that becomes the marks; only with an offset of 0.
        """
        at = bisect_right(marks, (offset, "\U0010ffff")) - 1
        start = marks[at] if at >= 0 else Mark(0, "")
        position, spacing = start.offset, MARK_BYTES
        parts: list[bytes] = []
        held = 0
        for item in self._items(start.path):
            if noted is not None and (not noted or position - noted[-1].offset >= spacing):
                noted.append(Mark(position, item.path))
                if len(noted) > MAX_MARKS:
                    noted[:] = noted[::2]
                    spacing *= 2
            if item.meta is not None:
                head = self._directory(item.path, item.meta)
                position += len(head)
                data = head[len(head) - (position - offset) :] if position - len(head) < offset else head
                if position > offset:
                    parts.append(data)
                    held += len(data)
            else:
                for found in self._file(item, max(0, offset - position)):
                    if isinstance(found, int):
                        position += found
                        continue
                    parts.append(found)
                    held += len(found)
                    if held >= PIECE_BYTES:
                        yield found if len(parts) == 1 else b"".join(parts)
                        parts, held = [], 0
            if held >= PIECE_BYTES:
                yield b"".join(parts)
                parts, held = [], 0
        parts.append(_END[max(0, offset - position) :])
        if whole := b"".join(parts):
            yield whole

    # --- entries

    def _directory(self, path: str, meta: Checksum) -> bytes:
        found: DirMeta = self.repo.load_dirmeta(meta)
        _check(path, found.xattrs)
        return entry_head(
            EntryType.DIRECTORY,
            path or "./",
            mode=stat.S_IMODE(found.mode),
            uid=found.uid,
            gid=found.gid,
            time_s=self.time_s,
            xattrs=found.xattrs,
        )

    def _file(self, item: _Item, skip: int) -> Iterator[bytes | int]:
        """Gives the bytes of an entry from `skip` on, and then, as a number, how many the whole entry has."""
        if not item.checksum:
            head = self._head(EntryType.FILE, item.path, 0, 0, 0, 0, ())
            if skip < len(head):
                yield head[skip:]
            yield len(head)
            return
        header, content = self.repo.load_file(item.checksum)
        _check(item.path, header.xattrs)
        if content is None:
            head = self._head(EntryType.SYMLINK, item.path, 0o777, header.uid, header.gid, 0, header.xattrs,
                              header.symlink_target)  # fmt: skip
            if skip < len(head):
                yield head[skip:]
            yield len(head)
            return
        with content:
            size = content_size(self.repo, item.checksum, content)
            head = self._head(
                EntryType.FILE, item.path, stat.S_IMODE(header.mode), header.uid, header.gid, size, header.xattrs
            )
            padding = _PADDING[size % _BLOCK_BYTES]
            whole = len(head) + size + len(padding)
            if skip < whole:
                if skip < len(head):
                    yield head[skip:]
                begin = max(0, skip - len(head))
                if begin < size:
                    yield from self._content(content, begin, size, item)
                if padding:
                    yield padding[max(0, begin - size) :]
            yield whole

    def _content(self, content: BinaryIO, begin: int, size: int, item: _Item) -> Iterator[bytes]:
        if begin:
            if self.repo.mode is Mode.ARCHIVE:  # inflated on the fly
                while begin and (data := content.read(min(begin, PIECE_BYTES))):
                    begin -= len(data)
                    size -= len(data)
            else:
                content.seek(begin)
                size -= begin
        while size and (data := content.read(min(size, PIECE_BYTES))):
            size -= len(data)
            yield data
        if size:
            raise IntegrityError("a file of the store is cut short", where=f"{item.path} ({item.checksum})")

    def _head(
        self, kind: EntryType, path: str, mode: int, uid: int, gid: int, size: int, xattrs: Xattrs, target: str = ""
    ) -> bytes:
        return entry_head(
            kind, path, mode=mode, uid=uid, gid=gid, size=size, target=target, xattrs=xattrs, time_s=self.time_s
        )

    # --- the walk

    def _items(self, start: str) -> Iterator[_Item]:
        """Gives every path in its order, from that of a mark on; ``""`` is the root, where all begins.

        Raises:
            NotFound: there is no such path: the mark is of another tree.
        """
        if not start:
            below = self.below
            if below is None or below.meta != self.meta:
                yield _Item("", self.tree, self.meta)
            stack = [iter(self._listed(self.tree, "", below.tree if below is not None else None))]
        else:
            stack = self._stack_at(start)
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
                continue
            yield item
            if item.meta is not None:
                check_depth(len(stack), item.path)
                stack.append(iter(self._listed(item.checksum, item.path, item.below)))

    def _stack_at(self, start: str) -> list[Iterator[_Item]]:
        stack: list[Iterator[_Item]] = []
        tree, prefix = self.tree, ""
        below = self.below.tree if self.below is not None else None
        while True:
            items = self._listed(tree, prefix, below)
            first, slash, rest = start[len(prefix) :].partition("/")
            wanted = prefix + first + slash
            index = next((index for index, item in enumerate(items) if item.path == wanted), None)
            if index is None:
                raise NotFound("a mark leads nowhere", where=start)
            if not rest:
                stack.append(iter(items[index:]))
                return stack
            check_depth(len(stack), start)
            stack.append(iter(items[index + 1 :]))
            tree, prefix, below = items[index].checksum, wanted, items[index].below

    def _listed(self, tree: Checksum, prefix: str, below: Checksum | None) -> list[_Item]:
        entries = self.repo.load_dirtree(tree)
        if below is None:
            files = (_Item(prefix + name, checksum, None) for name, checksum in entries.files)
            dirs = (_Item(f"{prefix}{name}/", inner, meta) for name, inner, meta in entries.dirs)
            return list(chain(files, dirs))
        if below == tree:
            return []
        lower = self.repo.load_dirtree(below)
        old_files = dict(lower.files)
        old_dirs = {name: (inner, meta) for name, inner, meta in lower.dirs}
        there = {name for name, _ in entries.files} | {name for name, _, _ in entries.dirs}
        gone = sorted((old_files.keys() | old_dirs.keys()) - there, key=str.encode)
        return [
            *(_Item(f"{prefix}{WHITEOUT}{name}", Checksum(""), None) for name in gone),
            *(_Item(prefix + name, new, None) for name, new in entries.files if old_files.get(name) != new),
            *(
                _Item(f"{prefix}{name}/", inner, meta, old_dirs[name][0] if name in old_dirs else None)
                for name, inner, meta in entries.dirs
                if old_dirs.get(name) != (inner, meta)
            ),
        ]


def _check(path: str, xattrs: Xattrs) -> None:
    if WHITEOUT in path and path.rstrip("/").rpartition("/")[2].startswith(WHITEOUT):
        raise InvalidInput("a name that would be a whiteout in an image", where=f"/{path}", hint="rename the file")
    for name, _ in xattrs:
        if b"=" in name:
            raise Unsupported(f"an attribute that no archive can hold: {name!r}", where=f"/{path}")


class PieceReader(io.RawIOBase):
    """Pieces of bytes as a file that is read front to back."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Tells that it can be read."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Returns up to `size` bytes, or all that are left."""
        if self.closed:
            raise ValueError("read of closed file")
        if size < 0:
            rest = b"".join([self._piece, *self._pieces])
            self._piece = memoryview(b"")
            return rest
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        data, self._piece = bytes(self._piece[:size]), self._piece[size:]
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fills the beginning of a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Ends the reading."""
        closing = getattr(self._pieces, "close", None)
        if closing is not None:
            closing()
        super().close()
