"""Locks between processes: flock(2) on a file of its own, which the kernel drops when the holder dies."""

from __future__ import annotations

import fcntl
import os
import time

from wherry.core.durable import map_os_error
from wherry.core.errors import Locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_POLL_S = 0.02


class file_lock:  # noqa: N801 a context manager, read as a noun
    """Holds the lock `path` for as long as the block runs.

    Args:
        path: the lock file; made when missing, never removed.
        shared: many may hold it shared, or one alone.
        timeout_s: how long to wait; None waits for ever, 0 not at all.
        what: what the lock guards, for the message.

    Raises:
        Locked: it was not to be had in time.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, shared: bool = False, timeout_s: float | None = None, what: str = ""
    ) -> None:
        self._path = path
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._timeout_s = timeout_s
        self._what = what

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise map_os_error(error, "cannot open lock", where=self._path) from error
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _take(self) -> None:
        if self._timeout_s is None:
            fcntl.flock(self._fd, self._operation)
            return
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                fcntl.flock(self._fd, self._operation | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Locked(
                        f"{self._what or 'it'} is in use by another process",
                        where=self._path,
                        hint="wait for the other command to end, then try again",
                    ) from None
                time.sleep(_POLL_S)
