"""How often one may try: a sliding window for each key, in memory, bounded.

It forgets at a restart, which costs an attacker nothing worth having: passwords are slow to check and tokens cannot be
guessed. What it is for is that a person's weak password is not found by trying all.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from wherry.hub.credentials import Clock

MAX_KEYS = 50_000


class RateLimiter:
    """Lets `limit` tries through in any `window_s` seconds, for each key.

    Args:
        limit: tries in a window.
        window_s: the window's length.
        clock: the time.
    """

    def __init__(self, limit: int, window_s: float, clock: Clock) -> None:
        self._limit, self._window_s, self._clock = limit, window_s, clock
        self._tries: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def try_(self, key: str) -> int:
        """Notes a try and returns 0, or returns the seconds to wait and notes nothing."""
        now = self._clock()
        with self._lock:
            tries = [then for then in self._tries.get(key, []) if now - self._window_s < then <= now]
            if len(tries) >= self._limit:
                return max(1, math.ceil(tries[0] + self._window_s - now))
            self._tries[key] = [*tries, now]
            self._tries.move_to_end(key)
            while len(self._tries) > MAX_KEYS:
                self._tries.popitem(last=False)
        return 0

    def take_back(self, key: str) -> None:
        """Forgets the last try of one key: it was a right one."""
        with self._lock:
            tries = self._tries.get(key)
            if tries:
                tries.pop()

    def forget(self, key: str) -> None:
        """Forgets the tries of one key: the last one was right."""
        with self._lock:
            self._tries.pop(key, None)
