"""Packets between processes: SOCK_SEQPACKET sockets of the Unix domain, and descriptors that go along with them.

The interpreter's own ``_socket`` is used and not ``socket``, which costs as much as half an interpreter (it pulls in
``selectors`` and ``enum``). A path of any length can be bound and connected to: the folder is opened, and the kernel
is given a short path through ``/proc/self/fd``.
Source: unix(7), cmsg(3).
"""

from __future__ import annotations

import os
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SO_PEERCRED,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)
from _struct import Struct, pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FDS = 200
"""In one packet; the kernel takes 253 (SCM_MAX_FD)."""
_BACKLOG = 128
_FD_BYTES = 4
_UCRED = Struct("iII")


def pair() -> tuple[socket, socket]:
    """Returns two ends that are connected with each other, closed on exec."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def from_fd(fd: int) -> socket:
    """Returns the socket that an open descriptor is; it is the object's from now on."""
    return socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)


def listen(path: str, *, mode: int = 0o600) -> socket:
    """Returns a socket that does not block and listens at `path`, which must not be there.

    Raises:
        OSError: EADDRINUSE when something is there.
    """
    end = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
    folder, name = _split(path)
    try:
        end.bind(f"/proc/self/fd/{folder}/{name}")
        os.chmod(name, mode, dir_fd=folder)
        end.listen(_BACKLOG)
    except BaseException:
        end.close()
        raise
    finally:
        os.close(folder)
    return end


def connect(path: str) -> socket:
    """Returns a socket, blocking, that is connected with whoever listens at `path`.

    Raises:
        OSError: ENOENT or ECONNREFUSED when nobody does.
    """
    folder, name = _split(path)
    try:
        end = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        try:
            end.connect(f"/proc/self/fd/{folder}/{name}")
        except BaseException:
            end.close()
            raise
        return end
    finally:
        os.close(folder)


def _split(path: str) -> tuple[int, str]:
    folder, _, name = path.rpartition("/")
    return os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), name


def accept(listener: socket) -> socket | None:
    """Returns the next connection, which does not block; None when there is none."""
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]
    except (BlockingIOError, ConnectionAbortedError):
        return None
    os.set_inheritable(fd, False)
    end = from_fd(fd)
    end.setblocking(False)
    return end


def peer(end: socket) -> tuple[int, int]:
    """Returns the process id and the user id of who connected: SO_PEERCRED."""
    pid, uid, _ = _UCRED.unpack(end.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))
    return pid, uid


def send(end: socket, data: bytes, fds: Sequence[int] = (), *, wait: bool = True) -> None:
    """Sends one packet.

    Raises:
        BlockingIOError: there is no room, and `wait` is off or the socket does not block.
        OSError: EPIPE or ECONNRESET when the other side is gone.
    """
    flags = MSG_NOSIGNAL if wait else MSG_NOSIGNAL | MSG_DONTWAIT
    if fds:
        rights = pack(f"{len(fds)}i", *fds)
        end.sendmsg((data,), ((SOL_SOCKET, SCM_RIGHTS, rights),), flags)
    else:
        end.send(data, flags)


def receive(end: socket, max_bytes: int) -> tuple[bytes, list[int]]:
    """Returns one packet and the descriptors that came with it, closed on exec; ``b""`` at the end.

    Raises:
        BlockingIOError: there is none, and the socket does not block.
        OSError: ECONNRESET when the other side went without having read all.
    """
    data, ancillary, _, _ = end.recvmsg(max_bytes, CMSG_SPACE(MAX_FDS * _FD_BYTES), MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, value in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            count = len(value) // _FD_BYTES
            fds += unpack(f"{count}i", value[: count * _FD_BYTES])
    return data, fds
