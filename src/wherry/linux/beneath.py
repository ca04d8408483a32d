"""Paths below a root that is not trusted: openat2(2), so that no symbolic link in it leads out.

`open_in_root` resolves as if the directory were the root of the system, which is what a path in an image means;
``..`` and absolute links stop at it. Links of procfs ("magic links") are refused. There is no fallback by
looking first and opening then, as that can be raced: a kernel without openat2 (before 5.6) is refused.
Source: openat2(2); include/uapi/linux/openat2.h.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import InvalidInput, Unsupported
from wherry.linux.libc import system_call
from wherry.linux.quick_ctypes import Structure, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, sizeof

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

MAX_LINKS = 40
"""How many links to missing places are followed when a path is made; the kernel's own limit of a resolution."""
MAX_PARTS = 256
"""How many parts a path may have that is made."""
_RETRIES = 256


class _OpenHow(Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


_openat2 = system_call("openat2", c_int, c_char_p, c_void_p, c_size_t)


def openat2(dir_fd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Opens `path`, relative to `dir_fd`, under rules of resolution: openat2(2). Closed on exec.

    Raises:
        Unsupported: the kernel, or a filter around this process, has no openat2.
        OSError: as of open(2); EXDEV or ELOOP when a rule was broken.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    name = os.fsencode(path)
    for _ in range(_RETRIES):
        try:
            return _openat2(dir_fd, name, byref(how), sizeof(how))
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise Unsupported(
                    "this kernel cannot resolve paths in images safely (no openat2)", hint="boot Linux 5.6 or newer"
                ) from None
            if error.errno != errno.EAGAIN:
                # EAGAIN: something was renamed or mounted meanwhile, so that the kernel cannot be sure.
                raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
    raise _restless(path)


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, mode: int = 0, no_symlinks: bool = False) -> int:
    """Opens `path` as a process would whose root directory is `root_fd`.

    Args:
        root_fd: the root.
        path: a path in it; a leading slash may be there or not.
        flags: as of open(2).
        mode: of a file that is made.
        no_symlinks: refuse (ELOOP) any symbolic link on the way.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (RESOLVE_NO_SYMLINKS if no_symlinks else 0)
    return openat2(root_fd, path or ".", flags, mode=mode, resolve=resolve)


def open_beneath(dir_fd: int, path: str, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """Opens `path` below `dir_fd`; anything that would lead out of it, absolute links too, is refused (EXDEV)."""
    return openat2(dir_fd, path, flags, mode=mode, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def make_directory(root_fd: int, path: str, *, mode: int = 0o755) -> int:
    """Opens the directory `path` in the root, and makes it and its parents where they are missing.

    A link to a place that is missing is followed inside the root, and the place made. Each directory is made below a
    descriptor of its parent, never by a path, so that whoever exchanges a part of the way meanwhile can have it made
    elsewhere in the root only.

    Returns:
        an O_PATH file descriptor.

    Raises:
        InvalidInput: parts of it are missing, and it has ``..`` or too many parts.
        OSError: ENOTDIR, ELOOP and so on, as of open(2).
    """
    return _directory(root_fd, path, mode, MAX_LINKS)


def make_file(root_fd: int, path: str, *, mode: int = 0o644, follow_symlinks: bool = True) -> int:
    """Opens the file `path` in the root, and makes an empty one, and its parents, where it is missing.

    What is there may be anything but a directory; it is not opened for reading or writing, so a FIFO does not block.

    Args:
        root_fd: the root.
        path: a path in it.
        mode: of a file that is made, before the umask.
        follow_symlinks: whether a symbolic link at the end of the path is followed, or is itself what is meant.

    Returns:
        an O_PATH file descriptor.
    """
    links_left = MAX_LINKS
    for _ in range(_RETRIES):
        try:
            return open_in_root(root_fd, path, os.O_PATH | (0 if follow_symlinks else os.O_NOFOLLOW))
        except FileNotFoundError:
            if links_left == 0:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        parent, _, name = path.strip("/").rpartition("/")
        parent_fd = _directory(root_fd, parent, 0o755, links_left)
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=parent_fd))
        except FileExistsError:
            link = _read_link(parent_fd, name)
            if link is not None:
                path, links_left = _beside(parent, link), links_left - 1
        finally:
            os.close(parent_fd)
    raise _restless(path)


def _directory(root_fd: int, path: str, mode: int, links_left: int) -> int:
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput("a path to be made in a container has no '..'", where=path)
    if len(parts) > MAX_PARTS:
        raise InvalidInput(f"a path to be made in a container has at most {MAX_PARTS} parts", where=path[:64] + "...")
    fd = open_in_root(root_fd, "/", os.O_PATH | os.O_DIRECTORY)
    for count, name in enumerate(parts, start=1):
        here = "/".join(parts[:count])
        try:
            following, links_left = _one(root_fd, fd, here, name, mode, links_left)
        finally:
            os.close(fd)
        fd = following
    return fd


def _one(root_fd: int, parent_fd: int, here: str, name: str, mode: int, links_left: int) -> tuple[int, int]:
    """Opens the directory `here`, which is `name` below `parent_fd`, and makes it where it is missing."""
    for _ in range(_RETRIES):
        try:
            return open_in_root(root_fd, here, os.O_PATH | os.O_DIRECTORY), links_left
        except FileNotFoundError:
            if links_left == 0:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here) from None
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            link = _read_link(parent_fd, name)
            if link is not None:
                links_left -= 1
                return _directory(root_fd, _beside(here.rpartition("/")[0], link), mode, links_left), links_left
    raise _restless(here)


def _restless(path: str | bytes) -> OSError:
    return OSError(errno.EAGAIN, "the tree keeps changing", os.fsdecode(path))


def _read_link(dir_fd: int, name: str) -> str | None:
    """Returns where the dangling link `name` points; None when it is a link no more, as somebody replaced it."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _beside(parent: str, link: str) -> str:
    """Returns the path, from the root, that a link in `parent` means, with ``..`` taken away by its text.

    The text is enough as the link's target is missing; what is made is inside the root in any case.
    """
    parts = [] if link.startswith("/") else parent.split("/")
    for part in link.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
