"""The ``linux.resources`` of an OCI configuration, read: also what ``update --resources`` gives.

Whether this host can keep a limit is not looked at here: the control groups refuse by name what they cannot do.
Source: Runtime Specification 1.2.0, config-linux.md, "Control groups".
"""

from __future__ import annotations

from wherry.core import jsonio
from wherry.runtime.reader import Reader
from wherry.runtime.resources import (
    DeviceRule,
    DeviceWeight,
    HugepageLimit,
    InterfacePriority,
    RdmaLimit,
    Resources,
    Throttle,
)

MAX_RESOURCES_BYTES = 1024 * 1024
_MAX_COUNT = (1 << 63) - 1
_MAX_NUMBER = (1 << 64) - 1
_ACCESS = frozenset("rwm")


def parse_resources(data: bytes, *, where: object = None) -> Resources:
    """Reads limits.

    Raises:
        InvalidInput: they are malformed; names the key.
        Unsupported: a key is not known here; names it.
    """
    return parse_resources_object(Reader(jsonio.loads(data, where=where, max_bytes=MAX_RESOURCES_BYTES), "", where))


def parse_resources_object(found: Reader) -> Resources:
    """Reads limits."""
    with (
        found,
        found.below("memory") as memory,
        found.below("cpu") as cpu,
        found.below("pids") as pids,
        found.below("blockIO") as block,
        found.below("network") as network,
    ):
        return Resources(
            memory_limit_bytes=_amount(memory, "limit"),
            memory_reservation_bytes=_amount(memory, "reservation"),
            memory_swap_bytes=_amount(memory, "swap"),
            memory_kernel_bytes=_amount(memory, "kernel"),
            memory_kernel_tcp_bytes=_amount(memory, "kernelTCP"),
            memory_swappiness=memory.number("swappiness", low=0, high=_MAX_NUMBER),
            memory_disable_oom_killer=_flag(memory, "disableOOMKiller"),
            memory_use_hierarchy=_flag(memory, "useHierarchy"),
            memory_check_before_update=memory.flag("checkBeforeUpdate"),
            cpu_shares=cpu.number("shares", low=0, high=_MAX_NUMBER),
            cpu_quota_us=_amount(cpu, "quota"),
            cpu_burst_us=cpu.number("burst", low=0, high=_MAX_NUMBER),
            cpu_period_us=cpu.number("period", low=0, high=_MAX_NUMBER),
            cpu_realtime_runtime_us=_amount(cpu, "realtimeRuntime"),
            cpu_realtime_period_us=cpu.number("realtimePeriod", low=0, high=_MAX_NUMBER),
            cpu_idle=cpu.number("idle", low=0, high=1),
            cpuset_cpus=cpu.text("cpus"),
            cpuset_mems=cpu.text("mems"),
            pids_limit=pids.number("limit", low=-1, high=_MAX_COUNT),
            block_weight=block.number("weight", low=0, high=1000),
            block_leaf_weight=block.number("leafWeight", low=0, high=1000),
            block_device_weights=tuple(_device_weight(item) for item in block.each("weightDevice")),
            block_read_bytes=_throttles(block, "throttleReadBpsDevice"),
            block_write_bytes=_throttles(block, "throttleWriteBpsDevice"),
            block_read_operations=_throttles(block, "throttleReadIOPSDevice"),
            block_write_operations=_throttles(block, "throttleWriteIOPSDevice"),
            hugepages=tuple(_hugepages(item) for item in found.each("hugepageLimits")),
            network_class_id=network.number("classID", low=0, high=(1 << 32) - 1),
            network_priorities=tuple(_priority(item) for item in network.each("priorities")),
            rdma={name: _rdma(item) for name, item in found.objects("rdma").items()},
            unified=_unified(found),
            devices=tuple(_device_rule(item) for item in found.each("devices")),
        )


def _amount(found: Reader, key: str) -> int | None:
    """Takes bytes or microseconds; -1 is without limit."""
    return found.number(key, low=-1, high=_MAX_COUNT)


def _flag(found: Reader, key: str) -> bool | None:
    return found.flag(key) if found.has(key) else None


def _device_rule(item: Reader) -> DeviceRule:
    with item:
        kind, access = item.text("type") or "a", item.text("access") or "rwm"
        if kind not in ("a", "b", "c"):
            raise item.wrong("type", f"must be a, b or c, not {kind!r}")
        if not _ACCESS.issuperset(access):
            raise item.wrong("access", f"must be of the letters r, w and m, not {access!r}")
        return DeviceRule(
            allow=item.flag("allow"), type=kind, major=_any(item, "major"), minor=_any(item, "minor"), access=access
        )


def _any(item: Reader, key: str) -> int | None:
    value = item.number(key, low=-1, high=(1 << 32) - 1)
    return None if value is None or value < 0 else value


def _device_weight(item: Reader) -> DeviceWeight:
    with item:
        return DeviceWeight(
            major=item.natural("major"),
            minor=item.natural("minor"),
            weight=item.number("weight", low=0, high=1000),
            leaf_weight=item.number("leafWeight", low=0, high=1000),
        )


def _throttles(block: Reader, key: str) -> tuple[Throttle, ...]:
    found = []
    for item in block.each(key):
        with item:
            found.append(
                Throttle(
                    major=item.natural("major"),
                    minor=item.natural("minor"),
                    rate=item.natural("rate", high=_MAX_NUMBER),
                )
            )
    return tuple(found)


def _hugepages(item: Reader) -> HugepageLimit:
    with item:
        return HugepageLimit(page_size=item.text("pageSize"), limit_bytes=item.natural("limit", high=_MAX_NUMBER))


def _priority(item: Reader) -> InterfacePriority:
    with item:
        return InterfacePriority(name=item.text("name"), priority=item.natural("priority"))


def _rdma(item: Reader) -> RdmaLimit:
    with item:
        return RdmaLimit(
            hca_handles=item.number("hcaHandles", low=0, high=(1 << 32) - 1),
            hca_objects=item.number("hcaObjects", low=0, high=(1 << 32) - 1),
        )


def _unified(found: Reader) -> dict[str, str]:
    values = found.mapping("unified")
    for name in values:
        if "/" in name or name in (".", "..") or not name.isascii():
            raise found.wrong("unified", f"not the name of a control file: {name!r}")
    return values
