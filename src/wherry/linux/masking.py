"""Covering paths of a container's root, and making them read-only: the last steps of a mount plan.

A masked directory is covered by one empty read-only tmpfs, which all share; a masked file by the *host's* null device,
which was opened before anything of the container was, and is checked by its number and never looked up again
(CVE-2025-31133: runc took whatever the container had at /dev/null by then).
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.linux import x, xcompat
from wherry.linux.beneath import open_in_root
from wherry.linux.mountplan import Step, Work

_COVER_ATTRIBUTES = x.MOUNT_ATTR_RDONLY | x.MOUNT_ATTR_NOSUID | x.MOUNT_ATTR_NODEV | x.MOUNT_ATTR_NOEXEC
_COVER_OPTIONS = ("nr_inodes=1", "mode=555")


class MaskPath(Step):
    """Something in the root is made to look empty: /dev/null over a file, a read-only tmpfs over a directory."""

    def describe(self) -> str:  # noqa: D102
        return f"mask {self.target}"

    def execute(self, work: Work) -> None:
        """Does the step below the root; what is not there needs no mask."""
        try:
            target = open_in_root(work.root_fd, self.target)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not stat.S_ISDIR(os.fstat(target).st_mode):
                _attach_copy(null_device(work), target)
            elif work.empty_fd < 0:
                # Only a mount that is somewhere can be copied before Linux 6.15: the first is put here, for the others.
                work.empty_fd = x.new_mount(
                    "tmpfs", source="tmpfs", options=_COVER_OPTIONS, attributes=_COVER_ATTRIBUTES
                )
                x.attach(work.empty_fd, target)
            else:
                _attach_copy(work.empty_fd, target)
        finally:
            os.close(target)


class ReadOnlyPath(Step):
    """Something in the root, with the mounts below it, is made read-only."""

    def describe(self) -> str:  # noqa: D102
        return f"mount -o bind,ro {self.target} {self.target}"

    def execute(self, work: Work) -> None:
        """Does the step below the root; what is not there needs nothing."""
        try:
            target = open_in_root(work.root_fd, self.target)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            copy = x.open_tree("", dir_fd=target, recursive=True)
            try:
                # A path in procfs keeps procfs' own nosuid, noexec and nodev: attributes are only added.
                xcompat.attach_with(copy, target, x.MOUNT_ATTR_RDONLY, recursive=True)
            finally:
                os.close(copy)
        finally:
            os.close(target)


def null_device(work: Work) -> int:
    """Returns the host's null device, opened without reading or writing.

    Raises:
        OSError: what is at /dev/null is something else.
    """
    if work.null_fd < 0:
        fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        null = os.fstat(fd)
        if not stat.S_ISCHR(null.st_mode) or null.st_rdev != os.makedev(1, 3):
            os.close(fd)
            raise OSError(errno.ENODEV, "the host's /dev/null is not the null device", "/dev/null")
        work.null_fd = fd
    return work.null_fd


def _attach_copy(fd: int, target: int) -> None:
    copy = x.open_tree("", dir_fd=fd)
    try:
        x.attach(copy, target)
    finally:
        os.close(copy)
