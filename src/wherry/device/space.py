"""Whether an update will fit, asked before anything of it is fetched.

A reserve stays free, so that logs, volumes and the next state can still be written on a device whose store is full.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wherry.core.units import format_size

RESERVE_PERCENT = 5
MIN_RESERVE_BYTES = 1024 * 1024
MAX_RESERVE_BYTES = 512 * 1024 * 1024
BYTES_PER_OBJECT = 4096
"""A file takes whole blocks, and its directory entry and inode take some as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system, as far as an update asks."""

    total_bytes: int
    free_bytes: int
    """For unprivileged users too."""
    free_inodes: int | None = None
    """None where a file system makes them as needed."""

    @property
    def reserve_bytes(self) -> int:
        """What an update leaves free."""
        return min(max(self.total_bytes * RESERVE_PERCENT // 100, MIN_RESERVE_BYTES), MAX_RESERVE_BYTES)


def disk_of(path: Path) -> Disk:
    """Returns the file system that `path` lies in."""
    found = os.statvfs(path)
    return Disk(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else None,
    )


def why_not(disk: Disk, *, disk_bytes: int, objects: int) -> str | None:
    """Returns why an update does not fit, with the numbers; None when it does.

    Args:
        disk: where the store lies.
        disk_bytes: what the missing objects hold, unpacked.
        objects: how many they are.
    """
    if objects == 0:
        return None
    needed = disk_bytes + objects * BYTES_PER_OBJECT
    usable = max(0, disk.free_bytes - disk.reserve_bytes)
    if needed > usable:
        return (
            f"it needs {format_size(needed)} ({needed} bytes), and {format_size(usable)} ({usable} bytes) are "
            f"available: {format_size(disk.free_bytes)} are free, of which {format_size(disk.reserve_bytes)} "
            "are kept in reserve"
        )
    if disk.free_inodes is not None and objects > disk.free_inodes:
        return f"it needs {objects} files, and the file system has room for {disk.free_inodes}"
    return None
