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


_ATIME_FLAGS = MS_NOATIME | MS_RELATIME | MS_STRICTATIME


def flags_of(attributes: int) -> int:
    """Returns the ``MS_*`` flags that mean the same as ``MOUNT_ATTR_*`` attributes."""
    return sum(flag for attribute, flag in _FLAG_OF_ATTRIBUTE if attributes & attribute)


def change(fd: int, attr_set: int, attr_clr: int = 0, *, propagation: int = 0, recursive: bool = False) -> bool:
    """Changes the attributes of a mount that is nowhere yet, if the kernel can.

    Where nothing but *clearing* is refused (EPERM: in a user namespace the attributes of the host's mounts are locked)
    the mount keeps what it had.

    Returns:
        whether it could; if not, `remount_with` does it once the mount is somewhere.
    """
    try:
        x.mount_setattr(fd, attr_set=attr_set, attr_clr=attr_clr, propagation=propagation, recursive=recursive)
    except OSError as error:
        if error.errno == errno.EPERM and attr_clr:
            if attr_set or propagation:
                x.mount_setattr(fd, attr_set=attr_set, propagation=propagation, recursive=recursive)
        elif error.errno == errno.ENOSYS:
            return False
        else:
            raise
    return True


def attach_with(mount_fd: int, target_fd: int, attributes: int, *, recursive: bool = False) -> None:
    """Puts a copied mount somewhere with further attributes, by the new call or by remounts.

    Args:
        mount_fd: from `x.open_tree`.
        target_fd: where it goes, O_PATH.
        attributes: ``MOUNT_ATTR_*`` to set on top of those that it has.
        recursive: on the mounts below it too.
    """
    done = not attributes or change(mount_fd, attributes, recursive=recursive)
    x.attach(mount_fd, target_fd)
    if not done:
        remount_with(mount_fd, attributes, recursive=recursive)


def set_attributes(fd: int, attr_set: int, attr_clr: int = 0, *, recursive: bool = False) -> None:
    """Changes attributes of an attached mount, by the new call or by a remount."""
    if not change(fd, attr_set, attr_clr, recursive=recursive):
        remount_with(fd, attr_set, attr_clr, recursive=recursive)


def remount_with(fd: int, attr_set: int, attr_clr: int = 0, *, recursive: bool = False) -> None:
    """Changes attributes of the attached mount that `fd` is open on, by bind remounts."""
    places = [fd_path(fd)]
    if recursive:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            places += mounts_below(os.readlink(fd_path(fd)), file.read())
    cleared = flags_of(attr_clr) | (_ATIME_FLAGS if (attr_set | attr_clr) & x.MOUNT_ATTR__ATIME else 0)
    for place in places:
        here = os.statvfs(place).f_flag
        kept = sum(flag for bit, flag in _KEPT_BY_STATVFS if here & bit)
        mount(None, place, None, MS_REMOUNT | MS_BIND | kept & ~cleared | flags_of(attr_set))


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
