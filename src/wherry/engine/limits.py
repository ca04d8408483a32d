"""A container's limits and devices, from docker's words to what the runtime is asked for.

Pure but for looking at the host's device nodes, as a device is named by its path until its container starts.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound
from wherry.runtime import default
from wherry.runtime.resources import DeviceRule, DeviceWeight, Resources, Throttle
from wherry.runtime.spec import Device, Rlimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.engine.spec import ContainerSpec
    from wherry.spec.container import DeviceRate

CPU_PERIOD_US = 100_000
MAX_DEVICES = 4096
_S_IFMT, _S_IFCHR, _S_IFBLK = 0o170000, 0o020000, 0o060000
_DEV_EVERYWHERE = frozenset(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
)
"""What every container has of its own."""
_DEV_SKIPPED = ("pts", "shm", "mqueue", "fd", "console")


def resources(spec: ContainerSpec, devices: tuple[Device, ...] = ()) -> Resources:
    """Returns what a container may use.

    Args:
        spec: the container's.
        devices: those of `spec.devices` (`wanted_devices`).
    """
    limits = spec.resources
    quota, period = limits.cpu_quota_us, limits.cpu_period_us
    if limits.milli_cpus is not None:
        quota, period = max(1000, limits.milli_cpus * CPU_PERIOD_US // 1000), CPU_PERIOD_US
    swap = limits.memory_swap_bytes
    if limits.memory_bytes is not None and not swap:
        swap = 2 * limits.memory_bytes  # docker's rule: as much swap again as memory
    return Resources(
        memory_limit_bytes=limits.memory_bytes,
        memory_reservation_bytes=limits.memory_reservation_bytes,
        memory_swap_bytes=swap,
        memory_swappiness=limits.memory_swappiness,
        memory_disable_oom_killer=True if limits.oom_kill_disable else None,
        cpu_quota_us=quota,
        cpu_period_us=period,
        cpu_shares=limits.cpu_shares,
        cpu_realtime_period_us=limits.cpu_rt_period_us,
        cpu_realtime_runtime_us=limits.cpu_rt_runtime_us,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        pids_limit=limits.pids,
        block_weight=limits.blkio_weight,
        block_device_weights=tuple(_weight(item) for item in limits.blkio_device_weights),
        block_read_bytes=_throttles(limits.device_read_bps),
        block_write_bytes=_throttles(limits.device_write_bps),
        block_read_operations=_throttles(limits.device_read_iops),
        block_write_operations=_throttles(limits.device_write_iops),
        devices=default.ALL_DEVICES if spec.privileged else _rules(spec, devices),
    )


def _rules(spec: ContainerSpec, devices: tuple[Device, ...]) -> tuple[DeviceRule, ...]:
    own: list[DeviceRule] = []
    for item in devices:
        access = max((one for one in spec.devices if _is_below(item.path, one.target)), key=lambda one: len(one.target))
        own.append(DeviceRule(allow=True, type=item.type, major=item.major, minor=item.minor, access=access.access))
    return (*default.DEVICE_RULES, *own, *spec.device_rules)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def rlimits(spec: ContainerSpec) -> tuple[Rlimit, ...]:
    """Returns the limits of a container's processes."""
    return tuple(Rlimit(type=f"RLIMIT_{item.name.upper()}", soft=item.soft, hard=item.hard) for item in spec.ulimits)


def _throttles(items: tuple[DeviceRate, ...]) -> tuple[Throttle, ...]:
    return tuple(Throttle(major=major, minor=minor, rate=rate) for major, minor, rate in map(_block, items))


def _weight(item: DeviceRate) -> DeviceWeight:
    major, minor, rate = _block(item)
    return DeviceWeight(major=major, minor=minor, weight=rate)


def _block(item: DeviceRate) -> tuple[int, int, int]:
    found = _status(item.path)
    if found.st_mode & _S_IFMT != _S_IFBLK:
        raise InvalidInput("not a block device", where=item.path, hint="only those can be throttled")
    return os.major(found.st_rdev), os.minor(found.st_rdev), item.rate


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise NotFound("no such device on the host", where=path, hint="see what is in /dev") from error


def wanted_devices(spec: ContainerSpec) -> tuple[Device, ...]:
    """Returns the devices that a container asks for: of a folder, all that are in it.

    Raises:
        NotFound: there is none of that name on the host.
        InvalidInput: it is not a device, or there are too many.
    """
    found: list[Device] = []
    for item in spec.devices:
        status = _status(item.source)
        if status.st_mode & _S_IFMT == 0o040000:
            inside = list(_walk(item.source))
            if not inside:
                raise NotFound("no devices in this folder", where=item.source)
            cut, target = len(item.source.rstrip("/")), item.target.rstrip("/")
            found += [_device(target + path[cut:], one) for path, one in inside]
        elif _kind(status):
            found.append(_device(item.target, status))
        else:
            raise InvalidInput("not a device", where=item.source, hint="use -v for files and directories")
    if len(found) > MAX_DEVICES:
        raise InvalidInput(f"a container gets at most {MAX_DEVICES} devices, not {len(found)}")
    return tuple({device.path: device for device in found}.values())


def host_devices() -> tuple[Device, ...]:
    """Returns the devices of a privileged container: all of the host's that a container has not of its own."""
    return tuple(_device(path, status) for path, status in _walk("/dev") if path not in _DEV_EVERYWHERE)


def _walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    for folder, folders, names in os.walk(top):
        if folder == "/dev":
            folders[:] = [name for name in folders if name not in _DEV_SKIPPED]
        for name in names:
            path = f"{folder}/{name}"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if _kind(status):
                yield path, status


def _kind(status: os.stat_result) -> str:
    return {_S_IFCHR: "c", _S_IFBLK: "b"}.get(status.st_mode & _S_IFMT, "")


def _device(path: str, status: os.stat_result) -> Device:
    return Device(
        path=path,
        type=_kind(status),
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
    )
