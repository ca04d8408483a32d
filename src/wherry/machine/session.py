"""A person, or a script, at a machine's console: what it prints is shown, what is typed reaches it, and keys end it.

::

    Ctrl-A X        end the machine at once           Ctrl-A H    show these keys
    Ctrl-A P        press its power button            Ctrl-A R    press its reset button
    Ctrl-A Ctrl-A   Ctrl-A itself

The first two are as QEMU's own. A terminal is put into raw mode meanwhile, and put back however this ends. Signals that
would end this process end the machine first.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from wherry.core.durable import map_os_error
from wherry.core.errors import Timeout, ToolError, WherryError
from wherry.machine.console import READ_BYTES, Text, tail_of

if TYPE_CHECKING:
    from wherry.machine.running import Running

ESCAPE = 0x01
KEYS = (
    b"\r\nCtrl-A X ends the machine, Ctrl-A P presses its power button, Ctrl-A R its reset button,"
    b" Ctrl-A Ctrl-A is Ctrl-A.\r\n"
)
_TURN_S = 0.5
_END_S = 0.5
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How long one stays at the console."""

    until: str = ""
    """A text that ends it well."""
    idle_s: float | None = None
    """How long the console may be silent."""
    limit_s: float | None = None
    """How long it may take in all."""
    log: Path | None = None
    """A file that all the console prints is written to."""
    cut_s: float | None = None
    """When to leave for a power cut: seconds from the start, or from the text."""
    show: bool = True


class Outcome:
    """Why the session ended."""

    ENDED = "ended"
    """The machine did by itself."""
    FOUND = "found"
    """The text came."""
    LEFT = "left"
    """Ctrl-A X."""
    CUT = "cut"
    """It is time for the power cut."""


class Interrupted(Exception):
    """A signal that ends this process came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Keys:
    """Takes the escape keys out of what is typed."""

    def __init__(self) -> None:
        self._escaped = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Takes in what was typed.

        Returns:
            What is for the machine, and the commands, each its letter.
        """
        out, commands = bytearray(), bytearray()
        for byte in data:
            if not self._escaped:
                self._escaped = byte == ESCAPE
                if not self._escaped:
                    out.append(byte)
                continue
            self._escaped = False
            letter = bytes([byte]).lower()
            if byte == ESCAPE:
                out.append(byte)
            elif letter in (b"x", b"h", b"p", b"r"):
                commands += letter
        return bytes(out), bytes(commands)


class Session:
    """One stay at the console.

    Args:
        machine: which runs.
        wish: how long.
        input_fd: where one types; None: nobody does.
        output_fd: where the console is shown.
    """

    def __init__(
        self,
        machine: Running,
        wish: Wish,
        *,
        input_fd: int | None = 0,
        output_fd: int = 1,
    ) -> None:
        self._machine, self._wish = machine, wish
        self._input_fd, self._output_fd = input_fd, output_fd
        self._keys = Keys()
        self._text = Text()
        self._searched = 0
        self._log: BinaryIO | None = None
        self._to_send = bytearray()
        self._interrupted = 0
        self._outcome = ""
        self._gone = False
        """Whether the machine has closed its console, as it does when it ends."""

    @property
    def text(self) -> str:
        """The end of what the console printed."""
        return self._text.kept

    def run(self) -> str:
        """Stays until it is over; returns one of `Outcome`'s words.

        Raises:
            Timeout: the text did not come, or nothing came any more.
            ToolError: the machine failed, or ended before the text came.
            Interrupted: by a signal.
        """
        with ExitStack() as stack:
            if self._wish.log is not None:
                try:
                    self._log = stack.enter_context(open(self._wish.log, "wb", buffering=0))
                except OSError as error:
                    raise map_os_error(error, "cannot write the console's log", where=self._wish.log) from error
            stack.enter_context(Raw(self._input_fd))
            for number in ENDING:
                stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
            wake = Wake()
            stack.callback(wake.close)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(wake.reader, selectors.EVENT_READ, lambda _selector, _events: wake.drain())
            self._machine.console.setblocking(False)
            selector.register(self._machine.console, selectors.EVENT_READ, self._on_console)
            if self._input_fd is not None:
                try:
                    selector.register(self._input_fd, selectors.EVENT_READ, self._on_input)
                except PermissionError:
                    pass  # a regular file or /dev/null: nobody types
            return self._stay(selector)

    def _stay(self, selector: selectors.BaseSelector) -> str:
        begun = self._heard = time.monotonic()
        self._found_at: float | None = None
        while not self._is_over():
            self._watch_output(selector)
            for key, events in selector.select(self._wait_s(begun)):
                key.data(selector, events)
            if self._interrupted:
                raise Interrupted(self._interrupted)
            now = time.monotonic()
            self._look(now)
            if not self._is_over():
                self._check_times(begun, now)
            if not self._is_over() and self._machine.wait(_END_S if self._gone else 0) is not None:
                self._drain(selector)
                self._look(now)
                self._on_end()
        return self._outcome

    def _is_over(self) -> bool:
        return bool(self._outcome)

    def _wait_s(self, begun: float) -> float:
        times = [_TURN_S]
        if self._wish.cut_s is not None:
            start = begun if not self._wish.until else self._found_at
            if start is not None:
                times.append(max(0.0, start + self._wish.cut_s - time.monotonic()))
        return min(times)

    def _look(self, now: float) -> None:
        if not self._wish.until or self._found_at is not None or self._outcome:
            return
        start = max(0, self._searched - self._text.dropped - len(self._wish.until))
        if self._text.kept.find(self._wish.until, start) >= 0:
            self._found_at = now
            if self._wish.cut_s is None:
                self._outcome = Outcome.FOUND
        self._searched = self._text.dropped + len(self._text.kept)

    def _check_times(self, begun: float, now: float) -> None:
        wish = self._wish
        if wish.cut_s is not None:
            start = begun if not wish.until else self._found_at
            if start is not None and now >= start + wish.cut_s:
                self._outcome = Outcome.CUT
                return
        wanted = f"{wish.until!r} did not come" if wish.until else "the machine did not end"
        if wish.limit_s is not None and now - begun > wish.limit_s:
            raise Timeout(f"{wanted} in {wish.limit_s:g} s; the console's end is: {tail_of(self.text)}")
        if wish.idle_s is not None and now - self._heard > wish.idle_s:
            raise Timeout(f"{wanted}, and nothing for {wish.idle_s:g} s; the console's end is: {tail_of(self.text)}")

    def _on_end(self) -> None:
        if self._is_over():
            return
        self._machine.check()
        if self._wish.until:
            raise ToolError(
                f"the machine ended before {self._wish.until!r} came; the console's end is: {tail_of(self.text)}"
            )
        self._outcome = Outcome.ENDED

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._interrupted = number

    def _watch_output(self, selector: selectors.BaseSelector) -> None:
        """Waits for room in the console's socket only while there is something for it."""
        try:
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._to_send else 0)
            selector.modify(self._machine.console, mask, self._on_console)
        except KeyError:
            pass  # the machine has closed it

    def _on_console(self, selector: selectors.BaseSelector, events: int) -> None:
        if events & selectors.EVENT_WRITE and self._to_send:
            try:
                del self._to_send[: self._machine.console.send(self._to_send)]
            except BlockingIOError:
                pass
            except OSError:
                self._to_send.clear()  # reading tells that it is gone
        if events & selectors.EVENT_READ:
            self._read(selector)

    def _read(self, selector: selectors.BaseSelector) -> bool:
        try:
            data = self._machine.console.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            selector.unregister(self._machine.console)
            self._gone = True
            return False
        self._heard = time.monotonic()
        self._text.feed(data)
        if self._log is not None:
            self._log.write(data)
        if self._wish.show:
            write_all(self._output_fd, data)
        return True

    def _drain(self, selector: selectors.BaseSelector) -> None:
        while self._machine.console in (key.fileobj for key in selector.get_map().values()) and self._read(selector):
            pass

    def _on_input(self, selector: selectors.BaseSelector, _events: int) -> None:
        assert self._input_fd is not None  # noqa: S101 registered with it
        try:
            data = os.read(self._input_fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the terminal was hung up
        if not data:
            selector.unregister(self._input_fd)
            return
        if not os.isatty(self._input_fd):
            self._to_send += data
            return
        typed, commands = self._keys.feed(data)
        self._to_send += typed
        for command in commands:
            self._do(bytes([command]))

    def _do(self, command: bytes) -> None:
        if command == b"x":
            self._outcome = Outcome.LEFT
        elif command == b"h":
            write_all(2, KEYS)
        elif self._machine.qmp is None:
            write_all(2, b"\r\nThis machine has no such button.\r\n")
        else:
            try:
                self._machine.qmp.press_power() if command == b"p" else self._machine.qmp.reset()
            except WherryError as error:
                write_all(2, f"\r\n{error}\r\n".encode())


class Wake:
    """Has a signal end a wait: its number is written to a pipe."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def drain(self) -> None:
        """Takes in what was written."""
        try:
            os.read(self.reader, 64)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Ends it."""
        signal.set_wakeup_fd(self._before)
        os.close(self.reader)
        os.close(self._writer)


class Raw:
    """Hands every key on as it is while its block runs; nothing happens to what is no terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd if fd is not None and os.isatty(fd) else None

    def __enter__(self) -> None:
        if self._fd is not None:
            import termios
            import tty

            self._before: list[Any] = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also to a descriptor that does not block."""
    import select

    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
