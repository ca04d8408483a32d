"""The line between a person's command and the monitor of the container that it started.

A ``SOCK_SEQPACKET`` pair, made before the monitor is forked. Each packet is one letter and its payload:

==========  =========  ==========================================================
to monitor  ``i``      bytes for the container's standard input
            ``e``      no more input
            ``w``      the terminal's size: rows and columns, two 16-bit numbers in network order
to client   ``o``      bytes that the container wrote to standard output (or to its terminal)
            ``r``      bytes that it wrote to standard error
            ``x``      the end, after all is cleaned up: the exit status, 32 bits, signed
==========  =========  ==========================================================

Neither side ever waits for the other with data of its own in hand, or both could wait for ever. When the client
dies the container goes on. Signals do not go this way: the client sends them to the container itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from wherry.core.errors import WherryError

PACKET_BYTES = 32 * 1024
STDIN, STDIN_END, WINDOW = b"i", b"e", b"w"
STDOUT, STDERR, EXIT = b"o", b"r", b"x"
GONE = b""
"""Not a packet: what ``Client`` tells when the other side has closed."""
WINDOW_SIZE = struct.Struct("!HH")
EXIT_STATUS = struct.Struct("!i")
DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as docker has it."""

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Returns the client's and the monitor's end, both non-blocking."""
    client, monitor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.setblocking(False)
    monitor.setblocking(False)
    return client, monitor


class Client:
    """The monitor's side of the line.

    Args:
        fd: its end; None when nobody is attached.
        on_packet: called with each packet's letter and payload, and with `GONE` when the client is.
    """

    def __init__(self, fd: int | None, on_packet: Callable[[bytes, bytes], None]) -> None:
        self._line = None if fd is None else socket.socket(fileno=fd)
        self._on_packet = on_packet
        self._outbox: list[bytes] = []

    @property
    def fd(self) -> int:
        """The descriptor to wait for; -1 without a client."""
        return -1 if self._line is None else self._line.fileno()

    @property
    def busy(self) -> bool:
        """Whether something is waiting to be sent: no more is to be read for the client."""
        return bool(self._outbox)

    def register(self, poller: select.poll, *, reading: bool) -> None:
        """Says what is waited for on the line."""
        if self._line is not None:
            poller.register(self._line, (select.POLLIN if reading else 0) | (select.POLLOUT if self._outbox else 0))

    def serve(self, poller: select.poll, event: int) -> None:
        """Sends and takes in what is ready."""
        if event & select.POLLOUT:
            self._flush()
        if self._line is None or not event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            packet = self._line.recv(PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            poller.unregister(self._line)
            self._drop()
        self._on_packet(packet[:1], packet[1:])

    def send(self, packet: bytes) -> None:
        """Sends a packet, now or when there is room."""
        if self._line is not None:
            self._outbox.append(packet)
            self._flush()

    def finish(self, status: int) -> None:
        """Sends what is waiting and the exit status, however long the client takes, and closes."""
        if self._line is not None:
            self._line.setblocking(True)
            self._outbox.append(EXIT + EXIT_STATUS.pack(status))
            self._flush()
            self._drop()

    def _flush(self) -> None:
        while self._outbox and self._line is not None:
            try:
                self._line.send(self._outbox[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._outbox.clear()  # reading tells that it is gone
                return
            del self._outbox[0]

    def _drop(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        self._outbox.clear()


class Detached(Exception):
    """The person left the terminal; the container goes on."""


class DetachFilter:
    """Finds the detach keys in what is typed, also when they come in two reads."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Returns what is to be sent on, and whether the person wants to leave."""
        data = self._held + data
        self._held = b""
        place = data.find(DETACH_KEYS)
        if place >= 0:
            return data[:place], True
        if data.endswith(DETACH_KEYS[:1]):
            self._held = data[-1:]
            data = data[:-1]
        return data, False


def run_client(
    line: socket.socket,
    *,
    stdin_fd: int | None,
    stdout_fd: int,
    stderr_fd: int,
    terminal_fd: int | None,
    wake_fd: int,
) -> int:
    """Carries bytes between this process and a container until the container has ended.

    Args:
        line: the client's end.
        stdin_fd: where input comes from; None gives none.
        stdout_fd: for output.
        stderr_fd: for errors.
        terminal_fd: the person's terminal when the container has one: raw mode, sizes and detach keys.
        wake_fd: of the ``SignalForwarder``.

    Returns:
        The container's exit status.

    Raises:
        Detached: the person pressed Ctrl-P Ctrl-Q.
        WherryError: the monitor died.
    """
    keys = DetachFilter() if terminal_fd is not None and stdin_fd is not None else None
    with raw_terminal(terminal_fd if stdin_fd is not None else None):
        outbox: list[bytes] = []
        if terminal_fd is not None:
            outbox.append(WINDOW + WINDOW_SIZE.pack(*window_of(terminal_fd)))
        elif stdin_fd is None:
            outbox.append(STDIN_END)
        poller = select.poll()
        poller.register(wake_fd, select.POLLIN)
        while True:
            poller.register(line, select.POLLIN | (select.POLLOUT if outbox else 0))
            if stdin_fd is not None:
                if outbox:
                    _forget(poller, stdin_fd)
                else:
                    poller.register(stdin_fd, select.POLLIN)
            for fd, event in poller.poll():
                if fd == wake_fd:
                    numbers = os.read(wake_fd, 64)
                    if terminal_fd is not None and signal.SIGWINCH in numbers:
                        outbox.append(WINDOW + WINDOW_SIZE.pack(*window_of(terminal_fd)))
                elif fd == line.fileno():
                    if event & select.POLLOUT and outbox and _send(line, outbox[0]):
                        del outbox[0]
                    if event & (select.POLLIN | select.POLLHUP):
                        status = _receive(line, stdout_fd, stderr_fd)
                        if status is not None:
                            return status
                elif fd == stdin_fd and not outbox:
                    data = _read_input(fd)
                    leave = False
                    if keys is not None:
                        data, leave = keys.feed(data)
                    if data:
                        outbox.append(STDIN + data)
                    elif leave:
                        raise Detached
                    elif keys is None:
                        outbox.append(STDIN_END)
                        _forget(poller, fd)
                        stdin_fd = None
                    if leave and data:
                        _send(line, outbox[0])
                        raise Detached


def _read_input(fd: int) -> bytes:
    try:
        return os.read(fd, PACKET_BYTES - 1)
    except OSError:
        return b""  # the terminal was hung up


def _forget(poller: select.poll, fd: int) -> None:
    try:
        poller.unregister(fd)
    except KeyError:
        pass


def _send(line: socket.socket, packet: bytes) -> bool:
    try:
        line.send(packet, socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True  # the end is on its way, or the monitor died: reading tells which
    return True


def _receive(line: socket.socket, stdout_fd: int, stderr_fd: int) -> int | None:
    """Takes one packet; returns the exit status when it is the last."""
    try:
        packet = line.recv(PACKET_BYTES)
    except (BlockingIOError, ConnectionResetError):
        # reset: the monitor closed without having read all that we sent; what it sent before is still to be read
        return None
    kind, data = packet[:1], packet[1:]
    if kind == STDOUT:
        write_all(stdout_fd, data)
    elif kind == STDERR:
        write_all(stderr_fd, data)
    elif kind == EXIT:
        return int(EXIT_STATUS.unpack(data)[0])
    elif not packet:
        raise WherryError(
            "the container's monitor was killed", hint="the next command cleans up; `wherry ps -a` shows the container"
        )
    return None


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also to a descriptor that does not block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


def window_of(fd: int) -> tuple[int, int]:
    """Returns a terminal's rows and columns; 24 and 80 where it has none."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 24, 80
    return min(size.lines, 0xFFFF), min(size.columns, 0xFFFF)


@contextmanager
def raw_terminal(fd: int | None) -> Iterator[None]:
    """Hands every key on as it is while the block runs, and puts the terminal back after it; None does nothing."""
    if fd is None or not os.isatty(fd):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class SignalForwarder:
    """Hands this process's signals on while its block runs, and keeps those that come before there is a receiver.

    Attributes:
        wake_fd: gets the number of each signal that came, for a poll loop.
    """

    def __init__(self) -> None:
        self._receiver: Callable[[int], None] | None = None
        self._early: list[int] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalForwarder:
        self.wake_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._before_wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        except ValueError:
            return self  # not the main thread: signals are the business of that one
        for number in FORWARDED:
            self._before[number] = signal.signal(number, self._on_signal)
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _ignore)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._before_wakeup)
        os.close(self.wake_fd)
        os.close(self._write_fd)

    def send_to(self, receiver: Callable[[int], None]) -> None:
        """Hands on what has come already, and from now on at once."""
        self._receiver = receiver
        while self._early:
            receiver(self._early.pop(0))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._receiver is None:
            self._early.append(number)
        else:
            self._receiver(number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Does nothing: that the signal came shows in the wake-up descriptor."""
