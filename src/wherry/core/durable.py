"""Durable writes: a file is either the old one or the new one, also after a power cut.

The one recipe: temporary file in the same directory, write, fsync, rename, fsync of the directory. What is
*not* promised: that two files change together; make one file the point of truth instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from wherry.core.errors import NoSpace, NotPermitted, WherryError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def map_os_error(error: OSError, what: str, *, where: object = None) -> WherryError:
    """Returns the Wherry error for an `OSError`, for callers at a seam to raise `from` it."""
    if error.errno in _FULL:
        return NoSpace(f"{what}: no space left", where=where, hint="free some space, then try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{what}: {os.strerror(error.errno)}", where=where)
    return WherryError(f"{what}: {error.strerror or error}", where=where)


def fsync_dir(path: Path) -> None:
    """Makes the entries of a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Gives a file to write that becomes `path`, durably, when the block ends well, and vanishes when not.

    Args:
        path: the file to make or to replace.
        mode: its permission bits.

    Raises:
        NoSpace: the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise map_os_error(error, "cannot write", where=path) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise map_os_error(error, "cannot write", where=path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replaces `path` with `data` durably.

    Raises:
        NoSpace: the disk is full; `path` is as it was.
    """
    with replacing(path, mode=mode) as file:
        file.write(data)


def make_dirs(path: Path, *, mode: int = 0o755) -> None:
    """Makes a directory and its parents, durably; nothing happens when it is there."""
    missing: list[Path] = []
    current = path
    while not current.is_dir():
        missing.append(current)
        current = current.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=mode, exist_ok=True)
        except OSError as error:
            raise map_os_error(error, "cannot make directory", where=directory) from error
        fsync_dir(directory.parent)


def replace_symlink(path: Path, target: str) -> None:
    """Points the symbolic link `path` at `target` durably, in one step."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    temporary.symlink_to(target)
    os.replace(temporary, path)
    fsync_dir(path.parent)


def remove_file(path: Path) -> None:
    """Removes a file durably; nothing happens when it is not there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    fsync_dir(path.parent)
