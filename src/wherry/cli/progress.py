"""Progress bars on a terminal, by rich; imported only when there is a terminal."""

from __future__ import annotations

import atexit
from threading import Lock

from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text


class _Amount(ProgressColumn):
    """How much is done: bytes with their rate, or so many of so many."""

    def render(self, task: Task) -> Text:
        """Returns the text."""
        if task.fields.get("unit") == "B":
            speed = task.finished_speed or task.speed
            rate = f", {decimal(int(speed))}/s" if speed else ""
            return Text(f"{decimal(int(task.completed))}{rate}", style="progress.download")
        total = "?" if task.total is None else f"{int(task.total)}"
        return Text(f"{int(task.completed)}/{total}", style="progress.download")


class Bars:
    """A ``core.progress.Progress`` that draws: one bar for each task, gone when it is done."""

    def __init__(self) -> None:
        from rich.console import Console

        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Amount(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._live = False
        self._lock = Lock()
        """Several threads tell what they do."""
        atexit.register(self._close)

    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Draws the state of one task."""
        with self._lock:
            if not self._live:
                self._bars.start()
                self._live = True
            if task not in self._tasks:
                self._tasks[task] = self._bars.add_task(task, total=total, unit=unit)
            self._bars.update(self._tasks[task], completed=done, total=total)
            if total is not None and done >= total:
                self._bars.remove_task(self._tasks.pop(task))

    def _close(self) -> None:
        if self._live:
            self._bars.stop()
            self._live = False
