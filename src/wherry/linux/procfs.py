"""A procfs of one's own to write settings through, which nobody else can have put anything over.

What a runtime writes below /proc (sysctls, ``oom_score_adj``, ``attr/exec``) decides what a container may do. A
mount or link there, planted by another container that shares mounts with this one, would send the write elsewhere: to a
file that does nothing, or to ``/proc/sysrq-trigger`` (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881). So a new
instance of procfs is mounted nowhere and used by its descriptor; where that is refused (in some user namespaces), /proc
is taken after its root is checked, and no mount and no link is crossed on the way to a file.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.linux import x
from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2
from wherry.linux.process import file_system_type

PROC_SUPER_MAGIC = 0x9FA0
_PROC_ROOT_INO = 1
_MAX_READ_BYTES = 1 << 16
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
_REFUSED = (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


def open_procfs() -> int:
    """Opens the root of a procfs of this process's pid namespace.

    ``self`` in it is this process, and ``sys/net`` belongs to its network namespace.

    Returns:
        a file descriptor, closed on exec; the caller's to close.

    Raises:
        OSError: EIO when what is at /proc is not the root of a procfs.
    """
    try:
        return x.new_mount("proc", source="proc", options=(), attributes=0)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if file_system_type(fd) != PROC_SUPER_MAGIC or os.fstat(fd).st_ino != _PROC_ROOT_INO:
        os.close(fd)
        raise OSError(errno.EIO, "this is not the kernel's /proc", "/proc")
    return fd


def open_file(procfs_fd: int, path: str, flags: int) -> int:
    """Opens a file of a procfs, by a path relative to its root, and makes sure that it is one of the kernel's.

    Raises:
        OSError: EXDEV or ELOOP when a mount or a link of something else is in the way; ENOENT and so on as of open(2).
    """
    fd = openat2(procfs_fd, path, flags, resolve=_RESOLVE)
    if file_system_type(fd) != PROC_SUPER_MAGIC or not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EIO, "this is not a file of the kernel's /proc", path)
    return fd


def write(procfs_fd: int, path: str, data: bytes) -> None:
    """Writes a setting at once, as procfs wants it.

    Args:
        procfs_fd: from `open_procfs`.
        path: relative to its root: ``self/oom_score_adj``, ``sys/net/ipv4/ip_forward``.
        data: what is written.
    """
    fd = open_file(procfs_fd, path, os.O_WRONLY)
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"/proc/{path}") from None
    finally:
        os.close(fd)


def read(procfs_fd: int, path: str) -> bytes:
    """Returns what one reading of a file of a procfs gives, up to 64 KiB."""
    fd = open_file(procfs_fd, path, os.O_RDONLY)
    try:
        return os.read(fd, _MAX_READ_BYTES)
    finally:
        os.close(fd)
