"""Block devices: how large they are, what is thrown away on them, and the table that is read anew.

Source: include/uapi/linux/fs.h of Linux 6.12; sd(4).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from wherry.linux.libc import ioctl_number

_NONE, _READ = 0, 2
_SIZE_T = struct.calcsize("N")
_BLOCK = chr(0x12)
_BLKRRPART = ioctl_number(_NONE, _BLOCK, 95, 0)
_BLKFLSBUF = ioctl_number(_NONE, _BLOCK, 97, 0)
_BLKSSZGET = ioctl_number(_NONE, _BLOCK, 104, 0)
_BLKGETSIZE64 = ioctl_number(_READ, _BLOCK, 114, _SIZE_T)
_BLKDISCARD = ioctl_number(_NONE, _BLOCK, 119, 0)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)


def size_bytes(fd: int) -> int:
    """Returns how large a block device is."""
    answer = fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8))
    return int(struct.unpack("=Q", answer)[0])


def sector_bytes(fd: int) -> int:
    """Returns the logical sector of a block device: what direct reads and writes are multiples of."""
    answer = fcntl.ioctl(fd, _BLKSSZGET, bytes(4))
    return int(struct.unpack("=i", answer)[0])


def discard(fd: int, offset: int, length: int) -> bool:
    """Tells a device that a range is not needed any more; what is read there afterwards is not promised.

    Returns:
        Whether it took notice.
    """
    try:
        fcntl.ioctl(fd, _BLKDISCARD, struct.pack("=QQ", offset, length))
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return False
        raise
    return True


def drop_cache(fd: int) -> None:
    """Writes out what the kernel holds of a file or device and forgets it, so that the next read is of the medium."""
    os.fsync(fd)
    try:
        fcntl.ioctl(fd, _BLKFLSBUF)
    except OSError as error:
        if error.errno not in (*_NOT_SUPPORTED, errno.EACCES, errno.EPERM):
            raise
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def read_table(fd: int) -> bool:
    """Makes the kernel read the partition table of a disk anew.

    Returns:
        Whether it did: not where something uses a partition, or the device has none.
    """
    try:
        fcntl.ioctl(fd, _BLKRRPART)
    except OSError as error:
        if error.errno in (errno.EBUSY, *_NOT_SUPPORTED):
            return False
        raise
    return True
