"""Filling a fresh tmpfs with what the directory below it holds: the option ``tmpcopyup`` of a mount.

Both sides are walked by descriptors, names in them are never followed, and whatever is changed meanwhile in the
directory (it may be in a volume that others write to) can at most change what is copied. Owners, modes, times, extended
attributes, links among the files and special files are kept; mounts below the directory are left out, as with
``cp -x``. Limits: entries, depth, and the size of the tmpfs, which the kernel keeps.
"""

from __future__ import annotations

import errno
import os
import stat

MAX_ENTRIES = 100_000
MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 20
_NO_XATTR = (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA)
"""The tmpfs has none of this kind (``user.`` before Linux 6.6), this process may not set it, or it went meanwhile."""


class _Copy:
    def __init__(self, device: int) -> None:
        self.device = device
        self.entries = 0
        self.seen: dict[tuple[int, int], str] = {}
        """Files with several links: (device, inode) -> the path of the first copy, below the top."""
        self.top = -1


def copy_up(source_fd: int, made_fd: int) -> None:
    """Copies the contents of a directory.

    Args:
        source_fd: the directory, O_PATH.
        made_fd: the root of the tmpfs, which may be nowhere yet.

    Raises:
        OSError: E2BIG when there is too much of it; as of the calls otherwise.
    """
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        copy = _Copy(os.fstat(source).st_dev)
        copy.top = made_fd
        _contents(copy, source, made_fd, "", MAX_DEPTH)
        _attributes(source, os.fstat(source), made_fd)
    finally:
        os.close(source)


def _contents(copy: _Copy, source: int, made: int, path: str, depth_left: int) -> None:
    if depth_left == 0:
        raise OSError(errno.E2BIG, f"the directory to be copied is deeper than {MAX_DEPTH}", path)
    for name in os.listdir(source):
        copy.entries += 1
        if copy.entries > MAX_ENTRIES:
            raise OSError(errno.E2BIG, f"the directory to be copied has more than {MAX_ENTRIES} entries", path)
        try:
            there = os.stat(name, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            continue
        _entry(copy, source, made, name, there, f"{path}{name}", depth_left)


def _entry(copy: _Copy, source: int, made: int, name: str, there: os.stat_result, path: str, depth_left: int) -> None:
    kind = stat.S_IFMT(there.st_mode)
    if kind == stat.S_IFDIR:
        _directory(copy, source, made, name, path, depth_left)
        return
    if there.st_nlink > 1:
        first = copy.seen.setdefault((there.st_dev, there.st_ino), path)
        if first != path:
            os.link(first, name, src_dir_fd=copy.top, dst_dir_fd=made, follow_symlinks=False)
            return
    if kind == stat.S_IFREG:
        _file(source, made, name)
        return
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=made)
        os.chown(name, there.st_uid, there.st_gid, dir_fd=made, follow_symlinks=False)
    else:
        os.mknod(name, there.st_mode, there.st_rdev, dir_fd=made)
        os.chown(name, there.st_uid, there.st_gid, dir_fd=made, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(there.st_mode), dir_fd=made)
    os.utime(name, ns=(there.st_atime_ns, there.st_mtime_ns), dir_fd=made, follow_symlinks=False)


def _directory(copy: _Copy, source: int, made: int, name: str, path: str, depth_left: int) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        there = os.fstat(inner)
        os.mkdir(name, 0o700, dir_fd=made)
        outer = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=made)
        try:
            if there.st_dev == copy.device:
                _contents(copy, inner, outer, f"{path}/", depth_left - 1)
            _attributes(inner, there, outer)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _file(source: int, made: int, name: str) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        there = os.fstat(inner)
        if not stat.S_ISREG(there.st_mode):
            return  # another thing was put in its place meanwhile
        outer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=made)
        try:
            while os.sendfile(outer, inner, None, _CHUNK_BYTES):
                pass
            _attributes(inner, there, outer)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _attributes(source: int, there: os.stat_result, made: int) -> None:
    """Gives owner, extended attributes, mode and times; in this order, as an owner takes set-id bits away."""
    here = f"/proc/self/fd/{made}"  # the root of a fresh mount is open by O_PATH, which fchown and others refuse
    os.chown(here, there.st_uid, there.st_gid)
    for name in os.listxattr(source):
        try:
            os.setxattr(here, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
    os.chmod(here, stat.S_IMODE(there.st_mode))
    os.utime(here, ns=(there.st_atime_ns, there.st_mtime_ns))
