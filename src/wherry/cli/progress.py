"""Progress bars on a terminal, by rich; imported only when there is a terminal."""

from __future__ import annotations

import atexit

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress


class Bars:
    """A ``core.progress.Progress`` that draws: one bar for each task, gone when it is done."""

    def __init__(self) -> None:
        from rich.console import Console

        console = Console(stderr=True)
        head = (TextColumn("{task.description}"), BarColumn(bar_width=24))
        self._bytes = RichProgress(
            *head, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True
        )
        self._items = RichProgress(*head, MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)
        self._tasks: dict[str, tuple[RichProgress, TaskID]] = {}
        self._live: RichProgress | None = None
        atexit.register(self._close)

    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Draws the state of one task."""
        bars = self._bytes if unit == "B" else self._items
        if self._live is not bars:
            self._close()
            bars.start()
            self._live = bars
        if task not in self._tasks or self._tasks[task][0] is not bars:
            self._tasks[task] = (bars, bars.add_task(task, total=total))
        bars.update(self._tasks[task][1], completed=done, total=total)
        if total is not None and done >= total:
            bars.remove_task(self._tasks.pop(task)[1])

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
