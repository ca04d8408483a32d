"""Making commits: from a tree that is written already, or from a directory on disk.

A directory is read relative to open directories, never through a symbolic link. Owners, modes, extended attributes
and contents count, times and hard links do not. Refused: devices, pipes and sockets (OSTree has no place for them),
names and link targets that are not UTF-8, trees nested too deeply.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import files, objects, refs
from wherry.store.objects import Commit, DirMeta, DirTree, FileHeader, ObjectType, Xattrs, check_name
from wherry.store.tree import check_target
from wherry.store.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository

REF_BINDING = "ostree.ref-binding"
_INLINE_BYTES = 64 * 1024
"""Files up to this are read by the walking thread itself: handing one over costs more than reading it."""
_MAX_WAITING = 64


def commit_tree(
    repo: Repository,
    tree: Checksum,
    meta: Checksum,
    *,
    timestamp_s: int,
    subject: str = "",
    body: str = "",
    parent: Checksum | None = None,
    metadata: Mapping[str, Any] | None = None,
    ref: Ref | None = None,
    bind_ref: bool = True,
) -> Checksum:
    """Writes a commit and, when it is durable, moves a ref to it.

    Args:
        repo: where.
        tree: dirtree of the root.
        meta: dirmeta of the root.
        timestamp_s: seconds since 1970.
        subject: one line.
        body: the rest.
        parent: the commit before it.
        metadata: plain values or Variants (see ``variant.from_plain``), written in this order.
        ref: the ref to move.
        bind_ref: whether the commit says which ref it was made for (``ostree.ref-binding``).

    Returns:
        Its checksum; the same inputs give the same one.
    """
    values = dict(metadata or {})
    if bind_ref and ref is not None:
        values.setdefault(REF_BINDING, [ref])
    commit = Commit(
        tree=tree, meta=meta, timestamp_s=timestamp_s, subject=subject, body=body, parent=parent, metadata=values
    )
    if ref is not None:
        refs.parse_ref(ref)
    with repo.transaction() as transaction:
        checksum = transaction.write_metadata(ObjectType.COMMIT, objects.serialize_commit(commit))
        reach("store.commit.written")
        if ref is not None:
            transaction.set_ref(ref, checksum)
    return checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Modifier:
    """How what is found on disk is changed on its way into a commit."""

    canonical_permissions: bool = False
    """Owner 0:0; of the mode only 0755 stays, and no extended attributes, as with ``ostree``."""
    owner_uid: int | None = None
    owner_gid: int | None = None
    no_xattrs: bool = False
    skip: Callable[[str], bool] | None = None
    """Called with each path below the root, like ``/usr/bin/sh``; True leaves it out."""
    skip_special: bool = False
    """Leave out devices, pipes and sockets instead of refusing them."""
    statoverride: Mapping[str, tuple[bool, int]] | None = None
    """Permission bits by path, like ``/usr/bin/su``: whether they replace those that are there, or are added."""

    @property
    def leaves_xattrs_out(self) -> bool:
        """Whether no extended attributes are committed."""
        return self.no_xattrs or self.canonical_permissions

    def owner(self, status: os.stat_result) -> tuple[int, int]:
        """Returns uid and gid as they are committed."""
        uid = self.owner_uid if self.owner_uid is not None else 0 if self.canonical_permissions else status.st_uid
        gid = self.owner_gid if self.owner_gid is not None else 0 if self.canonical_permissions else status.st_gid
        return uid, gid

    def mode(self, mode: int, path: str) -> int:
        """Returns a mode as it is committed."""
        if self.canonical_permissions and not stat.S_ISLNK(mode):
            mode &= stat.S_IFMT(mode) | 0o755
        if self.statoverride and path in self.statoverride:
            replaces, bits = self.statoverride[path]
            mode = (stat.S_IFMT(mode) if replaces else mode) | bits
        return mode


def commit_directory(
    repo: Repository,
    path: Path,
    *,
    timestamp_s: int,
    ref: Ref | None = None,
    subject: str = "",
    body: str = "",
    parent: Checksum | None = None,
    metadata: Mapping[str, Any] | None = None,
    bind_ref: bool = True,
    canonical_permissions: bool = False,
    owner_uid: int | None = None,
    owner_gid: int | None = None,
    no_xattrs: bool = False,
    skip: Callable[[str], bool] | None = None,
    skip_special: bool = False,
    progress: Progress = QUIET,
) -> Checksum:
    """Commits a directory as it lies on disk.

    Args:
        repo: where.
        path: the directory that becomes the root.
        timestamp_s: seconds since 1970.
        ref: the ref to move.
        subject: one line.
        body: the rest.
        parent: the commit before it.
        metadata: see ``commit_tree``.
        bind_ref: see ``commit_tree``.
        canonical_permissions: see ``Modifier``; always so in a bare-user-only repository.
        owner_uid: owner of everything.
        owner_gid: group of everything.
        no_xattrs: leave extended attributes out.
        skip: see ``Modifier``.
        skip_special: see ``Modifier``.
        progress: is told how many files are done.

    Returns:
        The commit's checksum.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
        NoSpace: the disk is full, or would be; nothing stays.
    """
    modifier = Modifier(
        canonical_permissions=canonical_permissions,
        owner_uid=owner_uid,
        owner_gid=owner_gid,
        no_xattrs=no_xattrs,
        skip=skip,
        skip_special=skip_special,
    )
    with repo.transaction():
        tree, meta = write_directory(repo, path, modifier, progress=progress)
        return commit_tree(
            repo,
            tree,
            meta,
            timestamp_s=timestamp_s,
            subject=subject,
            body=body,
            parent=parent,
            metadata=metadata,
            ref=ref,
            bind_ref=bind_ref,
        )


def write_directory(
    repo: Repository, path: Path, modifier: Modifier | None = None, *, progress: Progress = QUIET
) -> tuple[Checksum, Checksum]:
    """Writes all files and directories below `path` as objects.

    Returns:
        Dirtree and dirmeta of `path`.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
    """
    modifier = modifier or Modifier()
    if repo.mode is objects.Mode.BARE_USER_ONLY:
        modifier = replace(modifier, canonical_permissions=True)
    if repo.disable_xattrs:
        modifier = replace(modifier, no_xattrs=True)
    with repo.transaction() as transaction:
        return hash_directory(transaction, path, modifier, progress=progress)


class ObjectWriter(Protocol):
    """A transaction, or what stands in its place to compute checksums only."""

    def write_file(self, header: FileHeader, source: bytes | BinaryIO | None = None, /) -> Checksum:
        """Takes a file; returns its checksum."""

    def write_metadata(self, kind: ObjectType, data: bytes, /) -> Checksum:
        """Takes a dirtree or dirmeta; returns its checksum."""


def hash_directory(
    writer: ObjectWriter, path: Path, modifier: Modifier, *, progress: Progress = QUIET
) -> tuple[Checksum, Checksum]:
    """Hands all files and directories below `path` to `writer`; see ``write_directory``."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        reader = _DirectoryReader(writer, modifier, pool, path, progress)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                directory = reader.read(fd, "/", 0)
            finally:
                os.close(fd)
            return directory.write(writer)
        except OSError as error:
            pool.shutdown(wait=True, cancel_futures=True)
            raise map_os_error(error, "cannot read the directory", where=error.filename or path) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class _Directory:
    """A directory whose large files may still be on their way."""

    def __init__(self, meta: Checksum) -> None:
        self._meta = meta
        self.files: list[tuple[str, Checksum | Future[Checksum]]] = []
        self.dirs: list[tuple[str, _Directory]] = []

    def write(self, writer: ObjectWriter) -> tuple[Checksum, Checksum]:
        """Waits for the files and writes the dirtree; returns it and the dirmeta."""
        tree = DirTree(
            files=tuple((name, item if isinstance(item, str) else item.result()) for name, item in self.files),
            dirs=tuple((name, *below.write(writer)) for name, below in self.dirs),
        )
        data = objects.serialize_dirtree(tree)
        return writer.write_metadata(ObjectType.DIRTREE, data), self._meta


class _DirectoryReader:
    def __init__(
        self, writer: ObjectWriter, modifier: Modifier, pool: ThreadPoolExecutor, base: Path, progress: Progress
    ) -> None:
        self._writer = writer
        self._modifier = modifier
        self._pool = pool
        self._base = base
        self._progress = progress
        self._links: dict[tuple[int, int], Checksum | Future[Checksum]] = {}
        self._metas: dict[DirMeta, Checksum] = {}
        self._waiting: list[Future[Checksum]] = []
        self._done = 0

    def read(self, fd: int, path: str, depth: int) -> _Directory:
        """Reads an open directory; `path` is its own, ending in a slash."""
        check_depth(depth, path)
        directory = _Directory(self._write_meta(fd, path))
        names = []
        with os.scandir(fd) as entries:
            for entry in entries:
                names.append(entry.name)
        skip = self._modifier.skip
        for name in sorted(names, key=os.fsencode):
            full = path + name
            if skip is not None and skip(full):
                continue
            check_name(name, where=self._where(full))
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                try:
                    directory.dirs.append((name, self.read(below, f"{full}/", depth + 1)))
                finally:
                    os.close(below)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                directory.files.append((name, self._file(fd, name, full, status)))
            elif not self._modifier.skip_special:
                raise InvalidInput(
                    "neither a regular file, a symbolic link nor a directory",
                    where=self._where(full),
                    hint="remove it, or leave it out with --skip-list",
                )
        return directory

    def _file(self, fd: int, name: str, full: str, status: os.stat_result) -> Checksum | Future[Checksum]:
        self._done += 1
        if self._done % 256 == 0:
            self._progress.update("committing", self._done, None, unit="files")
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and not self._modifier.statoverride and key in self._links:
            return self._links[key]
        result: Checksum | Future[Checksum]
        if stat.S_ISLNK(status.st_mode):
            result = self._write_symlink(fd, name, full, status)
        else:
            file_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
            if status.st_size <= _INLINE_BYTES:
                result = self._write_regular(file_fd, full)
            else:
                result = self._pool.submit(self._write_regular, file_fd, full)
                self._wait(result)
        if status.st_nlink > 1:
            self._links[key] = result
        return result

    def _wait(self, future: Future[Checksum]) -> None:
        """Keeps the number of open files down, and fails early."""
        self._waiting.append(future)
        if len(self._waiting) >= _MAX_WAITING:
            for done in self._waiting[: _MAX_WAITING // 2]:
                done.result()
            del self._waiting[: _MAX_WAITING // 2]

    def _write_regular(self, fd: int, full: str) -> Checksum:
        with os.fdopen(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput("changed while it was read", where=self._where(full))
            header = self._header(status, full, "", () if self._modifier.leaves_xattrs_out else files.read_xattrs(fd))
            if status.st_size > _INLINE_BYTES:
                return self._writer.write_file(header, file)
            return self._writer.write_file(header, file.readall())

    def _write_symlink(self, fd: int, name: str, full: str, status: os.stat_result) -> Checksum:
        target = os.readlink(name, dir_fd=fd)
        check_target(target, self._where(full))
        xattrs: Xattrs = ()
        if not self._modifier.leaves_xattrs_out:
            xattrs = files.read_xattrs(Path(f"/proc/self/fd/{fd}/{name}"), follow=False)
        return self._writer.write_file(self._header(status, full, target, xattrs), None)

    def _header(self, status: os.stat_result, full: str, target: str, xattrs: Xattrs) -> FileHeader:
        uid, gid = self._modifier.owner(status)
        mode = self._modifier.mode(status.st_mode, full)
        return FileHeader(uid=uid, gid=gid, mode=mode, symlink_target=target, xattrs=xattrs)

    def _write_meta(self, fd: int, path: str) -> Checksum:
        status = os.fstat(fd)
        uid, gid = self._modifier.owner(status)
        mode = self._modifier.mode(status.st_mode, path.rstrip("/") or "/")
        meta = DirMeta(
            uid=uid, gid=gid, mode=mode, xattrs=() if self._modifier.leaves_xattrs_out else files.read_xattrs(fd)
        )
        if meta not in self._metas:
            data = objects.serialize_dirmeta(meta)
            self._metas[meta] = self._writer.write_metadata(ObjectType.DIRMETA, data)
        return self._metas[meta]

    def _where(self, full: str) -> str:
        return f"{self._base}{full}".encode(errors="backslashreplace").decode()
