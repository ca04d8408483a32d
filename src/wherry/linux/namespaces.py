"""Namespaces: clone(2), unshare(2), setns(2).

`clone` makes a child in new namespaces that is a direct child of the caller, as fork does, but past the C library:
its locks are not put in order in the child. It therefore refuses to work in a process with several threads.
Source: include/uapi/linux/sched.h of Linux 6.12; clone(2), namespaces(7).
"""

from __future__ import annotations

import os
import signal
from ctypes import byref, c_int, c_long, c_ulong, c_void_p

from wherry.core.errors import Unsupported
from wherry.linux.libc import function, system_call

CLONE_PIDFD = 0x1000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

FLAG_OF_FILE = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}
"""The names below ``/proc/PID/ns`` and their flags."""

# Only the first three arguments are used: the order of the others differs between architectures.
_clone = system_call("clone", c_ulong, c_void_p, c_void_p, c_long, c_long, keep_lock=True)
_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)


def clone(flags: int) -> tuple[int, int]:
    """Makes a child process, as fork does, in new namespaces.

    In the child every signal is blocked; it takes care of handlers and mask itself, runs no finalizers and ends by
    exec or ``os._exit``.

    Args:
        flags: ``CLONE_NEW*``.

    Returns:
        (pid, pidfd) in the parent, (0, -1) in the child. The pidfd is closed on exec.

    Raises:
        Unsupported: this process has several threads.
        OSError: the kernel refuses.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unsupported(
            "a container cannot be started from a process with several threads",
            hint="start it from a process of its own",
        )
    pidfd = c_int(-1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = -1
    try:
        pid = _clone(flags | CLONE_PIDFD | signal.SIGCHLD, None, byref(pidfd), 0, 0)
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return (pid, pidfd.value) if pid else (0, -1)


def unshare(flags: int) -> None:
    """Moves this process into new namespaces (for ``CLONE_NEWPID``: its next children)."""
    _unshare(flags)


def setns(fd: int, flags: int = 0) -> None:
    """Moves this process into namespaces (for ``CLONE_NEWPID``: its next children).

    Args:
        fd: a file below ``/proc/PID/ns``, or a pidfd (Linux 5.8), which enters all those in `flags` at once.
        flags: ``CLONE_NEW*``; 0 takes a namespace file as what it is.
    """
    _setns(fd, flags)
