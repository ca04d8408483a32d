"""Limits as files of version 2: one function for each controller, and the conversions of values made for version 1.

The conversions are runc 1.2's and crun's: see `weight_of_shares`, `weight_of_block_weight` and `_limit_and_swap`.
Source: Documentation/admin-guide/cgroup-v2.rst of Linux 6.12; Runtime Specification 1.2.0, config-linux.md.
"""

from __future__ import annotations

import errno

from wherry.core.errors import InvalidInput, Unsupported
from wherry.runtime.cgroup_check import MAX_SHARES, MAX_WEIGHT, MIN_SHARES, MIN_WEIGHT
from wherry.runtime.cgroup_files import limit, read, there, write
from wherry.runtime.cgroup_v1 import cpuset as cpuset
from wherry.runtime.cgroup_v1 import hugepages, pids, rdma, refuse_below_usage, throttles
from wherry.runtime.resources import UNLIMITED, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma", "unified", "weight_of_block_weight"]

_DEFAULT_PERIOD_US = 100_000
_MAX_V2_WEIGHT = 10_000


def weight_of_shares(shares: int) -> int:
    """Returns cpu.weight (1 to 10000) for cpu.shares (2 to 262144), by the straight line of runc 1.2."""
    span = MAX_SHARES - MIN_SHARES
    return 1 + (min(max(shares, MIN_SHARES), MAX_SHARES) - MIN_SHARES) * (_MAX_V2_WEIGHT - 1) // span


def weight_of_block_weight(weight: int) -> int:
    """Returns io.weight (1 to 10000) for blkio.weight (10 to 1000), by a straight line."""
    return 1 + (weight - MIN_WEIGHT) * (_MAX_V2_WEIGHT - 1) // (MAX_WEIGHT - MIN_WEIGHT)


def memory(path: str, resources: Resources) -> None:
    """Sets limits of memory.

    Raises:
        Unsupported: a limit is asked for that version 2 has no file for.
    """
    for field, what in (
        ("memory_kernel_bytes", "a limit of kernel memory"),
        ("memory_kernel_tcp_bytes", "a limit of TCP memory"),
        ("memory_swappiness", "a swappiness of its own"),
    ):
        if getattr(resources, field) is not None:
            raise Unsupported(f"control groups of version 2 have no {what.removeprefix('a ')}", where=field)
    if resources.memory_disable_oom_killer:
        raise Unsupported("control groups of version 2 always kill for lack of memory", where="disableOOMKiller")
    if resources.memory_use_hierarchy is False:
        raise Unsupported("control groups of version 2 always count what is below", where="useHierarchy")
    _limit_and_swap(path, resources)
    if resources.memory_reservation_bytes is not None:
        write(path, "memory.low", _max(resources.memory_reservation_bytes))


def _limit_and_swap(path: str, resources: Resources) -> None:
    """Version 2 counts swap alone, where the specification gives memory and swap together."""
    most, both = resources.memory_limit_bytes, resources.memory_swap_bytes
    if most is None and both is None:
        return
    swap: int | None = None
    if both == UNLIMITED:
        swap = UNLIMITED
    elif both == 0 and most is None:
        swap = 0  # no swap at all, as crun reads it
    elif both is not None:
        base = limit(path, "memory.max") if most is None else most
        if base is None or base == UNLIMITED:
            raise InvalidInput("a swap limit needs a memory limit")
        if both < base:
            raise InvalidInput(f"memory and swap together ({both}) cannot be less than memory ({base})")
        swap = both - base
    elif most == UNLIMITED and there(path, "memory.swap.max"):
        swap = UNLIMITED
    if most is not None and resources.memory_check_before_update:
        refuse_below_usage(path, "memory.current", most)
    if swap is not None:
        if there(path, "memory.swap.max"):
            write(path, "memory.swap.max", _max(swap))
        elif swap not in (0, UNLIMITED):
            raise Unsupported("this kernel does not account for swap", where=f"{path}/memory.swap.max")
    if most is not None:
        write(path, "memory.max", _max(most))


def cpu(path: str, resources: Resources) -> None:
    """Sets weight, idle, and the quota with its period and burst."""
    if resources.cpu_realtime_period_us or resources.cpu_realtime_runtime_us:
        raise Unsupported("control groups of version 2 have no limits of real time", where="cpu.realtimeRuntime")
    if resources.cpu_idle is not None:
        if there(path, "cpu.idle"):
            write(path, "cpu.idle", str(resources.cpu_idle))
        elif resources.cpu_idle:
            raise Unsupported("this kernel has no cpu.idle", hint="Linux 5.15 has it")
    if resources.cpu_shares and not resources.cpu_idle:  # an idle group takes no weight
        write(path, "cpu.weight", str(weight_of_shares(resources.cpu_shares)))
    burst = resources.cpu_burst_us
    late = burst is not None and not _written(path, str(burst))
    quota, period = resources.cpu_quota_us, resources.cpu_period_us or None
    if quota is not None or period is not None:
        now = [] if quota is not None and period is not None else read(path, "cpu.max").split()
        first = now[0] if quota is None and now else ("max" if quota is None or quota <= 0 else str(quota))
        second = str(period) if period is not None else (now[1] if len(now) > 1 else str(_DEFAULT_PERIOD_US))
        write(path, "cpu.max", f"{first} {second}")
    if late:
        write(path, "cpu.max.burst", str(burst))


def _written(path: str, burst: str) -> bool:
    try:
        write(path, "cpu.max.burst", burst)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Unsupported("this kernel has no cpu.max.burst", hint="Linux 5.15 has it") from None
        if error.errno != errno.EINVAL:
            raise
        return False  # more than the quota before
    return True


def io(path: str, resources: Resources) -> None:
    """Sets weights and throttles of block devices."""
    if resources.block_leaf_weight or any(item.leaf_weight for item in resources.block_device_weights):
        raise Unsupported("control groups of version 2 have no leaf weights", where="blockIO.leafWeight")
    if resources.block_weight:
        name, convert = _weight_file(path)
        write(path, name, f"{convert(resources.block_weight)}")
    for item in resources.block_device_weights:
        if item.weight:
            name, convert = _weight_file(path)
            write(path, name, f"{item.major}:{item.minor} {convert(item.weight)}")
    for key, throttle in throttles(resources, ("rbps", "wbps", "riops", "wiops")):
        write(path, "io.max", f"{throttle.major}:{throttle.minor} {key}={throttle.rate or 'max'}")


def _weight_file(path: str) -> tuple[str, Callable[[int], int]]:
    """Returns the file of weights, and what turns a weight into one of it: bfq keeps version 1's numbers."""
    if there(path, "io.bfq.weight"):
        return "io.bfq.weight", lambda weight: weight
    if there(path, "io.weight"):
        return "io.weight", weight_of_block_weight
    raise Unsupported(
        "this kernel has no weights of block devices", where=path, hint="they need the bfq scheduler or io.cost"
    )


def hugetlb(path: str, resources: Resources) -> None:
    """Sets limits of huge pages, and of their reservations where the kernel (5.7) has them."""
    hugepages(path, resources, "max", "max")


def unified(path: str, resources: Resources) -> None:
    """Writes what the specification gives as files of version 2.

    Raises:
        Unsupported: there is no such file, or no such controller; names it.
    """
    for name, value in resources.unified.items():
        if not there(path, name):
            controller = name.partition(".")[0]
            if controller not in read(path, "cgroup.controllers").split():
                raise Unsupported(
                    f"the requested cgroup controller `{controller}` is not available",
                    where=f"unified: {name}",
                    hint="see cgroup.controllers of the root of cgroup2",
                )
            what = f"this group has no {name}: no such file or directory"
            raise Unsupported(what, where=path, hint="this kernel's controller does not have it")
        for line in value.splitlines():
            write(path, name, line)


def _max(value: int) -> str:
    return "max" if value == UNLIMITED else str(value)
