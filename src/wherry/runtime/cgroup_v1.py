"""Limits as files of version 1: one function for each controller, which writes in the order that the kernel takes.

Source: Documentation/admin-guide/cgroup-v1/*.rst of Linux 6.12.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.runtime.cgroup_files import limit, number, read, there, write
from wherry.runtime.resources import UNLIMITED, Resources, Throttle


def memory(path: str, resources: Resources) -> None:
    """Sets limits of memory; those of the kernel's own first, as they are refused once processes are in the group."""
    for name, value in (
        ("memory.kmem.limit_in_bytes", resources.memory_kernel_bytes),
        ("memory.kmem.tcp.limit_in_bytes", resources.memory_kernel_tcp_bytes),
    ):
        if value is None:
            continue
        try:
            write(path, name, str(value))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOENT):
                raise
            raise Unsupported(f"this kernel has no limit {name}", hint="Linux 5.16 took it away") from None
    if resources.memory_use_hierarchy is not None and there(path, "memory.use_hierarchy"):
        write(path, "memory.use_hierarchy", str(int(resources.memory_use_hierarchy)))
    _limit_and_swap(path, resources)
    if resources.memory_reservation_bytes is not None:
        write(path, "memory.soft_limit_in_bytes", str(resources.memory_reservation_bytes))
    if resources.memory_swappiness is not None:
        write(path, "memory.swappiness", str(resources.memory_swappiness))
    if resources.memory_disable_oom_killer is not None:
        write(path, "memory.oom_control", str(int(resources.memory_disable_oom_killer)))


def _limit_and_swap(path: str, resources: Resources) -> None:
    most, both = resources.memory_limit_bytes, resources.memory_swap_bytes
    if most is None and both is None:
        return
    accounted = there(path, "memory.memsw.limit_in_bytes")
    now = limit(path, "memory.memsw.limit_in_bytes") if accounted else None
    if most is None:
        most = limit(path, "memory.limit_in_bytes")
        if most is None and both != UNLIMITED:
            raise InvalidInput("a swap limit needs a memory limit")
        if most is not None and both is not None and UNLIMITED < both < most:
            raise InvalidInput(f"memory and swap together ({both}) cannot be less than memory ({most})")
    elif resources.memory_check_before_update:
        refuse_below_usage(path, "memory.usage_in_bytes", most)
    if both is not None and not accounted:
        if both not in (UNLIMITED, most):
            raise Unsupported("this kernel does not account for swap", hint="boot with swapaccount=1")
        both = None
    if both is None and most == UNLIMITED and now is not None:
        both = UNLIMITED
    writes = [("memory.limit_in_bytes", most), ("memory.memsw.limit_in_bytes", both)]
    if now is not None and (most == UNLIMITED or (most is not None and most > now)):
        writes.reverse()  # memory and swap together may at no moment be less than memory
        if both is None:
            raise InvalidInput(
                f"memory ({most}) cannot be more than memory and swap together ({now})", hint="raise both"
            )
    for name, value in writes:
        if value is None:
            continue
        try:
            write(path, name, str(value))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            used = number(path, "memory.usage_in_bytes")
            raise Conflict(f"more memory is in use ({used} bytes) than the limit allows ({value})") from None


def refuse_below_usage(path: str, name: str, most: int) -> None:
    """Refuses a limit below what is in use, before the kernel starts to reclaim and to kill.

    Raises:
        Conflict: more is in use.
    """
    used = number(path, name)
    if most != UNLIMITED and used is not None and used > most:
        raise Conflict(f"more memory is in use ({used} bytes) than the limit allows ({most})")


def cpu(path: str, resources: Resources) -> None:
    """Sets shares, real time, and the quota with its period and burst."""
    if resources.cpu_realtime_period_us:
        write(path, "cpu.rt_period_us", str(resources.cpu_realtime_period_us))
    if resources.cpu_realtime_runtime_us is not None:
        write(path, "cpu.rt_runtime_us", str(resources.cpu_realtime_runtime_us))
    if resources.cpu_idle == 0:
        _write_idle(path, 0)  # an idle group takes no shares
    if resources.cpu_shares:
        write(path, "cpu.shares", str(resources.cpu_shares))
    if resources.cpu_idle:
        _write_idle(path, 1)
    quota, period, burst = resources.cpu_quota_us, resources.cpu_period_us, resources.cpu_burst_us
    if quota == 0:
        quota = UNLIMITED
    late_burst = burst is not None and not _written(path, "cpu.cfs_burst_us", burst)
    late_period = bool(period) and not _written(path, "cpu.cfs_period_us", period)
    if quota is not None:
        write(path, "cpu.cfs_quota_us", str(quota))
    if late_period:
        write(path, "cpu.cfs_period_us", str(period))
    if late_burst:
        write(path, "cpu.cfs_burst_us", str(burst))


def _write_idle(path: str, value: int) -> None:
    if there(path, "cpu.idle"):
        write(path, "cpu.idle", str(value))
    elif value:
        raise Unsupported("this kernel has no cpu.idle", hint="Linux 5.15 has it")


def _written(path: str, name: str, value: int | None) -> bool:
    """Tells whether a value was taken; if not, the quota has to come first: which one depends on the values before."""
    try:
        write(path, name, str(value))
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Unsupported(f"this kernel has no {name}") from None
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def cpuset(path: str, resources: Resources) -> None:
    """Sets which CPUs and memory nodes may be used."""
    if resources.cpuset_cpus:
        write(path, "cpuset.cpus", resources.cpuset_cpus)
    if resources.cpuset_mems:
        write(path, "cpuset.mems", resources.cpuset_mems)


def inherit_cpuset(path: str) -> None:
    """Gives a new group the CPUs and memory nodes of its parent: without both no process can join it."""
    parent = os.path.dirname(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(path, name).strip() and (value := read(parent, name).strip()):
            write(path, name, value)


def pids(path: str, resources: Resources) -> None:
    """Sets how many processes there may be."""
    if resources.pids_limit is not None:
        write(path, "pids.max", "max" if resources.pids_limit <= 0 else str(resources.pids_limit))


def blkio(path: str, resources: Resources) -> None:
    """Sets weights and throttles of block devices."""
    prefix = "blkio.bfq" if there(path, "blkio.bfq.weight") else "blkio"
    if resources.block_weight:
        _weight(path, f"{prefix}.weight", str(resources.block_weight))
    if resources.block_leaf_weight:
        _weight(path, "blkio.leaf_weight", str(resources.block_leaf_weight))
    for item in resources.block_device_weights:
        if item.weight:
            _weight(path, f"{prefix}.weight_device", f"{item.major}:{item.minor} {item.weight}")
        if item.leaf_weight:
            _weight(path, "blkio.leaf_weight_device", f"{item.major}:{item.minor} {item.leaf_weight}")
    for name, throttle in throttles(resources, ("read_bps", "write_bps", "read_iops", "write_iops")):
        write(path, f"blkio.throttle.{name}_device", f"{throttle.major}:{throttle.minor} {throttle.rate}")


def throttles(resources: Resources, names: tuple[str, str, str, str]) -> tuple[tuple[str, Throttle], ...]:
    """Returns each throttle beside the name that its kind has: bytes read, written, operations read, written."""
    kinds = (
        resources.block_read_bytes,
        resources.block_write_bytes,
        resources.block_read_operations,
        resources.block_write_operations,
    )
    return tuple((name, item) for name, items in zip(names, kinds, strict=True) for item in items)


def _weight(path: str, name: str, value: str) -> None:
    if not there(path, name):
        raise Unsupported(
            f"this kernel has no {name}", hint="weights need the bfq scheduler (CONFIG_BFQ_GROUP_IOSCHED)"
        )
    write(path, name, value)


def hugetlb(path: str, resources: Resources) -> None:
    """Sets limits of huge pages, and of their reservations where the kernel (5.7) has them."""
    hugepages(path, resources, "limit_in_bytes", str(UNLIMITED))


def hugepages(path: str, resources: Resources, suffix: str, unlimited: str) -> None:
    """Sets limits of huge pages in files with an ending."""
    for page in resources.hugepages:
        name = f"hugetlb.{page.page_size}.{suffix}"
        if not there(path, name):
            raise Unsupported(f"this machine has no huge pages of {page.page_size}", where=f"{path}/{name}")
        value = unlimited if page.limit_bytes == UNLIMITED else str(page.limit_bytes)
        write(path, name, value)
        if there(path, f"hugetlb.{page.page_size}.rsvd.{suffix}"):
            write(path, f"hugetlb.{page.page_size}.rsvd.{suffix}", value)


def net_cls(path: str, resources: Resources) -> None:
    """Sets the class of what is sent."""
    write(path, "net_cls.classid", str(resources.network_class_id))


def net_prio(path: str, resources: Resources) -> None:
    """Sets the priority of what is sent, by interface."""
    for item in resources.network_priorities:
        write(path, "net_prio.ifpriomap", f"{item.name} {item.priority}")


def rdma(path: str, resources: Resources) -> None:
    """Sets how much of RDMA devices may be used."""
    for name, item in resources.rdma.items():
        handles = "" if item.hca_handles is None else f" hca_handle={item.hca_handles}"
        objects = "" if item.hca_objects is None else f" hca_object={item.hca_objects}"
        if handles or objects:
            write(path, "rdma.max", f"{name}{handles}{objects}")
