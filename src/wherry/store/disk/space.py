"""The free space that a repository leaves alone, as OSTree does: 3 % of the file system, or what its config says."""

from __future__ import annotations

import os
import time
from pathlib import Path

from wherry.store.config import Config

DEFAULT_PERCENT = 3
_CREDIT_BYTES = 16 * 1024 * 1024
_CREDIT_S = 1.0


class Space:
    """What may be written.

    Args:
        path: the repository.
        config: its config: ``core.min-free-space-size`` (first) or ``core.min-free-space-percent``.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._bytes = config.get_size("core", "min-free-space-size")
        self._credit = 0
        self._asked_s = 0.0
        self._percent = max(0, min(99, config.get_int("core", "min-free-space-percent", DEFAULT_PERCENT)))

    def free(self) -> int:
        """Returns how many bytes may still be written."""
        status = os.statvfs(self._path)
        free = (status.f_bfree if os.geteuid() == 0 else status.f_bavail) * status.f_frsize
        reserved = self._bytes if self._bytes is not None else status.f_blocks * status.f_frsize * self._percent // 100
        return free - reserved

    def missing(self, size: int) -> int:
        """Returns how many bytes are wanting for `size` more; 0 when it fits.

        The file system is not asked each time: what it said holds for a moment and for a few megabytes.
        """
        if self._bytes == 0 or (self._bytes is None and self._percent == 0):
            return 0
        if size <= self._credit and time.monotonic() - self._asked_s < _CREDIT_S:
            self._credit -= size
            return 0
        free = self.free()
        self._asked_s = time.monotonic()
        self._credit = max(0, min(free - size, _CREDIT_BYTES))
        return max(0, size - free)
