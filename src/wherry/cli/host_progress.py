"""How the build of a host goes on: its steps, their times and the end of the log, drawn on a terminal, else lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

from wherry.core.units import format_size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from wherry.build.executing import Result, Watcher
    from wherry.build.steps import Step

SHOWN_LINES = 6
_QUICK_S = 0.05


def watcher(*, quiet: bool, verbose: bool) -> Watcher:
    """Returns what shows a build: live on a terminal, a line for each step elsewhere, nothing if it is to be quiet."""
    if not quiet and not verbose and sys.stderr.isatty():
        return Live()
    return Plain(quiet=quiet, verbose=verbose)


class Plain:
    """A line for each step; with `verbose` every line of its log, too."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet = quiet
        self._verbose = verbose

    def begins(self, step: Step, number: int, count: int) -> None:
        """Says which step it is."""
        self._say(f"=> [{number}/{count}] {step.name}: {step.what}")

    def says(self, step: Step, line: str) -> None:
        """Says what came into its log."""
        if self._verbose and not self._quiet:
            self._say(f"   {step.name} | {line}")

    def ends(self, result: Result) -> None:
        """Says how long it took."""
        if result.cached:
            self._say(f"=> {result.step.name}: kept")
        elif result.seconds >= _QUICK_S:
            self._say(f"   {result.step.name}: {result.seconds:.1f} s, {format_size(result.size_bytes)}")

    def close(self) -> None:
        """Does nothing: all is said."""

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)


class Live:
    """Steps with their times, and the last lines of the log of the one that goes on, redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive(self, console=self._console, refresh_per_second=8, transient=True)
        self._tail: deque[str] = deque(maxlen=SHOWN_LINES)
        self._step: Step | None = None
        self._title = ""
        self._began = 0.0
        self._lock = Lock()
        self._started = False

    def begins(self, step: Step, number: int, count: int) -> None:
        """Shows a step."""
        with self._lock:
            self._step = step
            self._title = f"[{number}/{count}] {step.what}"
            self._began = time.monotonic()
            self._tail.clear()
        if not self._started:
            self._live.start()
            self._started = True

    def says(self, step: Step, line: str) -> None:
        """Shows a line of its log."""
        del step
        with self._lock:
            self._tail.append(line.rstrip()[:400])

    def ends(self, result: Result) -> None:
        """Leaves a line of a step that is done."""
        from rich.text import Text

        with self._lock:
            self._step = None
        line = Text()
        line.append("✓ ", style="green")
        line.append(f"{result.step.name:<14}")
        line.append(f"{result.step.what:<44.44}", style="dim")
        line.append("   kept" if result.cached else f"{result.seconds:7.1f} s {format_size(result.size_bytes):>9}")
        self._console.print(line, no_wrap=True, overflow="crop")

    def close(self) -> None:
        """Takes the picture away."""
        if self._started:
            self._live.stop()
            self._started = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the step that goes on."""
        from rich.spinner import Spinner
        from rich.text import Text

        with self._lock:
            if self._step is None:
                return
            elapsed = time.monotonic() - self._began
            yield Spinner("dots", text=Text(f"{self._title}  {elapsed:.0f} s"), style="cyan")
            for line in self._tail:
                yield Text(f"  │ {line}", style="dim", no_wrap=True, overflow="ellipsis")
