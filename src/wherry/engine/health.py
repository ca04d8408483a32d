"""Whether a container is well: the states and times of its health check, without running anything.

::

    starting ──probe passes──▶ healthy ──`retries` failures in a row──▶ unhealthy
        └──`retries` failures in a row, after the start period──▶ unhealthy ──probe passes──▶ healthy

Source: Dockerfile reference, "HEALTHCHECK". A failure in the start period does not count, and there the check runs
every ``start_interval`` at the latest (docker's --health-start-interval; 5 s).
"""

from __future__ import annotations

from wherry.engine.records import ProbeResult
from wherry.spec.container import Healthcheck

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
MAX_OUTPUT_BYTES = 4096
KEPT_PROBES = 5


class Health:
    """The health of one run of a container.

    Args:
        check: how it is told.
        now_s: when the container was started, on the monotonic clock.
    """

    def __init__(self, check: Healthcheck, now_s: float) -> None:
        self._check = check
        self._started_s = now_s
        self.status = STARTING
        self.failing_streak = 0
        self.probes: tuple[ProbeResult, ...] = ()
        self.due_s = now_s + self._interval_s(now_s)
        """When the next probe begins."""

    @property
    def timeout_s(self) -> float:
        """How long a probe may take."""
        return self._check.timeout_ms / 1000

    def _interval_s(self, now_s: float) -> float:
        interval = self._check.interval_ms / 1000
        if self.status == STARTING and self._in_start_period(now_s):
            return min(interval, self._check.start_interval_ms / 1000)
        return interval

    def _in_start_period(self, now_s: float) -> bool:
        return now_s < self._started_s + self._check.start_period_ms / 1000

    def record(self, result: ProbeResult, now_s: float) -> bool:
        """Takes the result of a probe in.

        Returns:
            Whether the status has changed.
        """
        before = self.status
        self.probes = (*self.probes, result)[-KEPT_PROBES:]
        if result.exit_code == 0:
            self.status, self.failing_streak = HEALTHY, 0
        elif before != STARTING or not self._in_start_period(now_s):
            self.failing_streak += 1
            if self.failing_streak >= self._check.retries:
                self.status = UNHEALTHY
        self.due_s = now_s + self._interval_s(now_s)
        return self.status != before
