"""Mounting by the classic calls: mount(2), umount2(2), pivot_root(2), with the kernel's flag names.

The file-descriptor calls of Linux 5.2 and newer are in ``x.py``, plans of mounts below a new root in
``mountplan.py``. Paths are given to the kernel as they are: who mounts below a tree that is not trusted opens the
place with ``beneath.py`` first and passes `fd_path`.
Source: include/uapi/linux/mount.h of Linux 6.12.
"""

from __future__ import annotations

import os

from wherry.linux.libc import function, system_call
from wherry.linux.quick_ctypes import c_char_p, c_int, c_ulong

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 0x1
MNT_DETACH = 0x2
MNT_EXPIRE = 0x4
UMOUNT_NOFOLLOW = 0x8

_Path = str | bytes | os.PathLike[str]

_mount = function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = function("umount2", c_char_p, c_int)
_pivot_root = system_call("pivot_root", c_char_p, c_char_p)


def mount(source: _Path | None, target: _Path, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """Mounts a file system: mount(2).

    Args:
        source: the device or directory; None where the call has none.
        target: where; symbolic links in it are followed.
        fstype: the file system's type; None for binds, moves and remounts.
        flags: ``MS_*``.
        data: the file system's own options, with commas.

    Raises:
        OSError: the kernel refuses; its file name is the target.
    """
    try:
        _mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if fstype is None else fstype.encode(),
            flags,
            None if data is None else data.encode(),
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(target)) from None


def umount(target: _Path, flags: int = 0) -> None:
    """Takes the topmost mount at `target` away: umount2(2).

    Raises:
        OSError: the kernel refuses; EINVAL when nothing is mounted there.
    """
    try:
        _umount2(os.fsencode(target), flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(target)) from None


def bind(source: _Path, target: _Path, *, recursive: bool = False) -> None:
    """Makes what is at `source` appear at `target` too; `recursive` takes the mounts below it along."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))


def move(source: _Path, target: _Path) -> None:
    """Moves a mount to another place."""
    mount(source, target, None, MS_MOVE)


def pivot_root(new_root: _Path, put_old: _Path) -> None:
    """Makes `new_root`, a mount point, the root of this mount namespace and puts the old one at `put_old`.

    Both may be ``.``; the old root then lies over the new one and is taken away by ``umount(".", MNT_DETACH)``.
    Source: pivot_root(2), "pivot_root(".", ".")".

    Raises:
        OSError: EINVAL among others when the current root is the initial ramfs.
    """
    _pivot_root(os.fsencode(new_root), os.fsencode(put_old))


def fd_path(fd: int) -> str:
    """Returns a path by which a call without a file descriptor of its own reaches what `fd` is open on."""
    return f"/proc/self/fd/{fd}"
