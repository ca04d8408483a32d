"""fs-verity: has the kernel check every read of a file against one digest (Linux 5.4; ext4, f2fs, btrfs).

Two ioctls on an open file. A file that has verity can never be written again, only replaced or unlinked.
Source: fsverity.rst of the kernel's documentation; include/uapi/linux/fsverity.h of Linux 6.12.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from wherry.linux.libc import ioctl_number

FS_VERITY_HASH_ALG_SHA256 = 1
BLOCK_BYTES = 4096
DIGEST_BYTES = 32

_WRITE, _READ_WRITE = 1, 3
_VERSION = 1
_ENABLE = struct.Struct("=IIIIQIIQ88x")
_DIGEST_HEAD = struct.Struct("=HH")
_FS_IOC_ENABLE_VERITY = ioctl_number(_WRITE, "f", 133, _ENABLE.size)
_FS_IOC_MEASURE_VERITY = ioctl_number(_READ_WRITE, "f", 134, _DIGEST_HEAD.size)
_NOT_HERE = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)


def enable(fd: int) -> bool:
    """Turns verity on: SHA-256, blocks of 4096 bytes, no salt, no signature.

    Args:
        fd: open for reading only; nobody may have the file open for writing.

    Returns:
        False when this file system or this kernel has no verity; True also when it was on before.

    Raises:
        OSError: ETXTBSY when somebody writes to it, EACCES, ENOSPC and others.
    """
    argument = _ENABLE.pack(_VERSION, FS_VERITY_HASH_ALG_SHA256, BLOCK_BYTES, 0, 0, 0, 0, 0)
    try:
        fcntl.ioctl(fd, _FS_IOC_ENABLE_VERITY, argument)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return True
        if error.errno in _NOT_HERE:
            return False
        raise
    return True


def measure(fd: int) -> bytes | None:
    """Returns the SHA-256 digest that the kernel checks a file against; None when it checks none, or another kind.

    Raises:
        OSError: the kernel could not say.
    """
    buffer = bytearray(_DIGEST_HEAD.pack(0, DIGEST_BYTES) + bytes(DIGEST_BYTES))
    try:
        fcntl.ioctl(fd, _FS_IOC_MEASURE_VERITY, buffer)
    except OSError as error:
        if error.errno in (*_NOT_HERE, errno.ENODATA, errno.EOVERFLOW):
            return None
        raise
    algorithm, size = _DIGEST_HEAD.unpack_from(buffer)
    if algorithm != FS_VERITY_HASH_ALG_SHA256 or size != DIGEST_BYTES:
        return None
    return bytes(buffer[_DIGEST_HEAD.size :])


def enable_path(path: str | os.PathLike[str]) -> bool:
    """Turns verity on for a file by its name; see `enable`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return enable(fd)
    finally:
        os.close(fd)
