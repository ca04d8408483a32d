"""Named trace points: the places between two durable steps where a test may stop the world.

A module calls ``reach("package.step")`` where the order of effects matters. In normal life that is one
comparison. A test arms a point through the command line (``WHERRY_TRACE``, read in ``cli/``) to be killed
there as by a power cut, to pause, or to fail.
"""

from __future__ import annotations

from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}
_observer: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Says that the program is at the trace point `point`."""
    if _observer is not None:
        _observer(point)
    if _armed:
        action = _armed.get(point)
        if action is not None:
            action()


def arm(point: str, action: Callable[[], None]) -> None:
    """Has `action` called when `point` is reached."""
    _armed[point] = action


def observe(observer: Callable[[str], None] | None) -> None:
    """Has `observer` called with the name of every point that is reached; None ends it."""
    global _observer
    _observer = observer


def disarm() -> None:
    """Forgets every armed point."""
    _armed.clear()
