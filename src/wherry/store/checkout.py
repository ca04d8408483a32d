"""Laying a commit out as a directory: by hard links to the objects where that is right, by copies elsewhere.

Hard links are made from a bare repository, and from bare-user and bare-user-only ones in user mode, since only then
owner, mode and attributes of the object are those of the file. All is done relative to open directories, and never
through a symbolic link that lies in the destination. The time of everything is 0, so that equal commits give
equal trees.
"""

from __future__ import annotations

import enum
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound, Unsupported
from wherry.store.content import CHUNK_BYTES
from wherry.store.files import OSTREEMETA
from wherry.store.objects import DirMeta, FileHeader, Mode, ObjectType, object_name
from wherry.store.walk import check_depth, lookup

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Union(enum.StrEnum):
    """What happens to what is there already; ``ostree checkout``'s options."""

    NONE = "none"
    """The destination must not be there."""
    FILES = "union"
    """Files are overwritten, directories kept."""
    ADD = "union-add"
    """Files that are there stay."""
    IDENTICAL = "union-identical"
    """A file that is there must be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutStats:
    """What a checkout did."""

    links: int
    copies: int


def checkout(
    repo: Repository,
    commit: Checksum,
    dest: Path,
    *,
    user_mode: bool = False,
    subpath: str = "/",
    union: Union = Union.NONE,
    force_copy: bool = False,
    require_hardlinks: bool = False,
    durable: bool = False,
) -> CheckoutStats:
    """Lays out a commit.

    Args:
        repo: where it lies.
        commit: its checksum.
        dest: the directory to make.
        user_mode: owners and attributes are not set, set-id bits neither; needs no root.
        subpath: the file or directory of the commit to lay out.
        union: what happens to what is there already.
        force_copy: no hard links: files may be changed afterwards.
        require_hardlinks: a file that cannot be linked is an error.
        durable: whether it is on the disk when this returns.

    Returns:
        How many files were linked and copied.

    Raises:
        Conflict: something is in the way.
        NotFound: the commit lacks an object, or `subpath`.
        NoSpace: the disk is full; what was laid out stays.
    """
    found = lookup(repo, commit, subpath)
    worker = _Checkout(repo, user_mode=user_mode, union=union, force_copy=force_copy, require=require_hardlinks)
    try:
        if isinstance(found, tuple):
            worker.root(dest, *found)
        else:
            if union is Union.NONE and os.path.lexists(dest):
                raise Conflict("the destination is there already", where=dest)
            dest.mkdir(mode=0o755, exist_ok=True)
            fd = os.open(dest, _DIRECTORY)
            try:
                worker.file(fd, Path(subpath).name, found, str(dest))
            finally:
                os.close(fd)
        if durable:
            from wherry.linux.syncfs import syncfs

            syncfs(dest)
    except OSError as error:
        raise map_os_error(error, "cannot check out", where=error.filename or dest) from error
    return CheckoutStats(links=worker.links, copies=worker.copies)


class _Checkout:
    def __init__(self, repo: Repository, *, user_mode: bool, union: Union, force_copy: bool, require: bool) -> None:
        self._repo = repo
        self._user = user_mode or repo.mode is Mode.BARE_USER_ONLY
        self._union = union
        self._require = require
        same = repo.mode is Mode.BARE_USER_ONLY or (
            repo.mode is Mode.BARE_USER if user_mode else repo.mode is Mode.BARE
        )
        self._link = same and not force_copy
        if require and not self._link:
            raise Unsupported(
                "files of this repository cannot be hard-linked in this mode of checkout",
                where=repo.path,
                hint="bare-user needs --user-mode, bare must not have it, archive always copies",
            )
        self._metas: dict[Checksum, DirMeta] = {}
        self.links = 0
        self.copies = 0

    def root(self, dest: Path, tree: Checksum, meta: Checksum) -> None:
        """Lays out the top directory."""
        parent = os.open(dest.parent if dest.name else dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._union is Union.NONE and os.path.lexists(dest):
                raise Conflict(
                    "the destination is there already", where=dest, hint="remove it, or use --union or --union-add"
                )
            self._directory(parent, dest.name or ".", tree, meta, 0, str(dest))
        finally:
            os.close(parent)

    def _directory(self, parent: int, name: str, tree: Checksum, meta: Checksum, depth: int, where: str) -> None:
        check_depth(depth, where)
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if self._union is Union.NONE:
                raise Conflict("something is in the way of a directory", where=where) from None
            made = False
        try:
            fd = os.open(name, _DIRECTORY if name != "." else os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise Conflict("a file is in the way of a directory", where=where) from None
            raise
        try:
            entries = self._repo.load_dirtree(tree)
            for entry, checksum in entries.files:
                self.file(fd, entry, checksum, where)
            for entry, subtree, submeta in entries.dirs:
                self._directory(fd, entry, subtree, submeta, depth + 1, f"{where}/{entry}")
            if made or self._union is Union.FILES:
                self._finish_directory(fd, meta)
        finally:
            os.close(fd)

    def _finish_directory(self, fd: int, checksum: Checksum) -> None:
        meta = self._metas.get(checksum)
        if meta is None:
            meta = self._metas[checksum] = self._repo.load_dirmeta(checksum)
        if not self._user:
            os.fchown(fd, meta.uid, meta.gid)
            for name, value in meta.xattrs:
                os.setxattr(fd, os.fsdecode(name), value)
        os.fchmod(fd, stat.S_IMODE(meta.mode))
        os.utime(fd, ns=(0, 0))

    def file(self, fd: int, name: str, checksum: Checksum, where: str) -> None:
        """Lays out one file in an open directory."""
        if self._link and self._try_link(fd, name, checksum, where):
            return
        header, content = self._repo.load_file(checksum)
        try:
            if content is None:
                self._symlink(fd, name, header, where)
            elif self._require:
                raise Unsupported("cannot hard-link across file systems", where=f"{where}/{name}")
            else:
                self._copy(fd, name, header, content, where)
        finally:
            if content is not None:
                content.close()

    def _try_link(self, fd: int, name: str, checksum: Checksum, where: str) -> bool:
        """Makes a hard link; False when it must be a copy or a symbolic link instead."""
        source = f"{self._repo.objects_dir}/{object_name(ObjectType.FILE, checksum, self._repo.mode)}"
        try:
            if not self._may_link(source):
                return False
            os.link(source, name, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            if self._keeps(fd, name, checksum, where):
                return True
            temporary = f".wherry-{os.getpid()}.tmp"
            os.link(source, temporary, dst_dir_fd=fd, follow_symlinks=False)
            self._replace(fd, temporary, name, where)
        except FileNotFoundError:
            raise missing_object(checksum) from None
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                return False
            raise
        self.links += 1
        return True

    def _may_link(self, source: str) -> bool:
        """Whether a link to the object is the file itself.

        In user mode OSTree copies what is empty or not readable by its owner; and in a bare-user repository the object
        of a symbolic link is a file.
        """
        if not self._user:
            return True
        status = os.lstat(source)
        mode = status.st_mode
        if self._repo.mode is Mode.BARE_USER:
            mode = int.from_bytes(os.getxattr(source, OSTREEMETA)[8:12], "big")
            if stat.S_ISLNK(mode):
                return False
        return stat.S_ISLNK(mode) or (status.st_size > 0 and bool(mode & stat.S_IRUSR))

    def _keeps(self, fd: int, name: str, checksum: Checksum, where: str) -> bool:
        """Decides about a file that is there: True leaves it, False replaces it.

        Raises:
            Conflict: it is in the way.
        """
        if self._union is Union.ADD:
            return True
        if self._union is Union.FILES:
            return False
        if self._union is Union.IDENTICAL and self._identical(fd, name, checksum):
            return True
        raise Conflict("a different file is in the way", where=f"{where}/{name}")

    def _identical(self, fd: int, name: str, checksum: Checksum) -> bool:
        header, content = self._repo.load_file(checksum)
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if content is None:
            return stat.S_ISLNK(status.st_mode) and os.readlink(name, dir_fd=fd) == header.symlink_target
        with content:
            if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != self._mode(header):
                return False
            theirs = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            with os.fdopen(theirs, "rb") as file:
                while True:
                    ours = content.read(CHUNK_BYTES)
                    if ours != file.read(len(ours) or 1):
                        return False
                    if not ours:
                        return True

    def _mode(self, header: FileHeader) -> int:
        mode = stat.S_IMODE(header.mode)
        return mode & ~(stat.S_ISUID | stat.S_ISGID) | stat.S_IRUSR if self._user else mode

    def _symlink(self, fd: int, name: str, header: FileHeader, where: str) -> None:
        target = name
        try:
            os.symlink(header.symlink_target, name, dir_fd=fd)
        except FileExistsError:
            if self._union is Union.ADD:
                return
            existing = os.stat(name, dir_fd=fd, follow_symlinks=False)
            same = stat.S_ISLNK(existing.st_mode) and os.readlink(name, dir_fd=fd) == header.symlink_target
            if self._union is Union.IDENTICAL and same:
                return
            if self._union is not Union.FILES:
                raise Conflict("something is in the way of a symbolic link", where=f"{where}/{name}") from None
            target = f".wherry-{os.getpid()}.tmp"
            os.symlink(header.symlink_target, target, dir_fd=fd)
        if not self._user:
            os.chown(target, header.uid, header.gid, dir_fd=fd, follow_symlinks=False)
            for key, value in header.xattrs:
                os.setxattr(f"/proc/self/fd/{fd}/{target}", os.fsdecode(key), value, follow_symlinks=False)
        os.utime(target, ns=(0, 0), dir_fd=fd, follow_symlinks=False)
        if target != name:
            self._replace(fd, target, name, where)
        self.copies += 1

    def _copy(self, fd: int, name: str, header: FileHeader, content: BinaryIO, where: str) -> None:
        if self._union is not Union.NONE and _exists(fd, name):
            if self._union is Union.ADD:
                return
            if self._union is Union.IDENTICAL:
                raise InvalidInput("--union-identical needs files that can be hard-linked", where=f"{where}/{name}")
        temporary = f".wherry-{os.getpid()}.tmp" if self._union is not Union.NONE else name
        try:
            out = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
            )
        except FileExistsError:
            raise Conflict("something is in the way of a file", where=f"{where}/{name}") from None
        try:
            with os.fdopen(out, "wb", buffering=0) as file:
                shutil.copyfileobj(content, file, CHUNK_BYTES)
                if not self._user:
                    os.fchown(out, header.uid, header.gid)
                    for key, value in header.xattrs:
                        os.setxattr(out, os.fsdecode(key), value)
                os.fchmod(out, self._mode(header))
                os.utime(out, ns=(0, 0))
            if temporary != name:
                self._replace(fd, temporary, name, where)
        except BaseException:
            os.unlink(temporary, dir_fd=fd)
            raise
        self.copies += 1

    @staticmethod
    def _replace(fd: int, temporary: str, name: str, where: str) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except IsADirectoryError:
            os.unlink(temporary, dir_fd=fd)
            raise Conflict("a directory is in the way of a file", where=f"{where}/{name}") from None
        finally:
            # rename(2) of two links to one file does nothing and leaves both names.
            if _exists(fd, temporary):
                os.unlink(temporary, dir_fd=fd)


def missing_object(checksum: Checksum) -> NotFound:
    """Returns the error for a file object that should be there."""
    return NotFound("no such object in the repository", where=checksum, hint="pull the commit again")


def _exists(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
