"""Reading a directory on disk into a tree in memory, its files handed to a writer on the way.

A directory is read relative to open directories, never through a symbolic link. Owners, modes, extended attributes
and contents count, times and hard links do not. Refused: devices, pipes and sockets (OSTree has no place for them),
names and link targets that are not UTF-8, trees nested too deeply.

Two ways around reading a file: it is a hard link to an object that is there (``Shortcuts.known``), or it is to be
consumed and can become the object itself (``Shortcuts.adopt``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.store.disk import files
from wherry.store.format import objects
from wherry.store.format.objects import DirMeta, FileHeader, Xattrs, check_name
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import Node, ObjectWriter, check_target
from wherry.store.tree.walk import check_depth

_INLINE_BYTES = 64 * 1024
"""Files up to this are read by the walking thread itself: handing one over costs more than reading it."""
_MAX_WAITING = 64
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Inode = tuple[int, int]
"""st_dev, st_ino."""
Names = dict[str, Any]
"""Names in a directory, each with those below it; nothing below files."""


@dataclass(slots=True, kw_only=True)
class Shortcuts:
    """What need not be read and written."""

    known: Mapping[Inode, Checksum] = field(default_factory=dict)
    """The file objects of the repository, by inode."""
    header_of: Callable[[Checksum], FileHeader] | None = None
    """Returns the header of a known object."""
    trust_known: bool = False
    """Take the object for the file as it is, whatever its owner and mode on disk, and whatever the modifier says."""
    adopt: Callable[[int, os.stat_result, FileHeader, FileHeader], Checksum | None] | None = None
    """Called with an open file, its status, its header on disk and the one wanted; None: it must be copied."""
    hits: int = 0


class Consumed:
    """What was read of a directory, to be removed when it is safe elsewhere.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: Names = {}

    def remove(self) -> None:
        """Removes all that was read, and the directory itself unless it is the working directory.

        Raises:
            OSError: something has come into it meanwhile, or the file system says no.
        """
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove(fd, self.names)
        finally:
            os.close(fd)
        if str(self._path) != ".":
            os.rmdir(self._path)


def _remove(fd: int, names: Names) -> None:
    for name, below in names.items():
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            child = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                _remove(child, below)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=fd)


def read_directory(
    writer: ObjectWriter,
    path: Path,
    modifier: Modifier,
    *,
    shortcuts: Shortcuts | None = None,
    consumed: Consumed | None = None,
    progress: Progress = QUIET,
) -> Node:
    """Hands all files below `path` to `writer`.

    Args:
        writer: takes the files; directories are for the caller to write (``tree.write_node``).
        path: the directory.
        modifier: how it is changed on the way.
        shortcuts: what need not be read.
        consumed: is told what was read.
        progress: is told how many files are done.

    Returns:
        The tree.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        reader = _Reader(writer, modifier, pool, path, shortcuts or Shortcuts(), progress)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                node = reader.read(fd, "/", 0, consumed.names if consumed is not None else None)
            finally:
                os.close(fd)
            reader.settle()
            return node
        except OSError as error:
            pool.shutdown(wait=True, cancel_futures=True)
            raise map_os_error(error, "cannot read the directory", where=error.filename or path) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class _Reader:
    def __init__(
        self,
        writer: ObjectWriter,
        modifier: Modifier,
        pool: ThreadPoolExecutor,
        base: Path,
        shortcuts: Shortcuts,
        progress: Progress,
    ) -> None:
        self._writer = writer
        self._modifier = modifier
        self._pool = pool
        self._base = base
        self._shortcuts = shortcuts
        self._progress = progress
        self._links: dict[Inode, Checksum | Future[Checksum]] = {}
        self._pending: list[tuple[Node, str, Future[Checksum]]] = []
        self._settled = 0
        self._done = 0

    def read(self, fd: int, path: str, depth: int, consumed: Names | None) -> Node:
        """Reads an open directory; `path` is its own, ending in a slash."""
        check_depth(depth, path)
        node = Node(self._modifier.directory(self._meta(fd), path.rstrip("/") or "/"))
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in sorted(names, key=os.fsencode):
            full = path + name
            below: Names = {}
            if consumed is not None:
                consumed[name] = below
            if self._modifier.skips(full):
                if consumed is not None:
                    _note_all(fd, name, below, depth)
                continue
            try:
                check_name(name)
            except InvalidInput:
                check_name(name, where=self._where(full))
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                child = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    node.dirs[name] = self.read(child, f"{full}/", depth + 1, below if consumed is not None else None)
                finally:
                    os.close(child)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                self._file(node, fd, name, full, status)
            elif not self._modifier.skip_special:
                raise InvalidInput(
                    "Not a regular file or symlink, nor a directory",
                    where=self._where(full),
                    hint="remove it, or leave it out with --skip-list",
                )
        return node

    def settle(self, keep: int = 0) -> None:
        """Waits for files that are still on their way, but for the last `keep`."""
        end = len(self._pending) - keep
        for node, name, future in self._pending[self._settled : end]:
            node.files[name] = future.result()
        self._settled = max(self._settled, end)
        if not keep:
            self._pending.clear()
            self._settled = 0

    def _file(self, node: Node, fd: int, name: str, full: str, status: os.stat_result) -> None:
        self._done += 1
        if self._done % 256 == 0:
            self._progress.update("committing", self._done, None, unit="files")
        inode = (status.st_dev, status.st_ino)
        found = self._known(inode, full) or self._linked(inode, status)
        if found is None:
            if stat.S_ISLNK(status.st_mode):
                found = self._write_symlink(fd, name, full, status)
            else:
                file_fd = os.open(name, _FILE, dir_fd=fd)
                if status.st_size <= _INLINE_BYTES:
                    found = self._write_regular(file_fd, full)
                else:
                    found = self._pool.submit(self._write_regular, file_fd, full)
            if status.st_nlink > 1:
                self._links[inode] = found
        if isinstance(found, str):
            node.files[name] = found
        else:
            self._pending.append((node, name, found))
            if len(self._pending) - self._settled >= _MAX_WAITING:  # keeps the number of open files down
                self.settle(keep=_MAX_WAITING // 2)

    def _known(self, inode: Inode, full: str) -> Checksum | None:
        """Returns the object that a file is a hard link to, when that is what would be committed."""
        shortcuts = self._shortcuts
        checksum = shortcuts.known.get(inode)
        if checksum is None:
            return None
        if not shortcuts.trust_known:
            if shortcuts.header_of is None:
                return None
            header = shortcuts.header_of(checksum)
            wanted = self._modifier.file(header, full)
            if wanted is not header:
                return None
        shortcuts.hits += 1
        return checksum

    def _linked(self, inode: Inode, status: os.stat_result) -> Checksum | Future[Checksum] | None:
        """Returns what another link to the same file became."""
        if status.st_nlink > 1 and not self._modifier.statoverride:
            return self._links.get(inode)
        return None

    def _write_regular(self, fd: int, full: str) -> Checksum:
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput("changed while it was read", where=self._where(full))
            there, wanted = self._headers(status, full, fd, "")
            adopt = self._shortcuts.adopt
            if adopt is not None:
                checksum = adopt(fd, status, there, wanted)
                if checksum is not None:
                    return checksum
            if status.st_size <= _INLINE_BYTES:
                return self._writer.write_file(wanted, _read_small(fd, status.st_size))
            with os.fdopen(fd, "rb", buffering=0, closefd=False) as file:
                return self._writer.write_file(wanted, file)
        finally:
            os.close(fd)

    def _write_symlink(self, fd: int, name: str, full: str, status: os.stat_result) -> Checksum:
        target = os.readlink(name, dir_fd=fd)
        check_target(target, self._where(full))
        _, wanted = self._headers(status, full, Path(f"/proc/self/fd/{fd}/{name}"), target)
        return self._writer.write_file(wanted, None)

    def _headers(
        self, status: os.stat_result, full: str, place: int | Path, target: str
    ) -> tuple[FileHeader, FileHeader]:
        """Returns a file's header as it is, and as it is committed.

        A hard link to an object of a bare-user repository is what the object says it is: its owner is not on the inode.
        """
        known = self._shortcuts.known.get((status.st_dev, status.st_ino))
        if known is not None and self._shortcuts.header_of is not None:
            header = self._shortcuts.header_of(known)
        else:
            xattrs: Xattrs = ()
            if not self._modifier.leaves_xattrs_out:
                xattrs = files.read_xattrs(place, follow=isinstance(place, int))
            header = FileHeader(
                uid=status.st_uid, gid=status.st_gid, mode=status.st_mode, symlink_target=target, xattrs=xattrs
            )
        return header, self._modifier.file(header, full)

    def _meta(self, fd: int) -> DirMeta:
        status = os.fstat(fd)
        xattrs = () if self._modifier.leaves_xattrs_out else files.read_xattrs(fd)
        return DirMeta(uid=status.st_uid, gid=status.st_gid, mode=status.st_mode, xattrs=xattrs)

    def _where(self, full: str) -> str:
        return f"{self._base}{full}".encode(errors="backslashreplace").decode()


def _read_small(fd: int, size: int) -> bytes:
    """Reads a file to its end, in one go unless it has grown."""
    data = os.read(fd, size + 1)
    while len(data) > size and (more := os.read(fd, _INLINE_BYTES)):
        data += more
    return data


def _note_all(fd: int, name: str, names: Names, depth: int) -> None:
    """Notes all that lies below what was left out."""
    check_depth(depth, name)
    try:
        child = os.open(name, _DIRECTORY, dir_fd=fd)
    except OSError:
        return
    try:
        for entry in os.listdir(child):
            below: Names = {}
            names[entry] = below
            _note_all(child, entry, below, depth + 1)
    finally:
        os.close(child)


def file_checksum(path: Path, *, ignore_xattrs: bool = False) -> Checksum:
    """Returns the checksum that a file, a symbolic link or a directory's dirmeta has as an object.

    Raises:
        InvalidInput: it is neither a file, a symbolic link nor a directory.
    """
    try:
        status = os.lstat(path)
        xattrs = () if ignore_xattrs else files.read_xattrs(path, follow=False)
        if stat.S_ISDIR(status.st_mode):
            meta = DirMeta(uid=status.st_uid, gid=status.st_gid, mode=status.st_mode, xattrs=xattrs)
            return objects.metadata_checksum(objects.serialize_dirmeta(meta))
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        header = FileHeader(
            uid=status.st_uid, gid=status.st_gid, mode=status.st_mode, symlink_target=target, xattrs=xattrs
        )
        objects.check_file_mode(status.st_mode, where=path)
        if target:
            return objects.file_checksum(header)
        with open(path, "rb", buffering=0) as file:
            return objects.file_checksum(header, file)
    except OSError as error:
        raise map_os_error(error, "cannot read a file", where=path) from error
