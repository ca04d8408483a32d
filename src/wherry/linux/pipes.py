"""What is in a pipe, without taking it out: tee(2), FIONREAD; ``os.splice`` moves it on without reading it.

Source: tee(2), splice(2), ioctl_pipe; the interpreter has splice itself, from 3.10 on.
"""

from __future__ import annotations

import fcntl
from _struct import unpack

from wherry.linux.libc import function
from wherry.linux.quick_ctypes import c_int, c_size_t, c_uint

SPLICE_F_NONBLOCK = 2
_FIONREAD = 0x541B

_tee = function("tee", c_int, c_int, c_size_t, c_uint)


def tee(source: int, target: int, count: int) -> int:
    """Copies what is in one pipe into another, where it stays in both; never waits.

    Returns:
        How many bytes: no more than `count`, nor than there is room for.

    Raises:
        BlockingIOError: there is nothing, or no room.
    """
    return _tee(source, target, count, SPLICE_F_NONBLOCK)


def waiting_bytes(fd: int) -> int:
    """Returns how much there is to read in a pipe: FIONREAD."""
    found: int = unpack("i", fcntl.ioctl(fd, _FIONREAD, bytes(4)))[0]
    return found
