"""syncfs(2): writes one file system's dirty pages and journal to the disk, and no other's (Linux 2.6.39)."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syncfs.argtypes = [ctypes.c_int]
    libc.syncfs.restype = ctypes.c_int
    return libc


def syncfs(path: Path) -> None:
    """Makes everything durable that was written to the file system that holds `path`.

    Raises:
        OSError: writing failed; since Linux 5.8 also when it failed earlier.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc().syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)
