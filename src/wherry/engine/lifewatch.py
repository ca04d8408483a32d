"""Waiting for something to happen to a container that another process keeps, without looking again and again.

The kernel tells by inotify(7) when ``life.lock`` is closed by its last holder (IN_CLOSE_WRITE: a duplicate is the same
open file, and who only looks opens it to read), and when something in the run folder is replaced or made: ``run.json``,
the socket of a command in the foreground. It tells of the close a moment before it drops the lock (fs/file_table.c,
``__fput``), so for a second after an event the caller is woken some more.
"""

from __future__ import annotations

import os
import select
import time

from wherry.engine.state import LIFE_LOCK, Paths
from wherry.linux import inotify

_SOON_MS = 5
_SOON_S = 1.0
_AT_MOST_S = 60.0
"""A caller looks again after that, whatever is or is not told."""
_BLIND_S = 0.02
"""Between two looks where inotify is not to be had: this user has as many instances or watches as it may."""


class LifeWatch:
    """Wakes when something has happened to one container's run folder, or to its life.

    Args:
        paths: of the engine root.
        container_id: whose; its folders need not be there.
        folders: whether to wake as well when any container's folder comes or goes.
    """

    def __init__(self, paths: Paths, container_id: str, *, folders: bool = False) -> None:
        self._folder = paths.run_dir(container_id)
        self._above = (paths.running, paths.containers) if folders else ()
        self._soon_until_s = 0.0
        try:
            self._fd = inotify.inotify_init1()
        except OSError:
            self._fd = -1
        self.renew()

    def __enter__(self) -> LifeWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        """Watches what is there by now, and forgets what was told; to be called before the caller looks."""
        entries = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_MOVED_FROM
        places = [(folder, entries) for folder in (*self._above, self._folder)]
        for path, mask in [*places, (f"{self._folder}/{LIFE_LOCK}", inotify.IN_CLOSE_WRITE)]:
            if self._fd < 0:
                return
            try:
                inotify.inotify_add_watch(self._fd, path, mask)
            except FileNotFoundError:
                continue  # the folder above it tells when it is made
            except OSError:
                self.close()
        inotify.drain(self._fd)

    def fileno(self) -> int:
        """Returns what becomes readable; -1 where there is nothing."""
        return self._fd

    def timeout_ms(self, left_s: float | None = None) -> float:
        """Returns how long a caller may wait for `fileno`, who has so much time left."""
        wait_s = _AT_MOST_S if self._fd >= 0 else _BLIND_S
        if time.monotonic() < self._soon_until_s:
            wait_s = _SOON_MS / 1000
        return 1000 * (wait_s if left_s is None else max(0.0, min(wait_s, left_s)))

    def told(self) -> None:
        """Takes in what was told."""
        if self._fd >= 0:
            inotify.drain(self._fd)
            self._soon_until_s = time.monotonic() + _SOON_S

    def wait(self, left_s: float | None = None) -> None:
        """Waits for the next event, or until the time is up; the caller looks for itself what is so."""
        poller = select.poll()
        if self._fd >= 0:
            poller.register(self._fd, select.POLLIN)
        if poller.poll(self.timeout_ms(left_s)):
            self.told()

    def close(self) -> None:
        """Watches nothing any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
