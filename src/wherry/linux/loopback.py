"""The loopback of this process's network namespace, brought up by two system calls: netdevice(7), SIOCSIFFLAGS."""

from __future__ import annotations

import fcntl
import sys
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ_BYTES = 40
_NAME_BYTES = 16


def bring_loopback_up() -> None:
    """Brings ``lo`` up; the kernel gives it 127.0.0.1 and ::1.

    Raises:
        OSError: EPERM without CAP_NET_ADMIN in the namespace's user namespace.
    """
    request = b"lo".ljust(_NAME_BYTES, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder)
    end = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        fcntl.ioctl(end.fileno(), _SIOCSIFFLAGS, request.ljust(_IFREQ_BYTES, b"\0"))
    finally:
        end.close()
