"""Reading a tar or cpio archive into a tree, as ``--tree=tar=`` wants it.

The archive is a file tree, not an image layer (for that see ``image/layers.py``): a directory must come before what is
in it, symbolic links on the way to a file are not followed, whiteouts are files like others. Hard links may come in
any order. Devices and fifos are refused, as are names with ``..``.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.store.format.objects import DirMeta, FileHeader
from wherry.store.tree.compression import Readable, decompressed
from wherry.store.tree.cpio import MAGICS, CpioReader
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import EntryType, TarEntry, TarReader

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_SMALL_BYTES = 1024 * 1024
_DEFAULT_MODE = stat.S_IFDIR | 0o755
_TYPE_BITS = {EntryType.FILE: stat.S_IFREG, EntryType.SYMLINK: stat.S_IFLNK}
_TELL_EVERY = 256


def import_archive(
    repo: Repository,
    builder: TreeBuilder,
    stream: BinaryIO,
    *,
    modifier: Modifier,
    where: object,
    autocreate_parents: bool = False,
    rename: Callable[[str], str] | None = None,
    progress: Progress = QUIET,
) -> None:
    """Lays an archive over a tree, within a transaction.

    Args:
        repo: where the files are written.
        builder: the tree.
        stream: the archive, plain or compressed with gzip, xz, zstd or bzip2.
        modifier: how it is changed on the way; see ``modifier.for_repo``.
        where: the archive's name, for errors.
        autocreate_parents: make directories that the archive lacks: mode 0755, owned by what is in them.
        rename: called with each path, without a slash in front, hard links' targets too.
        progress: is told how many files are done.

    Raises:
        InvalidInput: malformed, or a name that cannot be stored.
        IntegrityError: cut short, or damaged.
        NotFound: a directory is missing, or a hard link's target.
    """
    importer = _Importer(repo, builder, modifier, rename, autocreate_parents=autocreate_parents)
    reader = open_archive(stream, where=where)
    try:
        for count, entry in enumerate(reader, 1):
            importer.take(entry, reader)
            if count % _TELL_EVERY == 0:
                progress.update("committing", count, None, unit="files")
        importer.finish()
    except (InvalidInput, NotFound, Unsupported) as error:
        raise type(error)(error.what, where=error.where or where, hint=error.hint) from error


def open_archive(stream: BinaryIO, *, where: object) -> TarReader | CpioReader:
    """Returns a reader for an archive, whatever its format and compression.

    Raises:
        InvalidInput: it is none.
    """
    plain = _Peeking(decompressed(stream, where=where))
    first = plain.first(len(MAGICS[0]))
    if first in MAGICS:
        return CpioReader(plain, where=where)
    return TarReader(plain, where=where, sparse=True, needs_end=bool(first))


class _Peeking:
    """A stream whose first bytes may be looked at before it is read."""

    def __init__(self, inner: Readable) -> None:
        self._inner = inner
        self._buffer = b""

    def first(self, size: int) -> bytes:
        while len(self._buffer) < size and (piece := self._inner.read(size - len(self._buffer))):
            self._buffer += piece
        return self._buffer

    def read(self, size: int, /) -> bytes:
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        return self._inner.read(size)


class _Importer:
    def __init__(
        self,
        repo: Repository,
        builder: TreeBuilder,
        modifier: Modifier,
        rename: Callable[[str], str] | None,
        *,
        autocreate_parents: bool,
    ) -> None:
        self._repo = repo
        self._builder = builder
        self._modifier = modifier
        self._rename = rename
        self._autocreate = autocreate_parents
        self._links: list[tuple[str, str]] = []

    def take(self, entry: TarEntry, reader: TarReader | CpioReader) -> None:
        """Lays one entry over the tree."""
        path = self._path(entry.name)
        if self._modifier.skips(f"/{path}"):
            return
        if entry.type is EntryType.DIRECTORY:
            self._directory(path, entry)
        elif entry.type is EntryType.HARD_LINK:
            self._parent(path, entry)
            self._links.append((path, self._path(entry.target)))
        elif entry.type in _TYPE_BITS:
            self._parent(path, entry)
            header = FileHeader(
                uid=entry.uid,
                gid=entry.gid,
                mode=_TYPE_BITS[entry.type] | (0o777 if entry.type is EntryType.SYMLINK else entry.mode),
                symlink_target=entry.target,
                xattrs=entry.xattrs,
            )
            content = reader.read_all() if entry.size <= _SMALL_BYTES else cast(BinaryIO, reader)
            self._builder.add_file(path, self._modifier.file(header, f"/{path}"), content)
        else:
            raise Unsupported(
                f'Unsupported file type for path "/{path}": a {entry.type.value}',
                hint="leave it out with --skip-list",
            )

    def finish(self) -> None:
        """Makes the hard links, and a root if there is none."""
        for path, target in self._links:
            self._builder.hardlink(path, target)
        root = self._builder.root
        if root.meta is None and self._autocreate:
            root.meta = self._modifier.directory(DirMeta(), "/")

    def _directory(self, path: str, entry: TarEntry) -> None:
        if path:
            self._parent(path, entry)
        meta = DirMeta(uid=entry.uid, gid=entry.gid, mode=stat.S_IFDIR | entry.mode, xattrs=entry.xattrs)
        self._builder.mkdir(path, self._modifier.directory(meta, f"/{path}"))

    def _parent(self, path: str, entry: TarEntry) -> None:
        """Sees that the directory above a path is there."""
        parent = path.rpartition("/")[0]
        if self._builder.root.meta is not None and isinstance(self._builder.lookup(parent), DirMeta):
            return
        if not self._autocreate:
            raise NotFound(
                f"No such file or directory: the archive has {path!r} before its directory",
                hint="--tar-autocreate-parents makes missing directories",
            )
        meta = DirMeta(uid=entry.uid, gid=entry.gid, mode=_DEFAULT_MODE)
        if self._builder.root.meta is None:
            self._builder.root.meta = meta
        parts = parent.split("/") if parent else []
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            if not self._builder.exists(above):
                self._builder.mkdir(above, meta)

    def _path(self, name: str) -> str:
        """Returns a name as a path below the root."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        path = "/".join(parts)
        if self._rename is not None:
            path = "/".join(part for part in self._rename(path).split("/") if part not in ("", "."))
        if ".." in path.split("/"):
            raise InvalidInput(f"Invalid '..' in a name of the archive: {name[:200]!r}")
        return path
