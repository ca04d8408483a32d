"""The output of several containers as one, each line with the name of the container before it; and their ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from wherry.core.errors import WherryError
from wherry.core.value import Value
from wherry.engine.compose.project import Member
from wherry.engine.engine import Engine
from wherry.engine.info import EXIT_KILLED, ContainerInfo
from wherry.engine.logs import LogEntry

Show = Callable[[ContainerInfo, LogEntry], None]


class Ended(Value):
    """A container that is followed has ended."""

    info: ContainerInfo
    exit_code: int


class Following:
    """Follows containers, each in a thread of its own, as every log is waited for by itself.

    Args:
        engine: of the containers.
        show: given each line; never two at once.
        since_s: only what is newer.
    """

    def __init__(self, engine: Engine, show: Show, *, since_s: float | None = None) -> None:
        self._engine, self._show, self._since_s = engine, show, since_s
        self._lock = threading.Lock()
        self.news: SimpleQueue[object] = SimpleQueue()
        """Gets an `Ended` for each; others may put into it what they wait for."""
        self.alive: dict[str, ContainerInfo] = {}

    def add(self, info: ContainerInfo, *, tail: int | None = None) -> None:
        """Begins to follow a container; nothing happens when it is followed already."""
        if info.id in self.alive:
            return
        self.alive[info.id] = info
        threading.Thread(target=self._follow, args=(info, tail), daemon=True).start()

    def _follow(self, info: ContainerInfo, tail: int | None) -> None:
        code = EXIT_KILLED
        try:
            for entry in self._engine.logs(info.id, follow=True, tail=tail, since=self._since_s):
                with self._lock:
                    self._show(info, entry)
            code = self._engine.wait(info.id)
        except (WherryError, OSError):
            pass  # it was removed, or the reader of our output is gone: the main thread meets that, too
        finally:
            self.news.put(Ended(info=info, exit_code=code))

    def ended(self, info: ContainerInfo) -> None:
        """Takes note of an end that came out of `news`."""
        self.alive.pop(info.id, None)


def in_order(engine: Engine, found: Iterable[Member], *, tail: int | None, since_s: float | None, show: Show) -> None:
    """Shows what containers have printed, by time."""
    every: list[tuple[float, int, ContainerInfo, LogEntry]] = []
    for index, member in enumerate(found):
        for entry in engine.logs(member.info.id, tail=tail, since=since_s):
            every.append((entry.time_s, index, member.info, entry))
    every.sort(key=lambda item: item[:2])
    for _, _, info, entry in every:
        show(info, entry)
