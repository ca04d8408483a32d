"""A further process in a container, and the caller's terminal or streams that it uses (``wherry exec``)."""

from __future__ import annotations

import os

from wherry.engine.loop import IN, OUT, Loop
from wherry.engine.person import Keyboard, RawTerminal, Screen, window_of
from wherry.engine.signals import SIGWINCH, Signals
from wherry.engine.streams import END_OF_INPUT, READ_BYTES, set_window
from wherry.linux.process import pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.runtime.container import Executed


def serve(
    executed: Executed, signals: Signals, *, stdin_fd: int | None, stdout_fd: int, terminal_fd: int | None
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
    console = _Console(executed, signals, stdout_fd, terminal_fd)
    try:
        with RawTerminal(terminal_fd if stdin_fd is not None else None):
            console.run(stdin_fd)
        code = os.waitstatus_to_exitcode(os.waitpid(executed.pid, 0)[1])
        return code if code >= 0 else 128 - code
    finally:
        os.close(executed.pidfd)
        if executed.console_fd is not None:
            os.close(executed.console_fd)


class _Console:
    """One process that is stayed with."""

    def __init__(self, executed: Executed, signals: Signals, stdout_fd: int, terminal_fd: int | None) -> None:
        self._executed, self._signals, self._terminal_fd = executed, signals, terminal_fd
        self._loop = Loop()
        self._screen = Screen(self._loop, stdout_fd, stdout_fd, self._watch)
        self._keyboard: Keyboard | None = None
        self._pending = b""
        self._ended = False
        self._closed = executed.console_fd is None

    def run(self, stdin_fd: int | None) -> None:
        """Serves until the process has ended and all that it printed is shown."""
        loop = self._loop
        loop.watch(self._executed.pidfd, lambda _: self._on_end())
        loop.watch(self._signals.wake_fd, lambda _: self._on_signals())
        master_fd = self._executed.console_fd
        if master_fd is not None:
            os.set_blocking(master_fd, False)
            if self._terminal_fd is not None:
                set_window(master_fd, *window_of(self._terminal_fd))
            self._watch()
            if stdin_fd is not None:
                self._keyboard = Keyboard(loop, stdin_fd, feed=self._feed, leave=_nothing, keys=None)
                self._keyboard.listen()
        self._on_signals()
        while not self._ended:
            loop.turn()
        while self._screen.busy or self._read():
            if self._screen.busy:
                loop.turn()
        loop.close()

    def _on_end(self) -> None:
        self._ended = True
        self._loop.forget(self._executed.pidfd)

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number != SIGWINCH:
                try:
                    pidfd_send_signal(self._executed.pidfd, number)
                except ProcessLookupError:
                    pass
            elif self._terminal_fd is not None and self._executed.console_fd is not None:
                set_window(self._executed.console_fd, *window_of(self._terminal_fd))

    def _feed(self, data: bytes) -> None:
        self._pending += data or END_OF_INPUT
        if self._keyboard is not None:
            self._keyboard.listen(False)
        self._write()

    def _write(self) -> None:
        master_fd = self._executed.console_fd
        if self._pending and master_fd is not None:
            try:
                self._pending = self._pending[os.write(master_fd, self._pending) :]
            except BlockingIOError:
                pass
            except OSError:
                self._pending = b""
        if not self._pending and self._keyboard is not None:
            self._keyboard.listen()
        self._watch()

    def _watch(self) -> None:
        master_fd = self._executed.console_fd
        if master_fd is None:
            return
        mask = (0 if self._screen.busy else IN) | (OUT if self._pending else 0)
        if mask and not self._closed:
            self._loop.watch(master_fd, self._on_ready, mask)
        else:
            self._loop.forget(master_fd)

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._write()
        if events & ~OUT and not self._screen.busy:
            self._read()

    def _read(self) -> bool:
        """Shows what the process printed; returns whether there was something."""
        if self._closed or self._executed.console_fd is None:
            return False
        try:
            data = os.read(self._executed.console_fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the last process with the terminal is gone
        if not data:
            self._closed = True
            self._loop.forget(self._executed.console_fd)
            return False
        self._screen.send("stdout", data)
        self._watch()
        return True


def _nothing() -> None:
    """The detach keys of ``exec`` are not looked for."""
