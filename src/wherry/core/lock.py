"""Locks between processes: flock(2) on a file of its own, which the kernel drops when the holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import Locked

_POLL_S = 0.02


@contextmanager
def file_lock(path: Path, *, shared: bool = False, timeout_s: float | None = None, what: str = "") -> Iterator[None]:
    """Holds the lock `path` for as long as the block runs.

    Args:
        path: the lock file; made when missing, never removed.
        shared: many may hold it shared, or one alone.
        timeout_s: how long to wait; None waits for ever, 0 not at all.
        what: what the lock guards, for the message.

    Raises:
        Locked: it was not to be had in time.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise map_os_error(error, "cannot open lock", where=path) from error
    try:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if timeout_s is None:
            fcntl.flock(fd, operation)
        else:
            deadline = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(fd, operation | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Locked(
                            f"{what or 'it'} is in use by another process",
                            where=path,
                            hint="wait for the other command to end, then try again",
                        ) from None
                    time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)
