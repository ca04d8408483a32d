"""What the agent attends to while it waits or works: a wish to stop, and news from the hub or from a person.

One FIFO in the device's folder wakes it: the bell's thread, signal handlers and other commands all write a byte
there. It costs nothing while nothing happens; there is no polling of files.
"""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path

from wherry.device.interfaces import Interrupted


class Attention:
    """The ``Waiter`` of an agent; `path` is the FIFO, made when missing."""

    def __init__(self, path: Path) -> None:
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass
        # opened for both, so that it never reads as ended when the last writer goes
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._stop = False
        self._news = False

    def close(self) -> None:
        """Closes the FIFO."""
        os.close(self._fd)

    @property
    def stopping(self) -> bool:
        """Whether the agent is to stop."""
        return self._stop

    def request_stop(self, *_: object) -> None:
        """Has the agent stop at its next durable step; may be called from a signal handler."""
        self._stop = True
        self.ring()

    def ring(self) -> None:
        """Says that there is something new; may be called from any thread."""
        try:
            os.write(self._fd, b"!")
        except BlockingIOError:
            pass  # full of bells already

    def heed(self) -> None:
        """Takes the news as heard: what comes after this is new."""
        self._look(0)
        self._news = False

    def wait(self, seconds: float) -> None:
        """Returns when there is news, when the agent is to stop, or after so many seconds; takes the news as heard."""
        deadline = self.now() + seconds
        while not self._stop and not self._news:
            left = deadline - self.now()
            if left <= 0:
                break
            self._look(left)
        self._news = False

    def pause(self, seconds: float) -> None:
        """Waits; raises ``Interrupted`` when the agent is to stop. News are kept for later."""
        deadline = self.now() + seconds
        while not self._stop:
            left = deadline - self.now()
            if left <= 0:
                return
            self._look(left)
        raise Interrupted

    def check(self, *, also_news: bool) -> None:
        """Raises ``Interrupted`` when the agent is to stop, or (with `also_news`) when there is news."""
        self._look(0)
        if self._stop or (also_news and self._news):
            raise Interrupted

    def now(self) -> float:
        """Returns seconds on the monotonic clock."""
        return time.monotonic()

    def _look(self, seconds: float) -> None:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if ready:
            try:
                while os.read(self._fd, 4096):
                    self._news = True
            except BlockingIOError:
                return


def wake(path: Path) -> bool:
    """Wakes the agent that reads the FIFO `path`; returns whether there is one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    return True
