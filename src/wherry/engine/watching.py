"""The health check of a container that runs: probes at their times, one after the other."""

from __future__ import annotations

import os
import time

from wherry.engine.health import Health
from wherry.engine.probe import Probe
from wherry.engine.spec import health_argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.loop import Loop
    from wherry.engine.records import ProbeResult, RunState
    from wherry.spec.container import Healthcheck

PAUSED = "paused"
"""The file in a container's run folder that says that it is."""
_PAUSED_CHECK_S = 1.0


class Watch:
    """Looks after the health of one run of a container.

    Args:
        loop: what it waits on.
        check: how health is told.
        run_dir: the container's run folder.
        start: runs a command in the container; see `Probe`.
        tell: called after each probe, with whether the status has changed.
        before: what another process knew of this run.
    """

    def __init__(
        self,
        loop: Loop,
        check: Healthcheck,
        run_dir: str | os.PathLike[str],
        *,
        start: Callable[[tuple[str, ...], tuple[int, int, int]], tuple[int, int]],
        tell: Callable[[Health, bool], None],
        before: RunState | None = None,
    ) -> None:
        self._loop, self._start, self._tell = loop, start, tell
        self._argv = health_argv(check)
        self._paused = os.path.join(run_dir, PAUSED)
        self._probe: Probe | None = None
        self.health = Health(check, time.monotonic())
        if before is not None and before.health:
            self.health.status, self.health.failing_streak = before.health, before.failing_streak
            self.health.probes = before.probes
        self._plan()

    def _plan(self) -> None:
        self._timer = self._loop.after(self.health.due_s - time.monotonic(), self._begin)

    def _begin(self) -> None:
        if os.path.exists(self._paused):
            self._timer = self._loop.after(_PAUSED_CHECK_S, self._begin)
            return
        self._probe = Probe(
            self._loop, lambda fds: self._start(self._argv, fds), timeout_s=self.health.timeout_s, done=self._on_probed
        )

    def _on_probed(self, result: ProbeResult) -> None:
        self._probe = None
        changed = self.health.record(result, time.monotonic())
        self._plan()
        self._tell(self.health, changed)

    def close(self) -> None:
        """Ends it, and the probe that runs."""
        self._timer.cancel()
        if self._probe is not None:
            self._probe.close()
            self._probe = None
