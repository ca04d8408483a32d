"""Sharing extents between files (ioctl_ficlone(2), ioctl_fideduperange(2)): btrfs, XFS, bcachefs, overlays of them.

``FIDEDUPERANGE`` is the careful one: the kernel compares first, and shares only what is equal.
"""

from __future__ import annotations

import fcntl
import os
import struct

_DEDUPE_HEAD = struct.Struct("=QQHHI")
_DEDUPE_INFO = struct.Struct("=qQQiI")
FICLONE = 1 << 30 | 4 << 16 | 0x94 << 8 | 9  # _IOW(0x94, 9, int)
FIDEDUPERANGE = 3 << 30 | _DEDUPE_HEAD.size << 16 | 0x94 << 8 | 54  # _IOWR(0x94, 54, struct file_dedupe_range)
_MAX_DEDUPE_BYTES = 16 * 1024 * 1024
"""Some file systems take no more in one call."""
_SAME = 0


def can_clone(source_fd: int, dest_fd: int) -> bool:
    """Tells whether the file system of two open files can share extents, by cloning one to the other."""
    try:
        fcntl.ioctl(dest_fd, FICLONE, source_fd)
    except OSError:
        return False
    return True


def share_equal(source_fd: int, dest_fd: int, size: int) -> bool:
    """Makes two files of equal content share their extents; those that are not equal stay as they are.

    Args:
        source_fd: open for reading.
        dest_fd: open for writing.
        size: of both, in bytes.

    Returns:
        Whether all is shared now. False also when the contents differ or the file system cannot do it.
    """
    if os.fstat(source_fd).st_size != size or os.fstat(dest_fd).st_size != size:
        return False
    at = 0
    while at < size:
        length = min(size - at, _MAX_DEDUPE_BYTES)
        request = bytearray(_DEDUPE_HEAD.pack(at, length, 1, 0, 0) + _DEDUPE_INFO.pack(dest_fd, at, 0, 0, 0))
        try:
            fcntl.ioctl(source_fd, FIDEDUPERANGE, request)
        except OSError:
            return False
        _, _, done, status, _ = _DEDUPE_INFO.unpack_from(request, _DEDUPE_HEAD.size)
        if status != _SAME or not done:
            return False
        at += done
    return True
