"""The lines of containers as ``up`` and ``logs`` show them: with the container's name before each, in its colour."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.cli.compose_context import COLOURS, chosen
from wherry.engine.compose import labels

if TYPE_CHECKING:
    from wherry.engine.info import ContainerInfo
    from wherry.engine.logs import LogEntry


def label_of(info: ContainerInfo) -> str:
    """Returns what stands before a container's lines: its name without the project's."""
    return info.name.removeprefix(f"{info.labels.get(labels.PROJECT, '')}-")


class Lines:
    """Writes lines to standard output.

    Args:
        labels: of those that are known to come, for the width.
        colour: None: as the terminal is.
        prefix: whether the name stands before a line.
        timestamps: whether the time does.
    """

    def __init__(
        self, labels: Iterable[str] = (), *, colour: bool | None = None, prefix: bool = True, timestamps: bool = False
    ) -> None:
        self._width = max(map(len, labels), default=0)
        self._colour = chosen().colour(sys.stdout) if colour is None else colour
        self._prefix, self._timestamps = prefix, timestamps
        self._colours: dict[str, int] = {}

    def show(self, info: ContainerInfo, entry: LogEntry) -> None:
        """Writes a line of a container."""
        from wherry.engine.logwriter import format_time

        head = f"{format_time(entry.time_s)} " if self._timestamps else ""
        self.write(label_of(info), head.encode() + entry.data)

    def write(self, label: str, data: bytes) -> None:
        """Writes one line with its label."""
        if not data.endswith(b"\n"):
            data += b"\n"
        if self._prefix:
            self._width = max(self._width, len(label))
            head = f"{label.ljust(self._width)}  | "
            if self._colour:
                code = self._colours.setdefault(label, COLOURS[len(self._colours) % len(COLOURS)])
                head = f"\033[{code}m{head}\033[0m"
            data = head.encode() + data
        sys.stdout.flush()
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
