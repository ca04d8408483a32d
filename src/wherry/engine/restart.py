"""When a container that ended is started again, and how long to wait before: docker's rules, as values."""

from __future__ import annotations

from wherry.spec.container import RestartName, RestartPolicy

FIRST_DELAY_S = 0.1
MOST_DELAY_S = 60.0
CALM_S = 10.0
"""After having been up that long, the next failure is waited for as if it were the first."""


def wants_restart(policy: RestartPolicy, *, exit_code: int, restarts: int, stopped: bool) -> bool:
    """Tells whether a container is to be started again.

    Args:
        policy: the container's.
        exit_code: how it ended.
        restarts: how often it was restarted so far.
        stopped: whether somebody asked for the end.
    """
    if stopped or policy.name == RestartName.NO:
        return False
    if policy.name == RestartName.ON_FAILURE:
        return exit_code != 0 and (policy.max_retries == 0 or restarts < policy.max_retries)
    return True


class Backoff:
    """The delay before each restart: 100 ms, doubled each time, one minute at most."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def delay_s(self, up_s: float) -> float:
        """Returns how long to wait after a run that lasted `up_s`."""
        if up_s >= CALM_S:
            self._next_s = FIRST_DELAY_S
        delay = self._next_s
        self._next_s = min(self._next_s * 2, MOST_DELAY_S)
        return delay
