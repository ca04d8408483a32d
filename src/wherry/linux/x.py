"""Mounting by file descriptors: the calls of Linux 5.2 (open_tree, move_mount, fsopen) and 5.12 (mount_setattr).

One thin function per call. A mount made here exists on no path until `attach` puts it somewhere, so there is no
moment in which a half-made mount can be seen. What an older kernel needs instead is in ``xcompat.py``.
Source: include/uapi/linux/mount.h, fcntl.h of Linux 6.12; the manual pages of each call (man-pages 6.11).
"""

from __future__ import annotations

import os

from wherry.linux.libc import system_call
from wherry.linux.quick_ctypes import Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p, sizeof

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSCONFIG_CMD_RECONFIGURE = 7

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

MAX_STRING_BYTES = 255
"""How long a value of fsconfig(2) may be; longer ones need mount(2), whose data have a page."""
_MAX_MESSAGE_BYTES = 1024


class _MountAttr(Structure):
    _fields_ = [
        ("attr_set", c_uint64),
        ("attr_clr", c_uint64),
        ("propagation", c_uint64),
        ("userns_fd", c_uint64),
    ]


_open_tree = system_call("open_tree", c_int, c_char_p, c_uint)
_move_mount = system_call("move_mount", c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = system_call("fsopen", c_char_p, c_uint)
_fspick = system_call("fspick", c_int, c_char_p, c_uint)
_fsconfig = system_call("fsconfig", c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = system_call("fsmount", c_int, c_uint, c_uint)
_mount_setattr = system_call("mount_setattr", c_int, c_char_p, c_uint, c_void_p, c_size_t)


def open_tree(
    path: str | bytes, *, dir_fd: int = AT_FDCWD, recursive: bool = False, follow_symlinks: bool = True
) -> int:
    """Copies the mount at `path`, as a bind mount would, without putting it anywhere.

    Args:
        path: its place; "" means `dir_fd` itself.
        dir_fd: where a relative path begins.
        recursive: copy the mounts below it too.
        follow_symlinks: where the last part is a symbolic link, copy what it leads to rather than the link.

    Returns:
        a file descriptor of the copy, closed on exec; the copy goes away with it unless it was attached.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    return _open_tree(dir_fd, os.fsencode(path), flags | (0 if follow_symlinks else AT_SYMLINK_NOFOLLOW))


def new_mount(fstype: str, *, source: str | None, options: tuple[str, ...], attributes: int) -> int:
    """Makes a file system instance and a mount of it that is nowhere yet: fsopen, fsconfig, fsmount.

    Args:
        fstype: the type of the file system.
        source: what stands in the first column of mountinfo; a device for those that need one.
        options: the file system's own, ``key=value`` or ``key``, and those that every one has (``ro``, ``sync``).
        attributes: ``MOUNT_ATTR_*``.

    Returns:
        a file descriptor of the mount, closed on exec.

    Raises:
        OSError: the kernel refuses; the message holds what the file system said about it.
    """
    context = _fsopen(fstype.encode(), FSOPEN_CLOEXEC)
    try:
        try:
            if source is not None:
                _fsconfig(context, _FSCONFIG_SET_STRING, b"source", os.fsencode(source), 0)
            _configure(context, options)
            _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0)
            return _fsmount(context, FSMOUNT_CLOEXEC, attributes)
        except OSError as error:
            raise _explained(error, context, fstype) from None
    finally:
        os.close(context)


def reconfigure(fd: int, options: tuple[str, ...]) -> None:
    """Changes options of the file system whose mount `fd` is open on, wherever it is mounted: fspick(2).

    Raises:
        OSError: the kernel refuses; the message holds what the file system said about it.
    """
    context = _fspick(fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
    try:
        try:
            _configure(context, options)
            _fsconfig(context, _FSCONFIG_CMD_RECONFIGURE, None, None, 0)
        except OSError as error:
            raise _explained(error, context, "remount") from None
    finally:
        os.close(context)


def _configure(context: int, options: tuple[str, ...]) -> None:
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            _fsconfig(context, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
        else:
            _fsconfig(context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)


def _explained(error: OSError, context: int, what: str) -> OSError:
    """Returns the error with what the file system logged about it: ``tmpfs: Unknown parameter 'x'``."""
    try:
        said = os.read(context, _MAX_MESSAGE_BYTES).decode(errors="replace").strip().removeprefix("e ")
    except OSError:
        said = ""
    return OSError(error.errno, f"{error.strerror} ({said})" if said else error.strerror, what)


def attach(mount_fd: int, target_fd: int) -> None:
    """Puts a mount onto the file or directory that `target_fd` (O_PATH) is open on: move_mount(2)."""
    _move_mount(mount_fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(
    fd: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int | None = None,
) -> None:
    """Changes the attributes of the mount that `fd` is open on: mount_setattr(2), Linux 5.12.

    Args:
        fd: open on the root of the mount; also of one that is nowhere yet.
        attr_set: ``MOUNT_ATTR_*`` to set.
        attr_clr: to clear; an access-time mode is cleared by ``MOUNT_ATTR__ATIME`` as a whole.
        propagation: one of ``MS_PRIVATE``, ``MS_SLAVE``, ``MS_SHARED``, ``MS_UNBINDABLE``, or 0 for no change.
        recursive: the mounts below it too.
        userns_fd: a user namespace by whose maps the owners of files are shown: the mount becomes id-mapped, which
            it can only while it is nowhere yet.
    """
    if attr_set & MOUNT_ATTR__ATIME:
        attr_clr |= MOUNT_ATTR__ATIME
    if userns_fd is not None:
        attr_set |= MOUNT_ATTR_IDMAP
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd or 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _mount_setattr(fd, b"", flags, byref(attr), sizeof(attr))
