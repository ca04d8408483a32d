"""Removing directory trees that somebody else has written: of any depth, never through a link.

A container may leave directories that lie thousands deep in one another. One descriptor and one call for each would be
too many of both, so what lies deeper than `MOST_DEPTH` is first moved up, and removed from there.
"""

from __future__ import annotations

import errno
import os

from wherry.core.durable import map_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    Place = str | os.PathLike[str]

MOST_DEPTH = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Place) -> None:
    """Removes a directory tree without following links; it may be gone, or going, already.

    Raises:
        WherryError: it cannot be removed, as something in it is a mount point or it is no directory.
    """
    try:
        top = os.open(path, _FOLDER)
        try:
            while _empty(top, top, 1):
                pass
        finally:
            os.close(top)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise map_os_error(error, "cannot remove", where=path) from error


def _empty(fd: int, top: int, depth: int) -> bool:
    """Removes what is in a directory; tells whether some of it was moved to the top instead."""
    with os.scandir(f"/proc/self/fd/{fd}") as entries:  # half the calls that the descriptor itself would cost
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    moved = False
    for name, is_dir in names:
        try:
            if not is_dir:
                os.unlink(name, dir_fd=fd)
            elif not _remove_empty(name, fd):
                if depth == MOST_DEPTH:
                    os.rename(name, f".deep-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                    moved = True
                    continue
                inner = os.open(name, _FOLDER, dir_fd=fd)
                try:
                    moved |= _empty(inner, top, depth + 1)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass
    return moved


def _remove_empty(name: str, fd: int) -> bool:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
