"""What a container uses, as its control groups count it; and the same as runc's ``events --stats`` tells it.

A number that this host does not count is None, a list is empty. Pressure (PSI) is absent where the kernel has none, or
booted without it. Files are read one after the other: the numbers are not of one moment.
Source: Documentation/admin-guide/cgroup-v1/*.rst, cgroup-v2.rst, Documentation/accounting/psi.rst of Linux 6.12.
"""

from __future__ import annotations

import os

from wherry.core.value import EMPTY, Value
from wherry.runtime.cgroup_files import UNLIMITED_FROM, keyed, limit, number, numbers, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_NO_LIMIT = (1 << 64) - 1
"""How runc writes that there is no limit."""
_NS_PER_US = 1000
_NS_PER_S = 1_000_000_000
_BLOCK_KEYS = {
    "rbytes": "Read",
    "wbytes": "Write",
    "dbytes": "Discard",
    "rios": "Read",
    "wios": "Write",
    "dios": "Discard",
}


class Stall(Value):
    """How long tasks waited: percentages of the last seconds, and all of it."""

    avg10: float
    avg60: float
    avg300: float
    total_us: int


class Pressure(Value):
    """Waiting for one resource: of some tasks, of all tasks at once; ``full`` is None where it is not told."""

    some: Stall
    full: Stall | None


class CpuUsage(Value):
    """Time on CPUs, in nanoseconds, and how often the quota was used up."""

    total_ns: int | None = None
    user_ns: int | None = None
    system_ns: int | None = None
    per_cpu_ns: tuple[int, ...] = ()
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    pressure: Pressure | None = None


class MemoryUsage(Value):
    """Memory, in bytes."""

    usage_bytes: int | None = None
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    """None without one."""
    failures: int | None = None
    """How often the limit was reached."""
    swap_bytes: int | None = None
    """Swap alone."""
    swap_limit_bytes: int | None = None
    """Of swap alone; None without one."""
    swap_failures: int | None = None
    cache_bytes: int | None = None
    inactive_file_bytes: int = 0
    kernel_bytes: int | None = None
    kernel_tcp_bytes: int | None = None
    oom_kills: int | None = None
    raw: Mapping[str, int] = EMPTY
    """``memory.stat`` as it is."""
    pressure: Pressure | None = None

    @property
    def working_bytes(self) -> int | None:
        """What docker shows: without cached files that nobody used lately."""
        return None if self.usage_bytes is None else max(0, self.usage_bytes - self.inactive_file_bytes)


class BlockUsage(Value):
    """One number of one block device."""

    major: int
    minor: int
    operation: str
    """``Read``, ``Write``, ``Sync``, ``Async``, ``Discard`` or ``Total``, as version 1 names them."""
    value: int


class HugepageUsage(Value):
    """Huge pages of one size, in bytes."""

    page_size: str
    usage_bytes: int
    peak_bytes: int | None
    failures: int | None


class Usage(Value):
    """All of it."""

    cpu: CpuUsage = CpuUsage()
    memory: MemoryUsage = MemoryUsage()
    pids: int | None = None
    pids_limit: int | None = None
    block_bytes: tuple[BlockUsage, ...] = ()
    block_operations: tuple[BlockUsage, ...] = ()
    block_pressure: Pressure | None = None
    hugepages: tuple[HugepageUsage, ...] = ()

    def block_total(self, operation: str) -> int:
        """Returns the bytes of all devices for ``Read`` or ``Write``."""
        return sum(item.value for item in self.block_bytes if item.operation == operation)


def read_usage(paths: Mapping[str, tuple[int, str]], v2: str | None) -> Usage:
    """Reads what groups tell.

    Args:
        paths: controller -> (version, directory).
        v2: the directory of version 2, if there is one: it counts CPU time and pressure without any controller.
    """
    pids = paths.get("pids")
    return Usage(
        cpu=_cpu(paths, v2),
        memory=_memory(paths, v2),
        pids=None if pids is None else number(pids[1], "pids.current"),
        pids_limit=None if pids is None else limit(pids[1], "pids.max"),
        block_bytes=_block(paths, "bytes"),
        block_operations=_block(paths, "ios"),
        block_pressure=_pressure(v2, "io"),
        hugepages=_hugepages(paths),
    )


def _cpu(paths: Mapping[str, tuple[int, str]], v2: str | None) -> CpuUsage:
    version, directory = paths.get("cpuacct", (2, ""))
    scheduler = paths.get("cpu")
    if version == 1:
        stat = numbers(read(directory, "cpuacct.stat"))
        tick_ns = _NS_PER_S // os.sysconf("SC_CLK_TCK")
        throttled = {} if scheduler is None else numbers(read(scheduler[1], "cpu.stat"))
        return CpuUsage(
            total_ns=number(directory, "cpuacct.usage"),
            user_ns=_times(stat.get("user"), tick_ns),
            system_ns=_times(stat.get("system"), tick_ns),
            per_cpu_ns=tuple(int(item) for item in read(directory, "cpuacct.usage_percpu").split()),
            periods=throttled.get("nr_periods"),
            throttled_periods=throttled.get("nr_throttled"),
            throttled_ns=throttled.get("throttled_time"),
            pressure=_pressure(v2, "cpu"),
        )
    stat = {} if v2 is None else numbers(read(v2, "cpu.stat"))
    return CpuUsage(
        total_ns=_times(stat.get("usage_usec"), _NS_PER_US),
        user_ns=_times(stat.get("user_usec"), _NS_PER_US),
        system_ns=_times(stat.get("system_usec"), _NS_PER_US),
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_ns=_times(stat.get("throttled_usec"), _NS_PER_US),
        pressure=_pressure(v2, "cpu"),
    )


def _memory(paths: Mapping[str, tuple[int, str]], v2: str | None) -> MemoryUsage:
    if "memory" not in paths:
        return MemoryUsage(pressure=_pressure(v2, "memory"))
    version, path = paths["memory"]
    raw = numbers(read(path, "memory.stat"))
    if version == 1:
        usage, both = number(path, "memory.usage_in_bytes"), number(path, "memory.memsw.usage_in_bytes")
        most, most_both = limit(path, "memory.limit_in_bytes"), limit(path, "memory.memsw.limit_in_bytes")
        return MemoryUsage(
            usage_bytes=usage,
            peak_bytes=number(path, "memory.max_usage_in_bytes"),
            limit_bytes=most,
            failures=number(path, "memory.failcnt"),
            swap_bytes=None if usage is None or both is None else max(0, both - usage),
            swap_limit_bytes=None if most is None or most_both is None else most_both - most,
            swap_failures=number(path, "memory.memsw.failcnt"),
            cache_bytes=raw.get("total_cache", raw.get("cache")),
            inactive_file_bytes=raw.get("total_inactive_file", 0),
            kernel_bytes=number(path, "memory.kmem.usage_in_bytes"),
            kernel_tcp_bytes=number(path, "memory.kmem.tcp.usage_in_bytes"),
            oom_kills=keyed(read(path, "memory.oom_control"), "oom_kill"),
            raw=raw,
            pressure=_pressure(v2, "memory"),
        )
    events = numbers(read(path, "memory.events"))
    return MemoryUsage(
        usage_bytes=number(path, "memory.current"),
        peak_bytes=number(path, "memory.peak"),
        limit_bytes=limit(path, "memory.max"),
        failures=events.get("max"),
        swap_bytes=number(path, "memory.swap.current"),
        swap_limit_bytes=limit(path, "memory.swap.max"),
        swap_failures=keyed(read(path, "memory.swap.events"), "max"),
        cache_bytes=raw.get("file"),
        inactive_file_bytes=raw.get("inactive_file", 0),
        kernel_bytes=raw.get("kernel"),
        kernel_tcp_bytes=raw.get("sock"),
        oom_kills=events.get("oom_kill"),
        raw=raw,
        pressure=_pressure(v2, "memory"),
    )


def _block(paths: Mapping[str, tuple[int, str]], what: str) -> tuple[BlockUsage, ...]:
    if "blkio" in paths and paths["blkio"][0] == 1:
        name = "io_service_bytes" if what == "bytes" else "io_serviced"
        lines = [line.split() for line in read(paths["blkio"][1], f"blkio.throttle.{name}_recursive").splitlines()]
        found = [(*fields[0].split(":"), fields[1], fields[2]) for fields in lines if len(fields) == 3]
        return tuple(
            BlockUsage(major=int(major), minor=int(minor), operation=operation, value=int(value))
            for major, minor, operation, value in found
        )
    if "io" not in paths:
        return ()
    uses = []
    for line in read(paths["io"][1], "io.stat").splitlines():
        device, *items = line.split()
        major, _, minor = device.partition(":")
        for item in items:
            key, _, value = item.partition("=")
            if key.endswith(what) and key in _BLOCK_KEYS and minor.isdigit():
                operation = _BLOCK_KEYS[key]
                uses.append(BlockUsage(major=int(major), minor=int(minor), operation=operation, value=int(value)))
    return tuple(uses)


def _hugepages(paths: Mapping[str, tuple[int, str]]) -> tuple[HugepageUsage, ...]:
    if "hugetlb" not in paths:
        return ()
    version, path = paths["hugetlb"]
    used = "usage_in_bytes" if version == 1 else "current"
    found = []
    for name in sorted(os.listdir(path)):
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == used:
            prefix = f"hugetlb.{parts[1]}"
            events = None if version == 1 else keyed(read(path, f"{prefix}.events"), "max")
            found.append(
                HugepageUsage(
                    page_size=parts[1],
                    usage_bytes=number(path, name) or 0,
                    peak_bytes=number(path, f"{prefix}.max_usage_in_bytes") if version == 1 else None,
                    failures=number(path, f"{prefix}.failcnt") if version == 1 else events,
                )
            )
    return tuple(found)


def _pressure(v2: str | None, what: str) -> Pressure | None:
    return None if v2 is None else parse_pressure(read(v2, f"{what}.pressure"))


def parse_pressure(text: str) -> Pressure | None:
    """Returns the pressure in the text of a ``*.pressure`` file; None when it is empty."""
    found: dict[str, Stall] = {}
    for line in text.splitlines():
        kind, *items = line.split()
        values = dict(item.split("=", 1) for item in items if "=" in item)
        found[kind] = Stall(
            avg10=float(values["avg10"]),
            avg60=float(values["avg60"]),
            avg300=float(values["avg300"]),
            total_us=int(values["total"]),
        )
    return Pressure(some=found["some"], full=found.get("full")) if "some" in found else None


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def runc_stats(container_id: str, usage: Usage) -> dict[str, Any]:
    """Returns the line of ``runc events --stats``: JSON names, units and the marks for "no limit" as runc has them."""
    cpu, memory = usage.cpu, usage.memory
    both = None if memory.usage_bytes is None else memory.usage_bytes + (memory.swap_bytes or 0)
    both_limit = _NO_LIMIT
    if memory.limit_bytes is not None and memory.swap_limit_bytes is not None:
        both_limit = memory.limit_bytes + memory.swap_limit_bytes
    data: dict[str, Any] = {
        "cpu": {
            "usage": {
                "total": cpu.total_ns or 0,
                **({"percpu": list(cpu.per_cpu_ns)} if cpu.per_cpu_ns else {}),
                "kernel": cpu.system_ns or 0,
                "user": cpu.user_ns or 0,
            },
            "throttling": {
                "periods": cpu.periods or 0,
                "throttledPeriods": cpu.throttled_periods or 0,
                "throttledTime": cpu.throttled_ns or 0,
            },
            **_psi(cpu.pressure),
        },
        "memory": {
            "cache": memory.cache_bytes or 0,
            "usage": _counter(memory.usage_bytes, memory.peak_bytes, memory.failures, memory.limit_bytes),
            "swap": _counter(both, None, memory.swap_failures, both_limit),
            "kernel": _counter(memory.kernel_bytes, None, None, None),
            "kernelTCP": _counter(memory.kernel_tcp_bytes, None, None, None),
            "raw": dict(memory.raw),
            **_psi(memory.pressure),
        },
        "pids": {"current": usage.pids or 0, "limit": usage.pids_limit or 0},
        "blkio": {
            "ioServiceBytesRecursive": [_block_entry(item) for item in usage.block_bytes],
            "ioServicedRecursive": [_block_entry(item) for item in usage.block_operations],
            **_psi(usage.block_pressure),
        },
        "hugetlb": {
            page.page_size: {"usage": page.usage_bytes, "max": page.peak_bytes or 0, "failcnt": page.failures or 0}
            for page in usage.hugepages
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }
    return {"type": "stats", "id": container_id, "data": data}


def _counter(usage: int | None, peak: int | None, failures: int | None, most: int | None) -> dict[str, int]:
    return {
        "limit": _NO_LIMIT if most is None or most >= UNLIMITED_FROM else most,
        "usage": usage or 0,
        "max": peak or 0,
        "failcnt": failures or 0,
    }


def _block_entry(item: BlockUsage) -> dict[str, int | str]:
    return {"major": item.major, "minor": item.minor, "op": item.operation, "value": item.value}


def _psi(pressure: Pressure | None) -> dict[str, Any]:
    if pressure is None:
        return {}

    def stall(found: Stall | None) -> dict[str, float | int]:
        if found is None:
            return {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0}
        return {"avg10": found.avg10, "avg60": found.avg60, "avg300": found.avg300, "total": found.total_us}

    return {"psi": {"some": stall(pressure.some), "full": stall(pressure.full)}}
