"""What an engine's own processes cost while containers idle: resident and private memory, in KiB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Sums over processes: resident, proportional and private (``smaps_rollup``, proc_pid_smaps(5))."""

    processes: int
    resident_kib: int
    proportional_kib: int
    private_kib: int


def of_processes(wanted: Callable[[str, str], bool]) -> Memory:
    """Adds up the memory of processes.

    Args:
        wanted: tells by a process's name and command line whether it belongs to the engine.
    """
    found = [0, 0, 0, 0]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not wanted(name, line):
                continue
            lines = (entry / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue  # it ended meanwhile
        sizes = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in lines)}
        found[0] += 1
        found[1] += sizes["Rss"]
        found[2] += sizes["Pss"]
        found[3] += sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(*found)
