"""Namespaces: clone3(2), clone(2), unshare(2), setns(2).

`clone` makes a child in new namespaces that is a direct child of the caller, as fork does, but past the C library:
its locks are not put in order in the child. It therefore refuses to work in a process with several threads.
Source: include/uapi/linux/sched.h of Linux 6.12; clone(2), namespaces(7).
"""

from __future__ import annotations

import os

from wherry.core.errors import Unsupported
from wherry.linux.libc import function, system_call
from wherry.linux.quick_ctypes import (
    Structure,
    addressof,
    byref,
    c_int,
    c_long,
    c_size_t,
    c_uint64,
    c_ulong,
    c_void_p,
    sizeof,
)
from wherry.linux.signals import SIG_BLOCK, SIG_SETMASK, SIGCHLD, pthread_sigmask, valid_signals

CLONE_NEWTIME = 0x80
"""For unshare and setns alone: clone(2) has a signal's number in these bits."""
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

FLAG_OF_FILE = {
    "cgroup": CLONE_NEWCGROUP,
    "ipc": CLONE_NEWIPC,
    "mnt": CLONE_NEWNS,
    "net": CLONE_NEWNET,
    "pid": CLONE_NEWPID,
    "time": CLONE_NEWTIME,
    "user": CLONE_NEWUSER,
    "uts": CLONE_NEWUTS,
}
"""The names below ``/proc/PID/ns`` and their flags."""

# Only the first three arguments are used: the order of the others differs between architectures.
_clone = system_call("clone", c_ulong, c_void_p, c_void_p, c_long, c_long, keep_lock=True)
_clone3 = system_call("clone3", c_void_p, c_size_t, keep_lock=True)
_unshare = function("unshare", c_int)
_setns = function("setns", c_int, c_int)


class _CloneArgs(Structure):
    """``struct clone_args``, as of Linux 5.7."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size", "cgroup"),
        )
    ]


def clone(flags: int, *, cgroup_fd: int = -1, sure: bool = False) -> tuple[int, int]:
    """Makes a child process, as fork does, in new namespaces.

    In the child every signal is blocked; it takes care of handlers and mask itself, runs no finalizers and ends by
    exec or ``os._exit``.

    Args:
        flags: ``CLONE_NEW*`` but the time namespace's; ``CLONE_PARENT`` for a sibling.
        cgroup_fd: the directory of a control group of version 2 in which the child is born (Linux 5.7); -1 for the
            caller's own.
        sure: the caller came out of this call itself, so that it has one thread.

    Returns:
        (pid, pidfd) in the parent, (0, -1) in the child. The pidfd is closed on exec.

    Raises:
        Unsupported: this process has several threads.
        OSError: the kernel refuses; with a `cgroup_fd`, ENOSYS where there is no clone3(2) or a filter hides it.
    """
    if not sure and len(os.listdir("/proc/self/task")) > 1:
        raise Unsupported(
            "a container cannot be started from a process with several threads",
            hint="start it from a process of its own",
        )
    pidfd = c_int(-1)
    mask = pthread_sigmask(SIG_BLOCK, valid_signals())
    pid = -1
    try:
        if cgroup_fd < 0:
            pid = _clone(flags | CLONE_PIDFD | SIGCHLD, None, byref(pidfd), 0, 0)
        else:
            args = _CloneArgs(
                flags=flags | CLONE_PIDFD | CLONE_INTO_CGROUP,
                pidfd=addressof(pidfd),
                exit_signal=SIGCHLD,
                cgroup=cgroup_fd,
            )
            pid = _clone3(byref(args), sizeof(args))
    finally:
        if pid != 0:
            pthread_sigmask(SIG_SETMASK, mask)
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
