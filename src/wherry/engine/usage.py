"""``stats``: what a container uses: processor, memory, network, disk, processes.

Percentages are docker's: of the processor, 100 for each CPU that is busy all the time; of memory, of the limit, or of
the machine where there is none, without the page cache that could be given back at once.
Source: docker's command line reference, "docker container stats"; Linux, Documentation/admin-guide/cgroup-v{1/*,2}.rst.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from wherry.core.errors import WherryError
from wherry.core.value import Value

if TYPE_CHECKING:
    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths
    from wherry.runtime.cgroup import Cgroup

MAX_FILE_BYTES = 1 << 20
_NO_LIMIT = 1 << 62
"""From here on a limit is none: v1 writes the largest number of pages."""


class Sample(Value):
    """What a container has used until one moment."""

    at_ns: int
    cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    net_received_bytes: int = 0
    net_sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0


class Usage(Value):
    """What a container uses, between two samples."""

    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int
    memory_percent: float
    net_received_bytes: int
    net_sent_bytes: int
    read_bytes: int
    written_bytes: int
    pids: int


def between(before: Sample | None, now: Sample) -> Usage:
    """Returns the usage between two samples; without the first, no processor time is known."""
    elapsed_ns = now.at_ns - before.at_ns if before is not None else 0
    spent_ns = max(0, now.cpu_ns - before.cpu_ns) if before is not None else 0
    return Usage(
        cpu_percent=100.0 * spent_ns / elapsed_ns if elapsed_ns > 0 else 0.0,
        memory_bytes=now.memory_bytes,
        memory_limit_bytes=now.memory_limit_bytes,
        memory_percent=100.0 * now.memory_bytes / now.memory_limit_bytes if now.memory_limit_bytes else 0.0,
        net_received_bytes=now.net_received_bytes,
        net_sent_bytes=now.net_sent_bytes,
        read_bytes=now.read_bytes,
        written_bytes=now.written_bytes,
        pids=now.pids,
    )


def sample(paths: Paths, info: ContainerInfo) -> Sample | None:
    """Returns what a container has used until now; None when it does not run."""
    from wherry.engine.bundle import runtime_dir
    from wherry.runtime.state import load_state

    if not info.pid:
        return None
    try:
        group = load_state(runtime_dir(paths, info.id)).cgroup
        stats = group.stats()
    except (WherryError, OSError):
        return None  # it ended just now
    received, sent = _network(info.pid) if info.config.spec.network != "host" else (0, 0)
    read, written = _block(group)
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=stats.cpu_ns or 0,
        memory_bytes=max(0, (stats.memory_bytes or 0) - _reclaimable(group)),
        memory_limit_bytes=_memory_limit(group),
        net_received_bytes=received,
        net_sent_bytes=sent,
        read_bytes=read,
        written_bytes=written,
        pids=stats.pids or 0,
    )


def _path_of(group: Cgroup, controller: str) -> tuple[int, str] | None:
    for item in group.groups:
        if controller in item.controllers:
            return item.version, item.path
    return next(((2, item.path) for item in group.groups if item.version == 2 and controller == "io"), None)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return ""


def _reclaimable(group: Cgroup) -> int:
    found = _path_of(group, "memory")
    if found is None:
        return 0
    key = "total_inactive_file" if found[0] == 1 else "inactive_file"
    return keyed(_text(f"{found[1]}/memory.stat"), key)


def keyed(text: str, key: str) -> int:
    """Returns the number after a key at the beginning of a line; 0 when there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0


def _memory_limit(group: Cgroup) -> int:
    machine = keyed(_text("/proc/meminfo").replace("MemTotal:", "MemTotal ").replace(" kB", ""), "MemTotal") * 1024
    found = _path_of(group, "memory")
    if found is None:
        return machine
    text = _text(f"{found[1]}/{'memory.limit_in_bytes' if found[0] == 1 else 'memory.max'}").strip()
    limit = int(text) if text.isdigit() else _NO_LIMIT
    return min(limit, machine) if machine else limit


def _network(pid: int) -> tuple[int, int]:
    return parse_net_dev(_text(f"/proc/{pid}/net/dev"))


def parse_net_dev(text: str) -> tuple[int, int]:
    """Returns the bytes received and sent by all interfaces but loopback: proc_pid_net(5)."""
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def _block(group: Cgroup) -> tuple[int, int]:
    found = _path_of(group, "blkio")
    if found is not None:
        text = _text(f"{found[1]}/blkio.throttle.io_service_bytes_recursive")
        return parse_blkio(text or _text(f"{found[1]}/blkio.throttle.io_service_bytes"))
    found = _path_of(group, "io")
    return parse_io_stat(_text(f"{found[1]}/io.stat")) if found is not None else (0, 0)


def parse_blkio(text: str) -> tuple[int, int]:
    """Returns the bytes read and written: ``8:0 Read 4096`` (cgroup v1, blkio)."""
    sums = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in sums and fields[2].isdigit():
            sums[fields[1]] += int(fields[2])
    return sums["Read"], sums["Write"]


def parse_io_stat(text: str) -> tuple[int, int]:
    """Returns the bytes read and written: ``8:0 rbytes=4096 wbytes=0 ...`` (cgroup v2, io.stat)."""
    sums = {"rbytes": 0, "wbytes": 0}
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in sums and value.isdigit():
                sums[key] += int(value)
    return sums["rbytes"], sums["wbytes"]


def cpu_count() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))
