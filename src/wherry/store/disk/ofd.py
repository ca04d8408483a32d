"""OSTree's locks: open-file-description locks (fcntl(2), F_OFD_SETLK), so that the real ``ostree`` respects them.

``core.lock`` uses flock(2), which is another world to the kernel; what OSTree shares with others is locked here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Locked

_POLL_S = 0.02
_BUSY = (errno.EAGAIN, errno.EACCES)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Takes a lock on the whole of an open file without waiting; tells whether it was to be had."""
    request = struct.pack("hhqqi", fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def take(path: Path, *, shared: bool = False) -> int | None:
    """Opens and locks a lock file without waiting; the caller closes what is returned.

    Returns:
        The open file, or None when somebody else holds it, or removed it just now.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY, 0o640)
    try:
        if try_lock(fd, shared=shared) and os.fstat(fd).st_nlink:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


@contextmanager
def held(path: Path, *, shared: bool, timeout_s: float, what: str) -> Iterator[None]:
    """Holds a lock file for as long as the block runs.

    Args:
        path: the lock file; made when missing, never removed.
        shared: many may hold it shared, or one alone.
        timeout_s: how long to wait; negative waits for ever.
        what: what the lock guards, for the message.

    Raises:
        Locked: it was not to be had in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fd = take(path, shared=shared)
        except OSError as error:
            raise map_os_error(error, "cannot lock", where=path) from error
        if fd is not None:
            break
        if timeout_s >= 0 and time.monotonic() >= deadline:
            raise Locked(f"{what} is in use by another process", where=path, hint="wait for it to end, then try again")
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(fd)
