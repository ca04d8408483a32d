"""The event loop of the engine: descriptors and timers, nothing else.

A callback runs to its end before the next one begins, and must not wait. Budget: epoll(7) and a short list of timers;
no import that costs anything.
"""

from __future__ import annotations

import time
from select import EPOLL_CLOEXEC, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IN, OUT, GONE = EPOLLIN, EPOLLOUT, EPOLLHUP | EPOLLERR
_MAX_EVENTS = 64


class Timer:
    """A callback that is called once, at its time, unless it is cancelled before."""

    __slots__ = ("callback", "due_s")

    def __init__(self, due_s: float, callback: Callable[[], None]) -> None:
        self.due_s = due_s
        """On the monotonic clock."""
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Has it never called; again does nothing."""
        self.callback = None


class Loop:
    """Waits for descriptors and times, and calls who asked for them."""

    def __init__(self) -> None:
        self._epoll = epoll(-1, EPOLL_CLOEXEC)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}
        self._timers: list[Timer] = []

    def watch(self, fd: int, handler: Callable[[int], None], mask: int = IN) -> None:
        """Has `handler` called with the events whenever there are some; again changes what is waited for.

        Args:
            fd: a pipe, socket, terminal or pidfd; the loop does not own it: `forget` it before it is closed.
            handler: called with the bits that are set, `GONE` among them whether asked for or not.
            mask: of `IN` and `OUT`.

        Raises:
            PermissionError: it is a regular file, which is always ready.
        """
        if fd in self._masks:
            if self._masks[fd] != mask:
                self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        self._masks[fd] = mask

    def forget(self, fd: int) -> None:
        """Waits for a descriptor no longer; nothing happens when it was not waited for."""
        if self._masks.pop(fd, None) is not None:
            del self._handlers[fd]
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Has `callback` called once, when that much time has gone by."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def turn(self) -> None:
        """Waits for the next events, and serves them."""
        self._timers = [timer for timer in self._timers if timer.callback is not None]
        wait_s = -1.0
        if self._timers:
            wait_s = max(0.0, min(timer.due_s for timer in self._timers) - time.monotonic())
        for fd, events in self._epoll.poll(wait_s, _MAX_EVENTS):
            handler = self._handlers.get(fd)
            if handler is not None:  # an earlier one of this turn may have forgotten it
                handler(events)
        if not self._timers:
            return
        now_s = time.monotonic()
        for timer in [item for item in self._timers if item.due_s <= now_s]:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        """Lets go of everything; closes no descriptor but its own."""
        self._handlers.clear()
        self._masks.clear()
        self._timers.clear()
        self._epoll.close()


class Timers:
    """Timers by name: one that is set anew replaces the one before.

    Args:
        loop: what waits for them.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: dict[str, Timer] = {}

    def after(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Has `callback` called when that much time has gone by."""
        self.cancel(name)
        self._timers[name] = self._loop.after(seconds, callback)

    def sooner(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Does as `after`, but never later than what was set before."""
        before = self._timers.get(name)
        if before is None or before.callback is None or time.monotonic() + seconds < before.due_s:
            self.after(name, seconds, callback)

    def cancel(self, name: str) -> None:
        """Has it not called."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def cancel_all(self) -> None:
        """Has none of them called."""
        for name in list(self._timers):
            self.cancel(name)
