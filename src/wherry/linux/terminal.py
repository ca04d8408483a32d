"""Pseudo-terminals of one devpts instance: both sides without a path that a container could have changed.

The slave side is asked of the master (TIOCGPTPEER, Linux 4.13), so that nothing below /dev/pts is looked up.
Source: pty(7), ioctl_tty(2); include/uapi/asm-generic/ioctls.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
from _struct import calcsize, pack, unpack

from wherry.linux.libc import ioctl_number
from wherry.linux.process import file_system_type

DEVPTS_SUPER_MAGIC = 0x1CD1
_TIOCSCTTY, _TIOCGWINSZ, _TIOCSWINSZ = 0x540E, 0x5413, 0x5414
"""Here, as `termios` is a library of its own to be loaded, and the container's process has no place to load it from."""
_TIOCSPTLCK = ioctl_number(1, "T", 0x31, calcsize("i"))
_TIOCGPTPEER = ioctl_number(0, "T", 0x41, 0)


def open_pair(ptmx_fd: int) -> int:
    """Unlocks the terminal of a freshly opened ``/dev/pts/ptmx`` and opens its slave side.

    Args:
        ptmx_fd: the master side.

    Returns:
        the slave side, closed on exec.

    Raises:
        OSError: ENODEV when `ptmx_fd` is not on devpts.
    """
    if file_system_type(ptmx_fd) != DEVPTS_SUPER_MAGIC:
        raise OSError(errno.ENODEV, "not a devpts file system", "/dev/pts/ptmx")
    fcntl.ioctl(ptmx_fd, _TIOCSPTLCK, pack("i", 0))
    return fcntl.ioctl(ptmx_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_window_size(fd: int, *, rows: int, columns: int) -> None:
    """Sets the size of a terminal, in characters."""
    fcntl.ioctl(fd, _TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))


def window_size(fd: int) -> tuple[int, int]:
    """Returns (rows, columns) of a terminal."""
    rows, columns, _, _ = unpack("HHHH", fcntl.ioctl(fd, _TIOCGWINSZ, bytes(8)))
    return rows, columns


def make_controlling(fd: int) -> None:
    """Makes a terminal the controlling one of this process, which leads a session without one."""
    fcntl.ioctl(fd, _TIOCSCTTY, 0)
