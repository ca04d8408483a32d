"""What ``x.py`` is on older kernels: Linux 5.10 and 5.11 have no mount_setattr(2).

A remount changes a mount only when it is somewhere, so here the attributes are set *after* attaching: for a moment
the mount is there without them. Nothing but the setup runs in its namespace at that time.
"""

from __future__ import annotations

import errno
import os

from wherry.linux import x
from wherry.linux.mount import (
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_RELATIME,
    MS_REMOUNT,
    MS_STRICTATIME,
    fd_path,
    mount,
)

_FLAG_OF_ATTRIBUTE = (
    (x.MOUNT_ATTR_RDONLY, MS_RDONLY),
    (x.MOUNT_ATTR_NOSUID, MS_NOSUID),
    (x.MOUNT_ATTR_NODEV, MS_NODEV),
    (x.MOUNT_ATTR_NOEXEC, MS_NOEXEC),
    (x.MOUNT_ATTR_NOATIME, MS_NOATIME),
    (x.MOUNT_ATTR_STRICTATIME, MS_STRICTATIME),
    (x.MOUNT_ATTR_NODIRATIME, MS_NODIRATIME),
    (x.MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW),
)
_KEPT_BY_STATVFS = (
    (os.ST_RDONLY, MS_RDONLY),
    (os.ST_NOSUID, MS_NOSUID),
    (os.ST_NODEV, MS_NODEV),
    (os.ST_NOEXEC, MS_NOEXEC),
    (os.ST_NOATIME, MS_NOATIME),
    (os.ST_NODIRATIME, MS_NODIRATIME),
    (os.ST_RELATIME, MS_RELATIME),
)


def flags_of(attributes: int) -> int:
    """Returns the ``MS_*`` flags that mean the same as ``MOUNT_ATTR_*`` attributes."""
    return sum(flag for attribute, flag in _FLAG_OF_ATTRIBUTE if attributes & attribute)


def attach_with(mount_fd: int, target_fd: int, attributes: int, *, recursive: bool = False) -> None:
    """Puts a copied mount somewhere with further attributes, by the new call or by remounts.

    Args:
        mount_fd: from `x.open_tree`.
        target_fd: where it goes, O_PATH.
        attributes: ``MOUNT_ATTR_*`` to set on top of those that it has.
        recursive: on the mounts below it too.
    """
    if not attributes:
        x.attach(mount_fd, target_fd)
        return
    try:
        x.mount_setattr(mount_fd, attr_set=attributes, recursive=recursive)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    else:
        x.attach(mount_fd, target_fd)
        return
    x.attach(mount_fd, target_fd)
    remount_with(mount_fd, attributes, recursive=recursive)


def set_attributes(fd: int, attributes: int) -> None:
    """Adds attributes to an attached mount, by the new call or by a remount."""
    try:
        x.mount_setattr(fd, attr_set=attributes)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        remount_with(fd, attributes)


def remount_with(fd: int, attributes: int, *, recursive: bool = False) -> None:
    """Adds attributes to the attached mount that `fd` is open on, by bind remounts."""
    places = [fd_path(fd)]
    if recursive:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            places += mounts_below(os.readlink(fd_path(fd)), file.read())
    for place in places:
        here = os.statvfs(place).f_flag
        kept = sum(flag for bit, flag in _KEPT_BY_STATVFS if here & bit)
        mount(None, place, None, MS_REMOUNT | MS_BIND | kept | flags_of(attributes))


def mounts_below(path: str, mountinfo: str) -> list[str]:
    """Returns the mount points below `path` in the text of ``/proc/self/mountinfo``.

    Source: proc_pid_mountinfo(5); white space and backslashes stand there as octal numbers.
    """
    found = []
    for line in mountinfo.splitlines():
        place = line.split()[4]
        for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            place = place.replace(code, char)
        if place.startswith(f"{path.rstrip('/')}/"):
            found.append(place)
    return found
