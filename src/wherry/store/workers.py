"""A few threads that work off a growing list of jobs, for fetching and copying objects.

Daemon threads on purpose: Ctrl-C must not wait for a server that does not answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from wherry.core.errors import WherryError

Job = TypeVar("Job")
_TICK_S = 0.1
_JOIN_S = 3.0
_AHEAD = 16
"""Jobs that are taken from the caller at once."""


class Stopped(WherryError):
    """The work is being given up because another thread has failed, or the caller was interrupted."""


class Workers(Generic[Job]):
    """Runs `handle` on every job; what it returns are further jobs.

    Args:
        handle: called in a thread for each job.
        parallel: how many threads.
    """

    def __init__(self, handle: Callable[[Job], Iterable[Job]], *, parallel: int) -> None:
        self._handle = handle
        self.parallel = parallel
        self._jobs: deque[Job] = deque()
        self._coming: Iterator[Job] = iter(())
        self._busy = 0
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._stop = threading.Event()

    def check(self) -> None:
        """Called by `handle` now and then in long jobs.

        Raises:
            Stopped: the work is being given up.
        """
        if self._stop.is_set():
            raise Stopped("given up")

    def run(self, jobs: Iterable[Job], *, tick: Callable[[], None]) -> None:
        """Works everything off, and calls `tick` in the calling thread now and then.

        Args:
            jobs: taken a few at a time, when there is somebody to do them, by any thread: may be a long stream.
            tick: called every tenth of a second.

        Raises:
            Exception: the first one that a job raised; all others are stopped then.
        """
        self._coming = iter(jobs)
        if not self._more():
            return
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, self.parallel))]
        try:
            for thread in threads:
                thread.start()
            while True:
                with self._changed:
                    if self._error is not None or (not self._busy and not self._more()):
                        break
                    self._changed.wait(_TICK_S)
                tick()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_JOIN_S)
        if self._error is not None:
            raise self._error

    def _more(self) -> bool:
        """Sees to it that there is a job to take, if there are any left."""
        if not self._jobs:
            self._jobs.extend(islice(self._coming, _AHEAD))
        return bool(self._jobs)

    def _work(self) -> None:
        try:
            self._work_off()
        except BaseException as caught:  # noqa: BLE001 of the iterator: handed to the caller of run
            with self._changed:
                self._error = self._error or caught
                self._stop.set()
                self._changed.notify_all()

    def _work_off(self) -> None:
        while True:
            with self._changed:
                while not self._more():
                    if self._stop.is_set() or not self._busy:
                        self._changed.notify_all()
                        return
                    self._changed.wait()
                if self._stop.is_set():
                    return
                job = self._jobs.popleft()
                self._busy += 1
            error: BaseException | None = None
            more: list[Job] = []
            try:
                more = list(self._handle(job))
            except BaseException as caught:  # noqa: BLE001 handed to the caller of run
                error = caught
            with self._changed:
                self._busy -= 1
                self._jobs.extend(more)
                if error is not None:
                    if self._error is None and not isinstance(error, Stopped):
                        self._error = error
                    self._stop.set()
                if error is not None or more or not self._busy:
                    self._changed.notify_all()
            if error is not None:
                return
