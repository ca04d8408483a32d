"""Durable writes: a file is either the old one or the new one, also after a power cut.

The one recipe: temporary file in the same directory, write, fsync, rename, fsync of the directory. What is
*not* promised: that two files change together; make one file the point of truth instead.

Budget: nothing is imported that the interpreter has not imported already, as every start of a container writes state.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import Conflict, NoSpace, NotPermitted, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    Place = str | os.PathLike[str]

_FILE_TYPE, _REGULAR, _LINK = 0o170000, 0o100000, 0o120000
"""S_IFMT, S_IFREG and S_IFLNK of inode(7), without the import of stat."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def map_os_error(error: OSError, what: str, *, where: object = None) -> WherryError:
    """Returns the Wherry error for an `OSError`, for callers at a seam to raise `from` it."""
    if error.errno in _FULL:
        return NoSpace(f"{what}: no space left", where=where, hint="free some space, then try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{what}: {os.strerror(error.errno)}", where=where)
    return WherryError(f"{what}: {error.strerror or error}", where=where)


def fsync_dir(path: Place) -> None:
    """Makes the entries of a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class replacing:  # noqa: N801 a context manager, read as a verb
    """A file to write that becomes `path`, durably, when the block ends well, and vanishes when not.

    Args:
        path: the file to make or to replace.
        mode: its permission bits.

    Raises:
        NoSpace: the disk is full; `path` is as it was.
        Conflict: there is something at `path` that is no file, such as a device.
    """

    def __init__(self, path: Place, *, mode: int = 0o644) -> None:
        self._path = os.fspath(path)
        self._mode = mode
        self._temporary = _beside(self._path)

    def __enter__(self) -> BinaryIO:
        _check_replaceable(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.fdopen(os.open(self._temporary, flags, self._mode), "wb")
        except OSError as error:
            raise map_os_error(error, "cannot write", where=self._path) from error
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._file as file:
                if error is None:
                    file.flush()
                    os.fchmod(file.fileno(), self._mode)
                    os.fsync(file.fileno())
            if error is None:
                os.replace(self._temporary, self._path)
                fsync_dir(os.path.dirname(self._path) or ".")
                return
        except OSError as failure:
            _unlink(self._temporary)
            raise map_os_error(failure, "cannot write", where=self._path) from failure
        except BaseException:
            _unlink(self._temporary)
            raise
        _unlink(self._temporary)
        if isinstance(error, OSError):
            raise map_os_error(error, "cannot write", where=self._path) from error


def _check_replaceable(path: str) -> None:
    """Refuses to put a file in the place of a device, a pipe or a folder: for root, /dev/null would be gone."""
    try:
        kind = os.lstat(path).st_mode & _FILE_TYPE
    except OSError:
        return  # making it says what is wrong
    if kind not in (_REGULAR, _LINK):
        raise Conflict("not a file, and so it is not replaced", where=path, hint="name a file")


def write_file(path: Place, data: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` with `data` durably.

    Raises:
        NoSpace: the disk is full; `path` is as it was.
    """
    with replacing(path, mode=mode) as file:
        file.write(data)


def make_dirs(path: Place, *, mode: int = 0o755) -> None:
    """Makes a directory and its parents, durably; nothing happens when it is there."""
    missing: list[str] = []
    current = os.fspath(path)
    while not os.path.isdir(current):
        missing.append(current)
        current = os.path.dirname(current.rstrip("/")) or "."
    for directory in reversed(missing):
        try:
            os.mkdir(directory, mode)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise WherryError("cannot make directory: something else is there", where=directory) from None
        except OSError as error:
            raise map_os_error(error, "cannot make directory", where=directory) from error
        fsync_dir(os.path.dirname(directory.rstrip("/")) or ".")


def replace_symlink(path: Place, target: str) -> None:
    """Points the symbolic link `path` at `target` durably, in one step."""
    temporary = _beside(os.fspath(path))
    os.symlink(target, temporary)
    os.replace(temporary, path)
    fsync_dir(os.path.dirname(os.fspath(path)) or ".")


def remove_file(path: Place) -> None:
    """Removes a file durably; nothing happens when it is not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    fsync_dir(os.path.dirname(os.fspath(path)) or ".")


def _beside(path: str) -> str:
    """Returns a name for a temporary file in the same directory."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.urandom(6).hex()}.tmp")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
