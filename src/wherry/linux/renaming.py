"""renameat2(2): a rename that never takes the place of what is there already (Linux 3.15).

rename(2) of a directory replaces an empty one of the same name. Whoever has just looked that one up, to put a file
into it, then finds it dead (ENOENT); `rename_new` leaves it alone.
"""

from __future__ import annotations

import errno
import os

from wherry.linux.libc import system_call
from wherry.linux.quick_ctypes import c_char_p, c_int, c_uint

RENAME_NOREPLACE = 1

_renameat2 = system_call("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)


def rename_new(name: str, source_fd: int, dest_fd: int) -> bool:
    """Moves `name` from one directory to another under the same name, unless something is there.

    Args:
        name: relative to both directories.
        source_fd: the directory that it is in.
        dest_fd: the directory that it goes to.

    Returns:
        Whether it was moved. False where the name is taken, where the two are on different layers of a file system,
        and where the kernel or the file system cannot say so in one step (EINVAL, ENOSYS).

    Raises:
        OSError: as of renameat2(2), for any other reason.
    """
    raw = os.fsencode(name)
    try:
        _renameat2(source_fd, raw, dest_fd, raw, RENAME_NOREPLACE)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True
