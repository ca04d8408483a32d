"""Putting one file of a commit into an open directory: linked, copied, made, or taken away (whiteouts)."""

from __future__ import annotations

import errno
import io
import os
import stat
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.store.disk import files
from wherry.store.disk.files import OSTREEMETA, UNCOMPRESSED_CACHE
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType, object_name
from wherry.store.tree.checkout import Options, Union, remove_tree

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from wherry.store.repository import Repository

WHITEOUT = ".wh."
PASSTHROUGH_WHITEOUT = ".ostree-wh."
_CHUNK_BYTES = 1024 * 1024
_PARALLEL_BYTES = 256 * 1024
"""Files from this on are copied by other threads."""
_MAX_WAITING = 16
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_SOURCE_MODES = {True: (Mode.BARE_USER, Mode.BARE_USER_ONLY), False: (Mode.BARE,)}
"""User mode of the checkout, to the modes of repositories whose files may be linked to."""


class Placer:
    """Puts files of one repository into directories; used with ``with``, since copies may be on their way.

    Args:
        repo: where the objects are.
        options: of the checkout.
    """

    def __init__(self, repo: Repository, options: Options) -> None:
        self._repo = repo
        self._options = options
        self._user = options.user_mode
        self._refusal: Unsupported | None = None
        self._sources = self._link_sources()
        self._cache = _Cache(repo) if self._wants_cache() else None
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: list[Future[None]] = []
        self.links = 0
        self.copies = 0

    def __enter__(self) -> Placer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._waiting:
                future.result()
            if self._cache is not None:
                self._cache.clean()

    def place(self, fd: int, name: str, checksum: Checksum, where: str) -> None:
        """Puts one file into an open directory.

        Args:
            fd: the directory.
            name: of the file in it.
            checksum: the object.
            where: the path, for errors.

        Raises:
            Conflict: something is in the way.
            NotFound: the object is not there.
        """
        if self._options.whiteouts and name.startswith(WHITEOUT) and self._is_regular(checksum):
            remove_tree(fd, _hidden(name, WHITEOUT, where))
            return
        if self._options.passthrough_whiteouts and name.startswith(PASSTHROUGH_WHITEOUT):
            header = self._repo.load_file_header(checksum)
            if not header.is_symlink:
                self._device(fd, _hidden(name, PASSTHROUGH_WHITEOUT, where), header, where)
                return
        if self._refusal is not None:
            self._check_refusal(checksum)
        if self._link(fd, name, checksum, where):
            return
        header, content = self._repo.load_file(checksum)
        if content is None:
            self._symlink(fd, name, header, where)
            return
        keep = False
        try:
            if self._cache is not None and self._link_through_cache(fd, name, checksum, header, content, where):
                return
            keep = self._copy(fd, name, checksum, header, content, where)
        finally:
            if not keep:
                content.close()

    # --- hard links

    def _link_sources(self) -> list[tuple[str, Mode]]:
        """Returns where objects lie that may be linked to: those of this repository and of its parents."""
        found: list[tuple[str, Mode]] = []
        current: Any = self._repo
        while current is not None:
            if current.mode in _SOURCE_MODES[self._user]:
                found.append((str(current.objects_dir), current.mode))
            elif self._options.require_hardlinks and self._refusal is None:
                self._refusal = Unsupported(_not_linkable(current.mode), where=current.path)
            current = getattr(current, "parent", None)
        return [] if self._options.force_copy else found

    def _check_refusal(self, checksum: Checksum) -> None:
        """Refuses a file that should be linked and cannot be; those that never are linked are let through.

        Raises:
            Unsupported: it is such a file.
        """
        _, content = self._repo.load_file(checksum)
        if content is None:
            linked = self._repo.mode is not Mode.BARE_USER
        else:
            with content:
                linked = bool(content.read(1))
        if linked and self._refusal is not None:
            raise self._refusal

    def _wants_cache(self) -> bool:
        options = self._options
        return (
            options.cache
            and options.user_mode
            and not options.force_copy
            and self._repo.mode is Mode.ARCHIVE
            and self._repo.config.get_bool("core", "enable-uncompressed-cache", True)
        )

    def _link(self, fd: int, name: str, checksum: Checksum, where: str) -> bool:
        """Makes a hard link; False when it must be a copy or a symbolic link instead."""
        for folder, mode in self._sources:
            source = f"{folder}/{object_name(ObjectType.FILE, checksum, mode)}"
            try:
                if not self._may_link(mode, source):
                    return False
                return self._link_to(source, fd, name, checksum, where)
            except FileNotFoundError:
                continue
        if self._cache is not None:
            source = self._cache.path(checksum)
            try:
                return self._link_to(source, fd, name, checksum, where)
            except FileNotFoundError:
                pass
        return False

    def _link_to(self, source: str, fd: int, name: str, checksum: Checksum, where: str) -> bool:
        try:
            os.link(source, name, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            if self._stays(fd, name, checksum, where, source):
                return True
            temporary = _temporary_name()
            os.link(source, temporary, dst_dir_fd=fd, follow_symlinks=False)
            self._replace(fd, temporary, name, where)
        except OSError as error:
            if error.errno in _NO_LINK and not self._options.require_hardlinks:
                return False
            raise
        self.links += 1
        return True

    def _may_link(self, kept: Mode, source: str) -> bool:
        """Whether a link to the object is the file itself.

        OSTree copies what is empty, and in user mode what its owner may not read; and in a bare-user repository the
        object of a symbolic link is a file.
        """
        status = os.lstat(source)
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            return True
        if kept is Mode.BARE_USER:
            mode = int.from_bytes(os.getxattr(source, OSTREEMETA)[8:12], "big")
            if stat.S_ISLNK(mode):
                return False
        return status.st_size > 0 and (not self._user or bool(mode & stat.S_IRUSR))

    def _link_through_cache(
        self, fd: int, name: str, checksum: Checksum, header: FileHeader, content: BinaryIO, where: str
    ) -> bool:
        if not header.mode & stat.S_IRUSR or not content.peek(1):  # type: ignore[attr-defined]
            return False
        assert self._cache is not None  # noqa: S101 asked before
        source = self._cache.add(checksum, header, content)
        if not source:
            raw = self._repo.load_file(checksum)[1]
            assert raw is not None  # noqa: S101 it is no symbolic link
            with raw:
                self._copy(fd, name, checksum, header, raw, where, wait=True)
            return True
        if self._link_to(source, fd, name, checksum, where):
            return True
        with open(source, "rb", buffering=0) as cached:
            self._copy(fd, name, checksum, header, cached, where, wait=True)
        return True

    # --- what is there already

    def _stays(self, fd: int, name: str, checksum: Checksum, where: str, source: str = "") -> bool:
        """Decides about a file that is there: True leaves it, False replaces it.

        Raises:
            Conflict: it is in the way.
        """
        union = self._options.union
        if union is Union.ADD:
            return True
        if union is Union.FILES:
            return False
        if union is Union.IDENTICAL and (_same_inode(fd, name, source) or self._identical(fd, name, checksum)):
            return True
        raise Conflict("File exists: a different file is in the way", where=where)

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
                if not self._user and not self._same_owner(status, theirs, header):
                    return False
                while True:
                    ours = content.read(_CHUNK_BYTES)
                    if ours != file.read(len(ours) or 1):
                        return False
                    if not ours:
                        return True

    def _same_owner(self, status: os.stat_result, fd: int, header: FileHeader) -> bool:
        if (status.st_uid, status.st_gid) != (header.uid, header.gid):
            return False
        return self._repo.disable_xattrs or files.read_xattrs(fd) == objects.sorted_xattrs(header.xattrs)

    def _replace(self, fd: int, temporary: str, name: str, where: str) -> None:
        try:
            if self._options.whiteouts:
                remove_tree(fd, name)
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except IsADirectoryError:
            raise Conflict("File exists: a directory is in the way of a file", where=where) from None
        finally:
            # rename(2) of two links to one file does nothing and leaves both names.
            remove_tree(fd, temporary)

    # --- making files

    def _mode(self, header: FileHeader) -> int:
        mode = stat.S_IMODE(header.mode)
        return mode & ~(stat.S_ISUID | stat.S_ISGID) | stat.S_IRUSR if self._user else mode

    def _symlink(self, fd: int, name: str, header: FileHeader, where: str) -> None:
        target = name
        try:
            os.symlink(header.symlink_target, name, dir_fd=fd)
        except FileExistsError:
            union = self._options.union
            if union is Union.ADD:
                return
            existing = os.stat(name, dir_fd=fd, follow_symlinks=False)
            same = stat.S_ISLNK(existing.st_mode) and os.readlink(name, dir_fd=fd) == header.symlink_target
            if union is Union.IDENTICAL and same:
                return
            if union is not Union.FILES:
                raise Conflict("File exists: it is in the way of a symbolic link", where=where) from None
            target = _temporary_name()
            os.symlink(header.symlink_target, target, dir_fd=fd)
        if not self._user:
            os.chown(target, header.uid, header.gid, dir_fd=fd, follow_symlinks=False)
            for key, value in header.xattrs:
                os.setxattr(f"/proc/self/fd/{fd}/{target}", os.fsdecode(key), value, follow_symlinks=False)
        os.utime(target, ns=(0, 0), dir_fd=fd, follow_symlinks=False)
        if target != name:
            self._replace(fd, target, name, where)
        self.copies += 1

    def _copy(
        self, fd: int, name: str, checksum: Checksum, header: FileHeader, content: BinaryIO, where: str,
        *, wait: bool = False,
    ) -> bool:  # fmt: skip
        """Copies a file; True when another thread goes on with `content`."""
        union = self._options.union
        if union is not Union.NONE and _exists(fd, name) and self._stays(fd, name, checksum, where):
            return False
        temporary = _temporary_name() if union is not Union.NONE else name
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(temporary, flags, 0o600, dir_fd=fd)
        except FileExistsError:
            raise Conflict("File exists: it is in the way of a file", where=where) from None
        self.copies += 1
        if temporary == name and not wait and self._is_large(content):
            self._hand_over(out, header, content)
            return True
        try:
            self._write(out, header, content)
            if temporary != name:
                self._replace(fd, temporary, name, where)
        except BaseException:
            remove_tree(fd, temporary)
            raise
        return False

    def _is_large(self, content: BinaryIO) -> bool:
        if isinstance(content, io.BufferedReader):  # of an archive, this one or a parent
            return len(content.peek(_PARALLEL_BYTES)) >= _PARALLEL_BYTES
        return os.fstat(content.fileno()).st_size >= _PARALLEL_BYTES

    def _hand_over(self, out: int, header: FileHeader, content: BinaryIO) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # a tree of small files, or of links, needs none

            self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._write_and_close, out, header, content))

    def _write_and_close(self, out: int, header: FileHeader, content: BinaryIO) -> None:
        with content:
            self._write(out, header, content)

    def _write(self, out: int, header: FileHeader, content: BinaryIO) -> None:
        with os.fdopen(out, "wb", buffering=0) as file:
            _copy_content(content, file)
            if not self._user:
                os.fchown(out, header.uid, header.gid)
                for key, value in header.xattrs:
                    os.setxattr(out, os.fsdecode(key), value)
            os.fchmod(out, self._mode(header))
            os.utime(out, ns=(0, 0))

    # --- whiteouts

    def _is_regular(self, checksum: Checksum) -> bool:
        return not self._repo.load_file_header(checksum).is_symlink

    def _device(self, fd: int, name: str, header: FileHeader, where: str) -> None:
        """Makes overlayfs' whiteout, the character device 0:0."""
        mode = stat.S_IMODE(header.mode)
        target = name
        if _exists(fd, name):
            union = self._options.union
            if union is Union.ADD or (union is Union.IDENTICAL and self._is_whiteout(fd, name, header)):
                return
            if union is not Union.FILES:
                raise Conflict("File exists: it is in the way of a whiteout", where=where)
            target = _temporary_name()
        os.mknod(target, stat.S_IFCHR | mode, 0, dir_fd=fd)
        if not self._user:
            place = f"/proc/self/fd/{fd}/{target}"
            for key, value in header.xattrs:
                os.setxattr(place, os.fsdecode(key), value, follow_symlinks=False)
            os.chown(target, header.uid, header.gid, dir_fd=fd, follow_symlinks=False)
            os.chmod(place, mode)
        if target != name:
            self._replace(fd, target, name, where)
        self.copies += 1

    def _is_whiteout(self, fd: int, name: str, header: FileHeader) -> bool:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev:
            return False
        ours = (header.uid, header.gid, stat.S_IMODE(header.mode))
        return self._user or ours == (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


class _Cache:
    """``uncompressed-objects-cache`` of an archive: plain files, one link of each here, the others in checkouts."""

    def __init__(self, repo: Repository) -> None:
        self._base = f"{repo.path}/{UNCOMPRESSED_CACHE}"
        self._touched: set[str] = set()
        self._usable = True

    def path(self, checksum: Checksum) -> str:
        """Returns where a file lies, or would lie."""
        return f"{self._base}/{object_name(ObjectType.FILE, checksum, Mode.BARE)}"

    def add(self, checksum: Checksum, header: FileHeader, content: BinaryIO) -> str:
        """Unpacks a file; returns where it lies, "" when the repository cannot be written."""
        path = self.path(checksum)
        folder = os.path.dirname(path)
        if not self._usable:
            return ""
        temporary = f"{folder}/{_temporary_name()}"
        try:
            os.makedirs(folder, 0o755, exist_ok=True)
            with open(temporary, "xb", buffering=0) as file:
                _copy_pieces(content, file)
                os.fchmod(file.fileno(), stat.S_IMODE(header.mode) & ~(stat.S_ISUID | stat.S_ISGID))
                os.utime(file.fileno(), ns=(0, 0))
            os.replace(temporary, path)
        except OSError as error:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC):
                raise
            self._usable = False
            return ""
        self._touched.add(folder)
        return path

    def clean(self) -> None:
        """Removes files that no checkout has any more, from the folders to which some were added."""
        for folder in self._touched:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        if entry.stat(follow_symlinks=False).st_nlink == 1:
                            os.unlink(entry.path)
                    except FileNotFoundError:
                        continue


def _not_linkable(mode: Mode) -> str:
    if mode in (Mode.BARE_USER, Mode.BARE_USER_ONLY):
        return "User repository mode requires user checkout mode to hardlink (--user-mode)"
    if mode is Mode.BARE:
        return "Bare repository mode cannot hardlink in user checkout mode"
    return "files of an archive cannot be hard-linked: they are compressed"


def _hidden(name: str, prefix: str, where: str) -> str:
    """Returns the name that a whiteout is about."""
    hidden = name.removeprefix(prefix)
    if hidden in ("", ".", ".."):
        raise InvalidInput(f"Invalid empty whiteout {name!r}", where=where)
    return hidden


def _temporary_name() -> str:
    return f".wherry-{os.urandom(6).hex()}.tmp"


def _same_inode(fd: int, name: str, source: str) -> bool:
    if not source:
        return False
    ours, theirs = os.lstat(source), os.stat(name, dir_fd=fd, follow_symlinks=False)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _copy_content(content: BinaryIO, out: Any) -> None:
    """Copies to the end; within the kernel, sharing extents, where both are files and the file system can."""
    try:
        source = content.fileno()
        while os.copy_file_range(source, out.fileno(), 1 << 30):
            pass
    except OSError as error:
        if isinstance(error, ValueError) or error.errno in _NO_COPY_RANGE or error.errno is None:
            _copy_pieces(content, out)
            return
        raise


def _copy_pieces(content: BinaryIO, out: Any) -> None:
    while piece := content.read(_CHUNK_BYTES):
        view = memoryview(piece)
        while view:
            view = view[out.write(view) :]  # an unbuffered file may take less


def _exists(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
