"""Commands timed against one another: one of each in every round, each round in another order, the rest thrown away.

A shared machine is slower in one minute than in the next, so that two blocks of runs cannot be compared; two commands
of one round can. Times are those of the whole process, from its start to its end, by the monotonic clock.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from wherry.core.errors import ToolError

_TAIL_BYTES = 400


class Row(NamedTuple):
    """What a command took, in milliseconds: of all runs the median and the least, and processor time."""

    name: str
    median_ms: float
    least_ms: float
    cpu_ms: float
    runs: int


class Command(NamedTuple):
    """A command line, and what is done around each run of it, untimed."""

    args: Sequence[str]
    after: Callable[[], object] | None = None
    status: int = 0


def run_once(command: Command) -> tuple[float, float]:
    """Runs a command, and returns its real time and its processor time with its children's, in seconds.

    Raises:
        ToolError: it ended with another status than it should.
    """
    log = os.memfd_create("log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    try:
        begin = time.perf_counter()
        pid = os.posix_spawnp(command.args[0], list(command.args), os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - begin
        if os.waitstatus_to_exitcode(status) != command.status:
            size = os.fstat(log).st_size
            said = os.pread(log, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace").strip()
            raise ToolError(f"exit status {os.waitstatus_to_exitcode(status)}: {said}", where=" ".join(command.args))
    finally:
        os.close(log)
    if command.after is not None:
        command.after()
    return seconds, usage.ru_utime + usage.ru_stime


def race(commands: Mapping[str, Command], *, rounds: int = 20, warmup: int = 2) -> list[Row]:
    """Times commands against one another.

    Args:
        commands: name -> command.
        rounds: how often each is run.
        warmup: rounds before those, not counted.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    names = list(commands)
    order = random.Random(0)
    for number in range(-warmup, rounds):
        order.shuffle(names)
        for name in names:
            taken = run_once(commands[name])
            if number >= 0:
                times[name].append(taken)
    return [
        Row(
            name,
            statistics.median(real for real, _ in found) * 1000,
            min(real for real, _ in found) * 1000,
            statistics.median(cpu for _, cpu in found) * 1000,
            len(found),
        )
        for name, found in times.items()
    ]


def print_rows(title: str, rows: Sequence[Row], *, base: str) -> None:
    """Prints a table; ratios of medians are to the row `base`."""
    unit = next((row.median_ms for row in rows if row.name == base), None)
    print(f"\n{title} ({rows[0].runs if rows else 0} runs each; ratio to {base})")
    print(f"  {'':<38}{'median':>10}{'min':>10}{'cpu':>10}{'ratio':>8}")
    for row in rows:
        ratio = f"{row.median_ms / unit:>7.2f}x" if unit else ""
        print(f"  {row.name:<38}{row.median_ms:>7.1f} ms{row.least_ms:>7.1f} ms{row.cpu_ms:>7.1f} ms{ratio}")
