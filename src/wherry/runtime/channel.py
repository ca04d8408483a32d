"""The line between the runtime and a process that it sets up: one socket pair, whole messages.

child → parent   MAP                       I am in a new user namespace, write its ids, say GO
                 CHILD + descriptor, pid   the pidfd of the process that goes on in my place
                 HOOKS                     the container is mounted, run the hooks, say GO
                 CONSOLE + descriptor      the terminal's master side
                 LISTENER + descriptor     where calls that the filter hands over are answered
                 WARNING text              something that was asked for and is not so
                 READY                     everything is set up, say GO
                 FAILED errno NUL step NUL text
                 end of file               the command was executed (the child's end closes on exec)
parent → child   GO
                 end of file               the parent is gone: give up

A container that another process shall start has a second line: READY is the last message on the first one, and the
child then waits for a connection to ``start.sock`` in the state directory, on which GO, FAILED and the end of file
mean the same. It answers GO with TAKEN, as of several that connect at once it listens to one, and the others see no
more than an end of file.

Budget: the interpreter's own ``_socket``; the module that wraps it costs more than a container.
"""

from __future__ import annotations

import os
import select
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    socketpair,
)
from _socket import socket as Socket  # noqa: N812 the standard class, under its usual kind of name
from _struct import calcsize, pack, unpack_from

from wherry.core.value import Value
from wherry.linux.mount import fd_path

READY = b"R"
GO = b"G"
TAKEN = b"T"
CONSOLE = b"C"
MAP = b"M"
HOOKS = b"H"
CHILD = b"P"
LISTENER = b"L"
WARNING = b"W"
FAILED = b"F"
START_SOCKET = "start.sock"
_MAX_MESSAGE_BYTES = 4096
_MAX_TEXT_BYTES = 1024


class Failure(Value):
    """What the child could not do."""

    errno: int
    step: str
    text: str


def pair() -> tuple[Socket, Socket]:
    """Returns the parent's and the child's end, both closed on exec."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def listen(directory: str) -> Socket:
    """Makes the place where a container waits for the process that starts it."""
    end = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By the descriptor: a path of more than 107 bytes is no address.
        end.bind(f"{fd_path(fd)}/{START_SOCKET}")
        end.listen(1)
    except BaseException:
        end.close()
        raise
    finally:
        os.close(fd)
    return end


def connect(directory: str) -> Socket:
    """Reaches a container that waits to be started.

    Raises:
        OSError: ENOENT or ECONNREFUSED when none does.
    """
    end = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end.connect(f"{fd_path(fd)}/{START_SOCKET}")
    except BaseException:
        end.close()
        raise
    finally:
        os.close(fd)
    return end


def send_to(path: str, message: bytes, given: int) -> None:
    """Sends a message with a descriptor to who listens at a path.

    Raises:
        OSError: nobody does.
    """
    end = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    directory, _, name = path.rpartition("/")
    fd = os.open(directory or ("/" if path.startswith("/") else "."), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end.connect(f"{fd_path(fd)}/{name}")
        end.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, pack("i", given))])
    finally:
        end.close()
        os.close(fd)


def accept(listening: int) -> int:
    """Waits, in the child, for the process that starts it, and returns the line to it; others are turned away."""
    end = Socket(fileno=listening)
    while True:
        accepted: int
        accepted, _ = end._accept()  # type: ignore[attr-defined]  # what socket.accept is made of
        if os.read(accepted, 1) == GO:
            os.write(accepted, TAKEN)
            end.close()
            return accepted
        os.close(accepted)


def receive(end: Socket) -> tuple[bytes, bytes, int | None]:
    """Waits for a message of the child.

    Returns:
        (its kind, what it says, a descriptor that came along); the kind is ``b""`` at the end of file.
    """
    size = calcsize("i")
    try:
        data, extra, _, _ = end.recvmsg(_MAX_MESSAGE_BYTES, CMSG_SPACE(size), MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", b"", None  # it died without reading what was sent to it
    fd: int | None = None
    for level, kind, rights in extra:
        if level == SOL_SOCKET and kind == SCM_RIGHTS and len(rights) >= size:
            fd = unpack_from("i", rights)[0]
    return data[:1], data[1:], fd


def is_closed(fd: int) -> bool:
    """Tells whether the other side has closed its end, or is gone."""
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(0))


def failure_of(text: bytes) -> Failure:
    """Returns what a FAILED message tells."""
    code, step, what = text.split(b"\0", 2)
    return Failure(errno=int(code), step=step.decode(errors="replace"), text=what.decode(errors="replace"))


def send_failure(fd: int, step: str, error: BaseException) -> None:
    """Tells the parent, from the child, what went wrong."""
    code = error.errno or 0 if isinstance(error, OSError) else 0
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
        if error.filename is not None:
            text = f"{text}: {os.fsdecode(error.filename)}"
    os.write(fd, b"%s%d\0%s\0%s" % (FAILED, code, step.encode(), text.encode(errors="replace")[:_MAX_TEXT_BYTES]))


def send_warning(fd: int, text: str) -> None:
    """Tells the parent, from the child, what was asked for and is not so."""
    os.write(fd, WARNING + text.encode(errors="replace")[:_MAX_TEXT_BYTES])


def send_fd(fd: int, message: bytes, given: int) -> None:
    """Sends a message with a descriptor, from the child."""
    end = Socket(fileno=fd)
    try:
        end.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, pack("i", given))])
    finally:
        end.detach()
