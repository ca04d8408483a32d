"""What a process sets about itself, and pidfds: prctl(2), close_range(2), sethostname(2), pidfd_open(2).

Source: include/uapi/linux/prctl.h of Linux 6.12 and the manual page of each call.
"""

from __future__ import annotations

import fcntl
import os
import sys

from wherry.linux.libc import function, ioctl_number, system_call
from wherry.linux.quick_ctypes import (
    Structure,
    byref,
    c_char_p,
    c_int,
    c_long,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulong,
    c_void_p,
)
from wherry.linux.signals import SIGKILL, SIGSTOP

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_BYTES = 64
_PIDFD_EXIT_CODE = 60
"""Where ``exit_code`` stands in struct pidfd_info (include/uapi/linux/pidfd.h of Linux 6.15)."""
_PIDFD_GET_INFO = ioctl_number(3, "\xff", 11, _PIDFD_INFO_BYTES)
_KEYCTL_JOIN_SESSION_KEYRING = 1
_MAX_FD = 0xFFFFFFFF
_SIGNALS = range(1, 65)
_SIGSET_BYTES = 8
_SIGACTION_BYTES = 64
"""More than ``struct sigaction`` has on any architecture; all zeroes mean SIG_DFL and no flags."""

_prctl = function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_sethostname = function("sethostname", c_char_p, c_size_t)
_setdomainname = function("setdomainname", c_char_p, c_size_t)
_close_range = system_call("close_range", c_uint, c_uint, c_uint)
_pidfd_open = system_call("pidfd_open", c_int, c_uint)
_pidfd_send_signal = system_call("pidfd_send_signal", c_int, c_int, c_void_p, c_uint)
_rt_sigaction = system_call("rt_sigaction", c_int, c_void_p, c_void_p, c_size_t)
_keyctl = system_call("keyctl", c_int, c_char_p, c_long, c_long, c_long)


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """Calls prctl(2) and returns its result."""
    return _prctl(option, argument, second, 0, 0)


def set_no_new_privs() -> None:
    """Gives up gaining privileges by exec, for this process and all its children, for ever."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_child_subreaper(enabled: bool = True) -> None:
    """Makes orphaned descendants children of this process rather than of init."""
    prctl(PR_SET_CHILD_SUBREAPER, int(enabled))


def reset_signals() -> None:
    """Sets every signal to its default action, also 32 and 33.

    The C library keeps those two to itself, and its posix_spawn(3) has them ignored in the programs that it starts,
    make(1)'s among them; so they are set by the system call.
    """
    nothing = bytes(_SIGACTION_BYTES)
    for number in _SIGNALS:
        if number not in (SIGKILL, SIGSTOP):
            _rt_sigaction(number, nothing, None, _SIGSET_BYTES)


def set_parent_death_signal(number: int) -> None:
    """Has this process sent a signal when the *thread* that made it ends; 0 turns that off."""
    prctl(PR_SET_PDEATHSIG, number)


def set_dumpable(enabled: bool) -> None:
    """Allows or forbids core dumps, and reading /proc/PID by others without CAP_SYS_PTRACE, until the next exec."""
    prctl(PR_SET_DUMPABLE, int(enabled))


def sethostname(name: str) -> None:
    """Sets the host name of this process's UTS namespace."""
    data = name.encode()
    _sethostname(data, len(data))


def setdomainname(name: str) -> None:
    """Sets the NIS domain name of this process's UTS namespace."""
    data = name.encode()
    _setdomainname(data, len(data))


def close_from(first: int) -> None:
    """Closes every file descriptor from `first` on: close_range(2), Linux 5.9."""
    _close_range(first, _MAX_FD, 0)


def pidfd_open(pid: int) -> int:
    """Returns a file descriptor, closed on exec, that means this process and never another with its number.

    Raises:
        ProcessLookupError: there is no such process.
    """
    return _pidfd_open(pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Sends a signal to the process of a pidfd.

    Raises:
        ProcessLookupError: it has ended.
    """
    _pidfd_send_signal(pidfd, number, None, 0)


def pidfd_pid(pidfd: int) -> int:
    """Returns the number of the process of a pidfd; -1 when it has ended and was reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                return int(line[4:])
    return -1


def pidfd_exit_status(pidfd: int) -> int | None:
    """Returns the wait status of a process that has ended and was reaped by whomever: PIDFD_GET_INFO, Linux 6.15.

    Returns:
        None where the kernel does not tell.
    """
    info = bytearray(_PIDFD_INFO_BYTES)
    info[:8] = _PIDFD_INFO_EXIT.to_bytes(8, sys.byteorder)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not int.from_bytes(info[:8], sys.byteorder) & _PIDFD_INFO_EXIT:
        return None
    return int.from_bytes(info[_PIDFD_EXIT_CODE : _PIDFD_EXIT_CODE + 4], sys.byteorder)


def join_new_session_keyring(name: str) -> None:
    """Leaves the session keyring, which may hold the caller's secrets, for a new one."""
    _keyctl(_KEYCTL_JOIN_SESSION_KEYRING, os.fsencode(name), 0, 0, 0)


class _Statfs(Structure):
    # struct statfs begins with f_type, a long, on all four architectures; the rest is not read.
    _fields_ = [("f_type", c_long), ("rest", c_long * 31)]


_fstatfs = function("fstatfs", c_int, c_void_p)


def file_system_type(fd: int) -> int:
    """Returns the magic number of the file system that `fd` is on: fstatfs(2)."""
    buffer = _Statfs()
    _fstatfs(fd, byref(buffer))
    return int(buffer.f_type)


class _Statx(Structure):
    # The kernel's structure of 256 bytes, the same everywhere; of it only the mount's id is read.
    _fields_ = [("before", c_uint64 * 18), ("stx_mnt_id", c_uint64), ("rest", c_uint64 * 13)]


_STATX_MNT_ID = 0x1000
_AT_FDCWD = -100
_statx = function("statx", c_int, c_char_p, c_int, c_uint, c_void_p)


def mount_id(path: bytes) -> int:
    """Returns the id of the mount that `path`, its links followed, is on: statx(2), Linux 5.8."""
    buffer = _Statx()
    _statx(_AT_FDCWD, path, 0, _STATX_MNT_ID, byref(buffer))
    return int(buffer.stx_mnt_id)
