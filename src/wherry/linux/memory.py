"""The C library's allocator, told to give memory back: for work that must stay within a bound.

glibc raises the size from which on it maps memory, up to 32 MiB, whenever a mapped piece is freed; what is below that
stays in the heap, and in resident memory, when something small lies behind it. Setting the limit ends that.
Source: mallopt(3). Other C libraries have no such call, and need none.
"""

from __future__ import annotations

import ctypes

from wherry.linux import libc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def give_memory_back(from_bytes: int = 128 * 1024) -> bool:
    """Has pieces of memory of this size and longer returned to the kernel as soon as they are free.

    Returns:
        Whether the C library can do that.
    """
    try:
        mallopt = libc.function("mallopt", ctypes.c_int, ctypes.c_int)
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, from_bytes)) and bool(mallopt(_M_TRIM_THRESHOLD, from_bytes))
