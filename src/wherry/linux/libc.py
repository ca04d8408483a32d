"""The way into the kernel: the C library's functions, system calls by number, and one translation of errno.

Every other module of this package takes its calls from here, with their argument types given once. A call that
fails raises `OSError` with the kernel's errno; the layers above map it (``core.durable.map_os_error``).

What this file refuses: architectures whose numbers it does not know. Numbers from 424 (``pidfd_send_signal``) on
are the same everywhere; the older ones differ.
Source: arch/*/entry/syscalls/*.tbl, include/uapi/asm-generic/unistd.h of Linux 6.12.
"""

from __future__ import annotations

import os

from wherry.core.errors import Unsupported
from wherry.linux.quick_ctypes import c_int, c_long, c_void_p, get_errno, library_function, sizeof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_COMMON = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_GENERIC = {
    "bpf": 280,
    "clone": 220,
    "ioprio_set": 30,
    "keyctl": 219,
    "personality": 92,
    "pivot_root": 41,
    "prlimit64": 261,
    "renameat2": 276,
    "rt_sigaction": 134,
    "sched_setattr": 274,
    "seccomp": 277,
}
_OLD = {
    "x86_64": {
        "bpf": 321,
        "clone": 56,
        "ioprio_set": 251,
        "keyctl": 250,
        "personality": 135,
        "pivot_root": 155,
        "prlimit64": 302,
        "renameat2": 316,
        "rt_sigaction": 13,
        "sched_setattr": 314,
        "seccomp": 317,
    },
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "armv7l": {
        "bpf": 386,
        "clone": 120,
        "ioprio_set": 314,
        "keyctl": 311,
        "personality": 136,
        "pivot_root": 218,
        "prlimit64": 369,
        "renameat2": 382,
        "rt_sigaction": 174,
        "sched_setattr": 380,
        "seccomp": 383,
    },
}
_ALIASES = {"armv8l": "armv7l", "armv6l": "armv7l", "amd64": "x86_64", "arm64": "aarch64"}


def machine() -> str:
    """Returns this machine's architecture by one of the names that the tables of this package use.

    Raises:
        Unsupported: it is none of x86_64, aarch64, armv7l and riscv64.
    """
    name = os.uname().machine
    name = _ALIASES.get(name, name)
    if name not in _OLD:
        raise Unsupported(f"machine architecture {name} is not known", hint=f"known are {', '.join(_OLD)}")
    if name == "aarch64" and sizeof(c_void_p) == 4:
        return "armv7l"
    return name


def number(name: str) -> int:
    """Returns the number of a system call on this machine."""
    found = _COMMON.get(name)
    return _OLD[machine()][name] if found is None else found


def os_error(what: str) -> OSError:
    """Returns the error for the errno that the last call of this thread left, with `what` as its place."""
    code = get_errno()
    return OSError(code, os.strerror(code), what)


def function(name: str, *argtypes: Any) -> Callable[..., int]:
    """Returns a function of the C library that raises `OSError` when the library returns -1."""
    call = library_function(name, c_int, *argtypes)

    def checked(*args: Any) -> int:
        result: int = call(*args)
        if result == -1:
            raise os_error(name)
        return result

    return checked


def system_call(name: str, *argtypes: Any, keep_lock: bool = False) -> Callable[..., int]:
    """Returns a system call as a function that raises `OSError` when the kernel refuses.

    Args:
        name: the kernel's name of it.
        argtypes: the ctypes types of its arguments.
        keep_lock: do not release the interpreter's lock around it: for calls that return twice.
    """
    call = library_function("syscall", c_long, c_long, *argtypes, keep_lock=keep_lock)
    code = number(name)

    def checked(*args: Any) -> int:
        result: int = call(code, *args)
        if result == -1:
            raise os_error(name)
        return result

    return checked


def ioctl_number(direction: int, kind: str, index: int, size: int) -> int:
    """Returns an ioctl request number by asm-generic's layout, which the four architectures share.

    Args:
        direction: 0 none, 1 write, 2 read, 3 both, as seen by the program.
        kind: the driver's letter.
        index: the request within it.
        size: bytes of the argument, which may differ between 32 and 64 bits.
    """
    return direction << 30 | size << 16 | ord(kind) << 8 | index
