"""Named trace points: the places between two durable steps where a test may stop the world.

A module calls ``reach("package.step")`` where the order of effects matters. In normal life that is one
comparison. A test arms a point through the command line (``WHERRY_TRACE``, read in ``cli/``) to be killed
there as by a power cut, to pause, or to fail. A process that is started anew is handed `text` on.
"""

from __future__ import annotations

import os

from wherry.core.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

text = ""
"""What points were armed by, if by a text."""
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


def arm_by_text(words: str) -> None:
    """Arms points by a text: comma-separated items of these forms.

    ``POINT=kill``, ``POINT=kill:FILE`` (once: whoever removes the file is killed), ``POINT=sleep:SECONDS``,
    ``log:FILE``.

    Raises:
        UsageError: an item is none of them.
    """
    global text
    text = words
    for item in words.split(","):
        point, _, action = item.partition("=")
        if item.startswith("log:"):
            observe(_logger(os.open(item[4:], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)))
        elif action == "kill":
            arm(point, _kill)
        elif action.startswith("kill:"):
            arm(point, _killer(action[5:]))
        elif action.startswith("sleep:"):
            arm(point, _sleeper(float(action[6:])))
        elif item:
            raise UsageError(f"WHERRY_TRACE: not POINT=kill, POINT=sleep:S or log:FILE: {item!r}")


def _kill() -> None:
    os.kill(os.getpid(), 9)


def _killer(path: str) -> Callable[[], None]:
    def kill_once() -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        _kill()

    return kill_once


def _sleeper(seconds: float) -> Callable[[], None]:
    import time

    return lambda: time.sleep(seconds)


def _logger(fd: int) -> Callable[[str], None]:
    def write(point: str) -> None:
        os.write(fd, f"{point}\n".encode())

    return write
