"""The line between the runtime and a process that it sets up: one socket pair, whole messages.

child → parent   READY                     everything is set up, say GO
                 CONSOLE + descriptor      the terminal's master side
                 FAILED errno NUL step NUL text
                 end of file               the command was executed (the child's end closes on exec)
parent → child   GO
                 end of file               the parent is gone: give up
"""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

READY = b"R"
GO = b"G"
CONSOLE = b"C"
_FAILED = b"F"
_MAX_MESSAGE_BYTES = 4096
_MAX_TEXT_BYTES = 1024


class Failure(NamedTuple):
    """What the child could not do."""

    errno: int
    step: str
    text: str


def pair() -> tuple[socket.socket, socket.socket]:
    """Returns the parent's and the child's end, both closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receive(end: socket.socket) -> tuple[bytes, Failure | None, int | None]:
    """Waits for a message of the child.

    Returns:
        (its kind, what failed, a descriptor that came along); the kind is ``b""`` at the end of file.
    """
    try:
        data, fds, _, _ = socket.recv_fds(end, _MAX_MESSAGE_BYTES, 1)
    except ConnectionResetError:
        return b"", None, None  # it died without reading what was sent to it
    fd = fds[0] if fds else None
    if fd is not None:
        os.set_inheritable(fd, False)
    if data[:1] == _FAILED:
        code, step, text = data[1:].split(b"\0", 2)
        return _FAILED, Failure(int(code), step.decode(errors="replace"), text.decode(errors="replace")), fd
    return data[:1], None, fd


def send_failure(fd: int, step: str, error: BaseException) -> None:
    """Tells the parent, from the child, what went wrong."""
    code = error.errno or 0 if isinstance(error, OSError) else 0
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
        if error.filename is not None:
            text = f"{text}: {os.fsdecode(error.filename)}"
    os.write(fd, b"%s%d\0%s\0%s" % (_FAILED, code, step.encode(), text.encode(errors="replace")[:_MAX_TEXT_BYTES]))


def send_console(fd: int, master: int) -> None:
    """Hands the terminal's master side to the parent, from the child."""
    with socket.socket(fileno=os.dup(fd)) as end:
        socket.send_fds(end, [CONSOLE], [master])
