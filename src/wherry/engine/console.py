"""A further process in a container, and the caller's terminal or streams that it uses (``wherry exec``)."""

from __future__ import annotations

import os

from wherry.engine.loop import IN, OUT, Loop
from wherry.engine.person import Detached, DetachFilter, Keyboard, RawTerminal, Screen, window_of
from wherry.engine.signals import SIGWINCH, Signals
from wherry.engine.streams import END_OF_INPUT, READ_BYTES
from wherry.linux.process import close_from, pidfd_send_signal, reset_signals
from wherry.linux.terminal import set_window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.runtime.execute import Executed


def serve(
    executed: Executed,
    signals: Signals,
    *,
    stdin_fd: int | None,
    stdout_fd: int,
    terminal_fd: int | None,
    keys: bytes = b"",
) -> int:
    """Stays with a process until it has ended; signals of this process go to it.

    Args:
        executed: a child of this process; its descriptors are closed here.
        signals: in force since before it was made.
        stdin_fd: read for a process with a terminal of its own; None gives it no input.
        stdout_fd: what such a process prints goes there.
        terminal_fd: the person's terminal: raw mode and sizes.
        keys: that leave the process running, typed at that terminal.

    Returns:
        The exit status; 128 + N after signal N.

    Raises:
        Detached: the person left; the process goes on, and another process of ours holds its terminal.
        BrokenPipeError: nobody reads what a process with a terminal prints; it is hung up.
    """
    console = _Console(executed, signals, stdout_fd, terminal_fd, keys)
    try:
        with RawTerminal(terminal_fd if stdin_fd is not None else None):
            console.run(stdin_fd)
        if console.left:
            hold(executed)
            raise Detached
        if console.unread:
            raise BrokenPipeError
        code = os.waitstatus_to_exitcode(os.waitpid(executed.pid, 0)[1])
        return code if code >= 0 else 128 - code
    finally:
        os.close(executed.pidfd)
        if executed.console_fd is not None:
            os.close(executed.console_fd)


def hold(executed: Executed) -> None:
    """Has a process of its own hold a command's terminal, and read what it prints, until nobody has it any more.

    Without it the command would be hung up (SIGHUP) when this process ends.
    """
    if executed.console_fd is None or os.fork():
        return
    try:
        os.setsid()
        reset_signals()
        console_fd = os.dup2(executed.console_fd, 3)
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        close_from(console_fd + 1)
        os.chdir("/")
        os.set_blocking(console_fd, True)
        while os.read(console_fd, READ_BYTES):
            pass
    except OSError:
        pass  # EIO: the last process with the terminal is gone
    finally:
        os._exit(0)


class _Console:
    """One process that is stayed with.

    Attributes:
        left: whether the detach keys were typed.
        unread: whether what it prints has no reader any more.
    """

    def __init__(
        self, executed: Executed, signals: Signals, stdout_fd: int, terminal_fd: int | None, keys: bytes
    ) -> None:
        self._executed, self._signals, self._terminal_fd, self._keys = executed, signals, terminal_fd, keys
        self.left = self.unread = False
        self._loop = Loop()
        self._screen = Screen(self._loop, stdout_fd, stdout_fd, self._watch, self._on_unread)
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
                self._resize(self._terminal_fd, master_fd)
            self._watch()
            if stdin_fd is not None:
                keys = DetachFilter(self._keys) if self._terminal_fd is not None else None
                self._keyboard = Keyboard(loop, stdin_fd, feed=self._feed, leave=self._leave, keys=keys)
                self._keyboard.listen()
        self._on_signals()
        while not (self._ended or self.left or self.unread):
            loop.turn()
        while self._ended and (self._screen.busy or self._read()):
            if self._screen.busy:
                loop.turn()
        loop.close()

    def _leave(self) -> None:
        self.left = not self._ended

    def _on_unread(self, _stream: str) -> None:
        self.unread = not self._ended

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
                self._resize(self._terminal_fd, self._executed.console_fd)

    @staticmethod
    def _resize(terminal_fd: int, console_fd: int) -> None:
        rows, columns = window_of(terminal_fd)
        set_window_size(console_fd, rows=rows, columns=columns)

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
