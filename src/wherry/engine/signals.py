"""The signals of a command that stays with a container: they are the container's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import TracebackType
    from typing import Any
else:
    import _signal

SIGINT, SIGKILL, SIGWINCH = _signal.SIGINT, _signal.SIGKILL, _signal.SIGWINCH
FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


class Signals:
    """Takes this process's signals in while its block runs; nothing in a thread that is not the main one.

    Args:
        forward: whether those that would end the process are taken in, and not only SIGWINCH.

    Attributes:
        wake_fd: gets the number of each signal that came, for an event loop; does not block.
    """

    def __init__(self, *, forward: bool = True) -> None:
        self._wanted = (*FORWARDED, SIGWINCH) if forward else (SIGWINCH,)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self.wake_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._before_wakeup = _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        except ValueError:
            return self  # not the main thread: signals are the business of that one
        for number in self._wanted:
            self._before[number] = _signal.signal(number, _note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler)
        if self._before:
            _signal.set_wakeup_fd(self._before_wakeup)
        os.close(self.wake_fd)
        os.close(self._write_fd)

    def read(self) -> bytes:
        """Returns the numbers of the signals that came, each a byte."""
        try:
            return os.read(self.wake_fd, 64)
        except BlockingIOError:
            return b""


def _note(number: int, frame: object) -> None:
    """Does nothing: that the signal came shows in the wake-up descriptor."""
