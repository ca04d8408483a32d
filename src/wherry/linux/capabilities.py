"""Capabilities: their names, and dropping them from every set of this process.

Source: include/uapi/linux/capability.h of Linux 6.12; capabilities(7).
"""

from __future__ import annotations

import errno

from wherry.core.errors import InvalidInput
from wherry.linux.libc import function
from wherry.linux.process import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    prctl,
)
from wherry.linux.quick_ctypes import Structure, byref, c_int, c_uint32, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""By number, from 0 on."""

_NUMBERS = {name: number for number, name in enumerate(NAMES)}
_VERSION_3 = 0x20080522
_MAX_NUMBER = 63


class _Header(Structure):
    _fields_ = [("version", c_uint32), ("pid", c_int)]


class _Data(Structure):
    _fields_ = [
        ("effective", c_uint32),
        ("permitted", c_uint32),
        ("inheritable", c_uint32),
        ("effective_high", c_uint32),
        ("permitted_high", c_uint32),
        ("inheritable_high", c_uint32),
    ]


_capset = function("capset", c_void_p, c_void_p)
_capget = function("capget", c_void_p, c_void_p)


def number(name: str) -> int:
    """Returns the number of a capability, by its name with or without ``CAP_``, in any case.

    Raises:
        InvalidInput: there is none of that name.
    """
    full = name.upper()
    found = _NUMBERS.get(full if full.startswith("CAP_") else f"CAP_{full}")
    if found is None:
        raise InvalidInput(f"no capability is called {name!r}", hint="see capabilities(7) for the names")
    return found


def name(number: int) -> str:
    """Returns the name of a capability."""
    return NAMES[number]


def mask(names: Iterable[str]) -> int:
    """Returns capabilities as the bit mask that /proc/PID/status shows."""
    result = 0
    for item in names:
        result |= 1 << number(item)
    return result


def names(bits: int) -> tuple[str, ...]:
    """Returns the names in a bit mask; bits that have none are left out."""
    return tuple(item for index, item in enumerate(NAMES) if bits >> index & 1)


def permitted() -> int:
    """Returns the mask of the capabilities that this process may have."""
    header, data = _Header(_VERSION_3, 0), _Data()
    _capget(byref(header), byref(data))
    return int(data.permitted | data.permitted_high << 32)


def drop_bounding(keep: int) -> None:
    """Takes every capability outside the mask `keep` from the bounding set; needs CAP_SETPCAP."""
    for index in range(_MAX_NUMBER + 1):
        if keep >> index & 1:
            continue
        try:
            if prctl(PR_CAPBSET_READ, index):
                prctl(PR_CAPBSET_DROP, index)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # past the last one that this kernel knows
            raise


def set_process(*, effective: int, permitted: int, inheritable: int) -> None:
    """Sets three sets of this process at once: capset(2)."""
    header = _Header(_VERSION_3, 0)
    data = _Data()
    low = 0xFFFFFFFF
    data.effective, data.effective_high = effective & low, effective >> 32
    data.permitted, data.permitted_high = permitted & low, permitted >> 32
    data.inheritable, data.inheritable_high = inheritable & low, inheritable >> 32
    _capset(byref(header), byref(data))


def set_ambient(bits: int) -> None:
    """Makes the ambient set exactly the mask; each of it must be permitted and inheritable."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for index in range(_MAX_NUMBER + 1):
        if bits >> index & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, index)
