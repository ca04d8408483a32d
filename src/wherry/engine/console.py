"""A further process in a container, and the caller's terminal or streams that it uses (``wherry exec``)."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from wherry.engine.attach import PACKET_BYTES, SignalForwarder, raw_terminal, window_of, write_all
from wherry.engine.streams import END_OF_INPUT, set_window
from wherry.linux.process import pidfd_send_signal

if TYPE_CHECKING:
    from wherry.runtime.container import Executed


def serve(
    executed: Executed, signals: SignalForwarder, *, stdin_fd: int | None, stdout_fd: int, terminal_fd: int | None
) -> int:
    """Stays with a process until it has ended; signals of this process go to it.

    Args:
        executed: a child of this process; its descriptors are closed here.
        signals: in force since before it was made.
        stdin_fd: read for a process with a terminal of its own; None gives it no input.
        stdout_fd: what such a process prints goes there.
        terminal_fd: the person's terminal: raw mode and sizes.

    Returns:
        The exit status; 128 + N after signal N.
    """

    def forward(number: int) -> None:
        try:
            pidfd_send_signal(executed.pidfd, number)
        except ProcessLookupError:
            pass

    try:
        signals.send_to(forward)
        if executed.console_fd is None:
            _wait(executed.pidfd, signals.wake_fd)
        else:
            with raw_terminal(terminal_fd if stdin_fd is not None else None):
                _pump(executed.console_fd, executed.pidfd, signals.wake_fd, stdin_fd, stdout_fd, terminal_fd)
        code = os.waitstatus_to_exitcode(os.waitpid(executed.pid, 0)[1])
        return code if code >= 0 else 128 - code
    finally:
        os.close(executed.pidfd)
        if executed.console_fd is not None:
            os.close(executed.console_fd)


def _wait(pidfd: int, wake_fd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(wake_fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == pidfd:
                return
            os.read(wake_fd, 64)


def _pump(
    master_fd: int, pidfd: int, wake_fd: int, stdin_fd: int | None, stdout_fd: int, terminal_fd: int | None
) -> None:
    os.set_blocking(master_fd, False)
    if terminal_fd is not None:
        set_window(master_fd, *window_of(terminal_fd))
    pending = b""
    ended = False
    while True:
        poller = select.poll()
        poller.register(master_fd, select.POLLIN | (select.POLLOUT if pending else 0))
        poller.register(wake_fd, select.POLLIN)
        if not ended:
            poller.register(pidfd, select.POLLIN)
        if stdin_fd is not None and not pending:
            poller.register(stdin_fd, select.POLLIN)
        events = dict(poller.poll(0 if ended else None))
        if wake_fd in events and signal.SIGWINCH in os.read(wake_fd, 64) and terminal_fd is not None:
            set_window(master_fd, *window_of(terminal_fd))
        if stdin_fd is not None and stdin_fd in events:
            pending = os.read(stdin_fd, PACKET_BYTES)
            if not pending:
                pending, stdin_fd = END_OF_INPUT, None
        if pending:
            try:
                pending = pending[os.write(master_fd, pending) :]
            except BlockingIOError:
                pass
            except OSError:
                pending = b""
        if master_fd in events:
            try:
                data = os.read(master_fd, PACKET_BYTES)
            except BlockingIOError:
                data = None
            except OSError:
                return  # EIO: the last process with the terminal is gone
            if data is not None:
                write_all(stdout_fd, data)
        elif ended:
            return  # it left something running, which has the terminal still
        ended = ended or pidfd in events
