"""Values of limits that cannot be, refused before anything is made. Pure: nothing of the host is looked at.

The ranges are the kernel's; those that depend on the machine (which CPUs, how much of a parent's quota) are left to it.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.runtime.resources import UNLIMITED, Resources

MIN_SHARES, MAX_SHARES = 2, 262144
MIN_WEIGHT, MAX_WEIGHT = 10, 1000
_MIN_PERIOD_US, _MAX_PERIOD_US = 1_000, 1_000_000
_MIN_QUOTA_US = 1_000
_MAX_SWAPPINESS = 100
_MAX_CLASS_ID = (1 << 32) - 1
_MAX_DEVICE_NUMBER = (1 << 32) - 1
_MAX_ITEMS = 10_000


def check_resources(resources: Resources) -> None:
    """Refuses limits that no kernel takes.

    Raises:
        InvalidInput: a value is out of range, or two contradict each other; names the field.
    """
    _check_memory(resources)
    _check_cpu(resources)
    for name in ("cpuset_cpus", "cpuset_mems"):
        text: str = getattr(resources, name)
        if text and not _is_list(text):
            raise InvalidInput("not a list of numbers and ranges, such as 0-2,4", where=f"{name}: {text}")
    _range("pids_limit", resources.pids_limit, UNLIMITED)
    _check_block(resources)
    for page in resources.hugepages:
        digits = page.page_size.rstrip("KMGTB")
        if not digits.isdigit() or page.page_size[len(digits) :] not in ("KB", "MB", "GB", "TB"):
            raise InvalidInput("not a size of huge pages, such as 2MB", where=f"hugepages: {page.page_size}")
        _range(f"hugepages: {page.page_size}", page.limit_bytes, UNLIMITED)
    _range("network_class_id", resources.network_class_id, 0, _MAX_CLASS_ID)
    for interface in resources.network_priorities:
        _name("network_priorities", interface.name)
        _range(f"network_priorities: {interface.name}", interface.priority, 0, _MAX_CLASS_ID)
    for name, rdma in resources.rdma.items():
        _name("rdma", name)
        _range(f"rdma: {name}: hca_handles", rdma.hca_handles, 0)
        _range(f"rdma: {name}: hca_objects", rdma.hca_objects, 0)
    for name in resources.unified:
        if "/" in name or "." not in name or name.startswith((".", "cgroup.")):
            # crun's words, as in `cgroup_v2.unified`: who calls a runtime looks for them
            raise InvalidInput(
                f"the specified key has not the form CONTROLLER.VALUE `{name}`",
                where="unified",
                hint="name a control file of a controller, such as memory.high",
            )
    _check_devices(resources)


def _check_memory(resources: Resources) -> None:
    limit, swap = resources.memory_limit_bytes, resources.memory_swap_bytes
    for name in ("limit", "reservation", "swap", "kernel", "kernel_tcp"):
        _range(f"memory_{name}_bytes", getattr(resources, f"memory_{name}_bytes"), UNLIMITED)
    _range("memory_swappiness", resources.memory_swappiness, 0, _MAX_SWAPPINESS)
    if swap is not None and swap != UNLIMITED and limit is not None:
        if limit == UNLIMITED:
            raise InvalidInput("a swap limit needs a memory limit")
        if swap < limit:
            raise InvalidInput(f"memory and swap together ({swap}) cannot be less than memory ({limit})")


def _check_cpu(resources: Resources) -> None:
    if resources.cpu_shares not in (None, 0):
        _range("cpu_shares", resources.cpu_shares, MIN_SHARES, MAX_SHARES)
    quota = resources.cpu_quota_us
    if quota is not None and quota > 0:
        _range("cpu_quota_us", quota, _MIN_QUOTA_US)
    if resources.cpu_period_us not in (None, 0):
        _range("cpu_period_us", resources.cpu_period_us, _MIN_PERIOD_US, _MAX_PERIOD_US)
    _range("cpu_burst_us", resources.cpu_burst_us, 0)
    if resources.cpu_burst_us and quota is not None and resources.cpu_burst_us > quota:
        raise InvalidInput(
            f"a burst ({resources.cpu_burst_us}) cannot be more than the quota ({quota})", where="cpu_burst_us"
        )
    _range("cpu_idle", resources.cpu_idle, 0, 1)
    _range("cpu_realtime_runtime_us", resources.cpu_realtime_runtime_us, UNLIMITED)
    _range("cpu_realtime_period_us", resources.cpu_realtime_period_us, 0)
    runtime, period = resources.cpu_realtime_runtime_us, resources.cpu_realtime_period_us
    if runtime and period and runtime > period:
        raise InvalidInput(
            f"more real time ({runtime}) than its period has ({period})", where="cpu_realtime_runtime_us"
        )


def _check_block(resources: Resources) -> None:
    for name in ("block_weight", "block_leaf_weight"):
        if getattr(resources, name):
            _range(name, getattr(resources, name), MIN_WEIGHT, MAX_WEIGHT)
    for item in resources.block_device_weights:
        where = f"block_device_weights: {item.major}:{item.minor}"
        _range(where, item.major, 0, _MAX_DEVICE_NUMBER)
        _range(where, item.minor, 0, _MAX_DEVICE_NUMBER)
        for weight in (item.weight, item.leaf_weight):
            if weight:
                _range(where, weight, MIN_WEIGHT, MAX_WEIGHT)
    for name in ("read_bytes", "write_bytes", "read_operations", "write_operations"):
        for throttle in getattr(resources, f"block_{name}"):
            _range(f"block_{name}: {throttle.major}:{throttle.minor}", throttle.rate, 0)


def _check_devices(resources: Resources) -> None:
    if len(resources.devices) > _MAX_ITEMS:
        raise InvalidInput(f"more than {_MAX_ITEMS} rules", where="devices")
    for index, rule in enumerate(resources.devices):
        where = f"devices[{index}]"
        if rule.type not in ("a", "b", "c", "u"):
            raise InvalidInput(f"not a type of devices: {rule.type!r}", where=where)
        if not rule.access or rule.access.strip("rwm"):
            raise InvalidInput(f"access is of r, w and m, not {rule.access!r}", where=where)
        _range(where, rule.major, 0, _MAX_DEVICE_NUMBER)
        _range(where, rule.minor, 0, _MAX_DEVICE_NUMBER)


def _range(where: str, value: int | None, low: int, high: int | None = None) -> None:
    if value is None or (value >= low and (high is None or value <= high)):
        return
    between = f"at least {low}" if high is None else f"{low} to {high}"
    raise InvalidInput(f"must be {between}, not {value}", where=where)


def _name(where: str, name: str) -> None:
    if not name or len(name.split()) != 1 or "/" in name:
        raise InvalidInput(f"not a name: {name!r}", where=where)


def _is_list(text: str) -> bool:
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return False
    return True
