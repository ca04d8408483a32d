"""Work for other threads that the caller's loop goes on beside.

Daemon threads on purpose: Ctrl-C must not wait for a disk that does not answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from wherry.store.workers import Stopped

_JOIN_S = 3.0


class Background:
    """A few threads for pieces of work that give the interpreter's lock up for long: hashing, inflating, patching.

    Args:
        prepare: called once in each thread.
        threads: how many.
    """

    def __init__(self, prepare: Callable[[], None], *, threads: int) -> None:
        self._prepare = prepare
        self._most = max(1, threads)
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[tuple[Any, Callable[[], None]] | None] = SimpleQueue()
        self._done: deque[tuple[Any, BaseException | None]] = deque()
        self._stop = threading.Event()
        self.pending = 0

    def submit(self, key: Any, work: Callable[[], None]) -> None:
        """Has `work` called in a thread; ``results`` says how it went."""
        self.pending += 1
        self._jobs.put((key, work))
        if len(self._threads) < min(self._most, self.pending):
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            self._threads.append(thread)

    def results(self) -> Iterator[tuple[Any, BaseException | None]]:
        """Gives the key of what has been done since the last call, and what it raised."""
        while self._done:
            self.pending -= 1
            yield self._done.popleft()

    def check(self) -> None:
        """Called by work now and then when it is long.

        Raises:
            Stopped: all is being given up.
        """
        if self._stop.is_set():
            raise Stopped("given up")

    def close(self) -> None:
        """Ends the threads, after the piece of work that each is at."""
        self._stop.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _run(self) -> None:
        self._prepare()
        while (job := self._jobs.get()) is not None:
            key, work = job
            error: BaseException | None = None
            try:
                self.check()
                work()
            except BaseException as caught:  # noqa: BLE001 handed to the caller of results
                error = caught
            self._done.append((key, error))
