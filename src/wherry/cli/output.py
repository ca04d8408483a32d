"""How commands print: tables that fit, JSON that a script can read."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from wherry.core.units import format_duration

MIN_WIDTH = 8
"""What is left of a column that gives way."""


def print_json(value: Any) -> None:
    """Prints a dataclass, a list of them or any JSON value as indented JSON."""
    from wherry.core.jsonio import pretty
    from wherry.spec.codec import encode

    print(pretty(encode(value)))


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, shrink: int | Sequence[int] | None = None
) -> None:
    """Prints columns as docker does; on a terminal too narrow for them the columns `shrink` are cut short.

    Args:
        head: the column titles, upper case.
        rows: cells as text.
        shrink: index of the column that gives way, or of several, the first to give way first; None: the widest.
    """
    table = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[index]) for row in table) for index in range(len(head))]
    if sys.stdout.isatty():
        import shutil

        spare = shutil.get_terminal_size((80, 24)).columns - 2 * (len(widths) - 1) - sum(widths)
        columns = (widths.index(max(widths)),) if shrink is None else (shrink,) if isinstance(shrink, int) else shrink
        for column in columns:
            if spare < 0:
                narrow = max(min(MIN_WIDTH, widths[column]), widths[column] + spare)
                spare += widths[column] - narrow
                widths[column] = narrow
    for row in table:
        cells = []
        for width, cell in zip(widths, row, strict=True):
            cells.append(cell if len(cell) <= width else cell[: width - 1] + "…")
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def note(text: str, *, quiet: bool = False) -> None:
    """Tells the person something that is not the command's output."""
    if not quiet:
        print(text, file=sys.stderr)


def ago(time_s: float | None) -> str:
    """Returns how long ago a time was, for a table; "never" for None."""
    if time_s is None:
        return "never"
    return f"{format_duration(max(0.0, time.time() - time_s))} ago"
