"""What a process is given beside its ids: limits, scheduling, priorities, execution domain, security labels.

Everything is about the calling process, and stays over exec. Names are the kernel's, as they stand in an OCI
specification; one that is not known is refused by name.
Source: prlimit(2), sched_setattr(2), ioprio_set(2), personality(2), include/uapi/linux/sched/types.h of Linux 6.12;
Documentation/admin-guide/LSM/{apparmor,SELinux}.rst.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput
from wherry.linux.libc import system_call
from wherry.linux.quick_ctypes import (
    Structure,
    byref,
    c_int,
    c_int32,
    c_uint,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
    sizeof,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

UNLIMITED = (1 << 64) - 1
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
"""The same on x86, arm and riscv."""
SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}
MAX_PROCESSORS = 8192

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13


class _Rlimit(Structure):
    _fields_ = [("rlim_cur", c_uint64), ("rlim_max", c_uint64)]


class _SchedAttr(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("sched_policy", c_uint32),
        ("sched_flags", c_uint64),
        ("sched_nice", c_int32),
        ("sched_priority", c_uint32),
        ("sched_runtime", c_uint64),
        ("sched_deadline", c_uint64),
        ("sched_period", c_uint64),
    ]


_prlimit = system_call("prlimit64", c_int, c_uint, c_void_p, c_void_p)
_sched_setattr = system_call("sched_setattr", c_int, c_void_p, c_uint)
_ioprio_set = system_call("ioprio_set", c_int, c_int, c_int)
_personality = system_call("personality", c_ulong)


def set_rlimit(name: str, *, soft: int, hard: int) -> None:
    """Sets one limit of this process.

    Args:
        name: such as ``RLIMIT_NOFILE``.
        soft: what counts now; below 0, or past 64 bits, means unlimited.
        hard: how far it may be raised.

    Raises:
        OSError: EPERM when the hard limit is raised without CAP_SYS_RESOURCE, EINVAL when soft is above hard.
    """
    wanted = _Rlimit(_limit(soft), _limit(hard))
    _prlimit(0, RLIMITS[name], byref(wanted), None)


def hard_rlimit(name: str) -> int:
    """Returns how far this process may raise a limit; `UNLIMITED` is the highest."""
    found = _Rlimit()
    _prlimit(0, RLIMITS[name], None, byref(found))
    return int(found.rlim_max)


def _limit(value: int) -> int:
    return UNLIMITED if value < 0 or value > UNLIMITED else value


def set_scheduler(
    policy: str, *, nice: int, priority: int, flags: Iterable[str], runtime_ns: int, deadline_ns: int, period_ns: int
) -> None:
    """Sets how this process is scheduled: sched_setattr(2)."""
    bits = 0
    for flag in flags:
        bits |= SCHED_FLAGS[flag]
    wanted = _SchedAttr(
        sizeof(_SchedAttr), SCHED_POLICIES[policy], bits, nice, priority, runtime_ns, deadline_ns, period_ns
    )
    _sched_setattr(0, byref(wanted), 0)


def set_io_priority(io_class: str, priority: int) -> None:
    """Sets the priority of this process's input and output: ioprio_set(2)."""
    _ioprio_set(_IOPRIO_WHO_PROCESS, 0, IO_CLASSES[io_class] << _IOPRIO_CLASS_SHIFT | priority)


def set_personality(domain: str) -> None:
    """Sets the execution domain: personality(2). LINUX32 makes uname(2) tell of a 32-bit machine."""
    _personality(PERSONALITIES[domain])


def processors(text: str) -> frozenset[int]:
    """Returns the numbers in a list such as ``0-3,7``.

    Raises:
        InvalidInput: it is none.
    """
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(part) > 16:
            raise InvalidInput("not a list of processors", where=text, hint="write it like 0-3,7")
        low, high = int(first), int(last or first)
        if high < low or high >= MAX_PROCESSORS:
            raise InvalidInput("not a list of processors", where=text, hint="write it like 0-3,7")
        found.update(range(low, high + 1))
    if not found:
        raise InvalidInput("an empty list of processors", where=text)
    return frozenset(found)


def has_apparmor() -> bool:
    """Tells whether AppArmor is on."""
    return _read("/sys/module/apparmor/parameters/enabled").startswith("Y")


def has_selinux() -> bool:
    """Tells whether SELinux is on."""
    return os.path.exists("/sys/fs/selinux/enforce")


def open_exec_label(*, apparmor: bool) -> int:
    """Opens the file of this process that holds the label which its next exec gives it."""
    own = "/proc/thread-self/attr"
    path = f"{own}/apparmor/exec" if apparmor and os.path.exists(f"{own}/apparmor/exec") else f"{own}/exec"
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode(errors="replace")
    finally:
        os.close(fd)
