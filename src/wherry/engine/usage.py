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
from wherry.core.value import Value, replace

if TYPE_CHECKING:
    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths

MAX_FILE_BYTES = 1 << 20


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
        cgroup = load_state(runtime_dir(paths, info.id)).cgroup
        used = cgroup.usage()
    except (WherryError, OSError):
        return None  # it ended just now
    received, sent = (0, 0) if info.config.spec.network == "host" else parse_net_dev(_text(f"/proc/{info.pid}/net/dev"))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not cgroup.groups:
        return replace(
            _of_processes(info.pid), memory_limit_bytes=machine, net_received_bytes=received, net_sent_bytes=sent
        )
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=used.cpu.total_ns or 0,
        memory_bytes=used.memory.working_bytes or 0,
        memory_limit_bytes=min(machine, used.memory.limit_bytes or machine),
        net_received_bytes=received,
        net_sent_bytes=sent,
        read_bytes=used.block_total("Read"),
        written_bytes=used.block_total("Write"),
        pids=used.pids or 0,
    )


def _of_processes(pid: int) -> Sample:
    """Returns what the processes of a container use that has no control groups; what ended meanwhile is not counted."""
    from wherry.engine.processes import of_namespace

    tick_ns, page = 1_000_000_000 // os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    pids = of_namespace(pid)
    cpu_ns = memory = 0
    for number in pids:
        fields = _text(f"/proc/{number}/stat").rpartition(")")[2].split()
        pages = _text(f"/proc/{number}/statm").split()
        if len(fields) > 14 and len(pages) > 2:  # proc_pid_stat(5): utime, stime and those of children waited for
            cpu_ns += sum(int(fields[index]) for index in (11, 12, 13, 14)) * tick_ns
            memory += (int(pages[1]) - int(pages[2])) * page
    return Sample(at_ns=time.monotonic_ns(), cpu_ns=cpu_ns, memory_bytes=memory, pids=len(pids))


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return ""


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
