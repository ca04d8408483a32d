"""Waiting for changes of files and directories without looking again and again: inotify(7).

What it says is a hint: events may be merged, and a queue that overflows says so in a record of its own, so whoever is
woken looks for itself what is there now.
Source: include/uapi/linux/inotify.h of Linux 6.12; inotify(7).
"""

from __future__ import annotations

import os

from wherry.linux.libc import function
from wherry.linux.quick_ctypes import c_char_p, c_int, c_uint32

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000

_QUEUE_BYTES = 16384
"""Room for many records; one is at most 16 bytes and a name of 256."""

_inotify_init1 = function("inotify_init1", c_int)
_inotify_add_watch = function("inotify_add_watch", c_int, c_char_p, c_uint32)


def inotify_init1() -> int:
    """Returns a descriptor that becomes readable when something watched has changed; never blocks, closed on exec."""
    return _inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)


def inotify_add_watch(fd: int, path: str | bytes | os.PathLike[str], mask: int) -> int:
    """Watches a file or directory for ``IN_*``; returns the watch's number.

    Raises:
        OSError: there is no such path; ENOSPC: this user has as many watches as it may.
    """
    return _inotify_add_watch(fd, os.fsencode(path), mask)


def drain(fd: int) -> None:
    """Reads away all that is waiting, for callers who look for themselves what has changed."""
    try:
        while os.read(fd, _QUEUE_BYTES):
            pass
    except BlockingIOError:
        pass
