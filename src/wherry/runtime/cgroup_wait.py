"""Waiting for groups without a busy loop: for an event of version 2, and for processes to end."""

from __future__ import annotations

import os
import time

from wherry.core.errors import Timeout
from wherry.runtime.cgroup_files import keyed, read

_PAUSE_S = 0.002
_POLLIN = 1
_POLLPRI = 2


class Deadline:
    """When to give up, and what to say then."""

    def __init__(self, timeout_s: float, what: str, where: str) -> None:
        self._end = time.monotonic() + timeout_s
        self._what = what
        self.where = where

    def left_s(self) -> float:
        """Returns how long there is still time.

        Raises:
            Timeout: there is none left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise Timeout(self._what, where=self.where, hint="look for processes in state D with ps")
        return left

    def pause(self) -> None:
        """Waits a moment, where the kernel has no way to tell."""
        self.left_s()
        time.sleep(_PAUSE_S)


def wait_for_event(path: str, key: str, value: int, deadline: Deadline) -> None:
    """Waits until ``cgroup.events`` of a group says something; a group that is gone says everything."""
    import select

    try:
        fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        poll = select.poll()
        poll.register(fd, _POLLPRI)
        while keyed(os.pread(fd, 4096, 0).decode(), key) != value:
            poll.poll(deadline.left_s() * 1000)
    except OSError:
        if read(path, "cgroup.events"):
            raise
    finally:
        os.close(fd)


def wait_for_end(pids: frozenset[int], deadline: Deadline) -> None:
    """Waits until processes have ended, by their pidfds; whether they are reaped does not matter."""
    import select

    from wherry.linux.process import pidfd_open

    for pid in pids:
        try:
            fd = pidfd_open(pid)
        except OSError:
            continue  # it is gone
        try:
            poll = select.poll()
            poll.register(fd, _POLLIN)
            while not poll.poll(deadline.left_s() * 1000):
                pass
        finally:
            os.close(fd)
