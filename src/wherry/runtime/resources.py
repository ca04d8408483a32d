"""What a container may use: the ``linux.resources`` of an OCI runtime specification, as values.

None leaves what the kernel, or the group above, has; -1 means without limit, as in the specification.
Source: Open Container Initiative, Runtime Specification 1.2.0, config-linux.md, "Control groups".
"""

from __future__ import annotations

from wherry.core.value import EMPTY, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

UNLIMITED = -1


class DeviceRule(Value):
    """One line of the list of devices; None stands for any number."""

    allow: bool
    type: str = "a"
    """``c``, ``b``, or ``a`` for all."""
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Throttle(Value):
    """A limit of one block device: bytes or operations in a second."""

    major: int
    minor: int
    rate: int


class DeviceWeight(Value):
    """The share of one block device, 10 to 1000."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class HugepageLimit(Value):
    """A limit of huge pages of one size (``2MB``, ``1GB``)."""

    page_size: str
    limit_bytes: int


class RdmaLimit(Value):
    """What may be used of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


class InterfacePriority(Value):
    """The priority of what is sent by one network interface (v1: net_prio)."""

    name: str
    priority: int


class Resources(Value):
    """Limits by control groups."""

    memory_limit_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    memory_swap_bytes: int | None = None
    """Memory and swap together, as in OCI; equal to the memory limit means no swap."""
    memory_kernel_bytes: int | None = None
    """v1, and refused by kernels from 5.16 on."""
    memory_kernel_tcp_bytes: int | None = None
    memory_swappiness: int | None = None
    memory_disable_oom_killer: bool | None = None
    memory_use_hierarchy: bool | None = None
    memory_check_before_update: bool = False
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_burst_us: int | None = None
    cpu_period_us: int | None = None
    cpu_realtime_runtime_us: int | None = None
    cpu_realtime_period_us: int | None = None
    cpu_idle: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    block_weight: int | None = None
    block_leaf_weight: int | None = None
    block_device_weights: tuple[DeviceWeight, ...] = ()
    block_read_bytes: tuple[Throttle, ...] = ()
    block_write_bytes: tuple[Throttle, ...] = ()
    block_read_operations: tuple[Throttle, ...] = ()
    block_write_operations: tuple[Throttle, ...] = ()
    hugepages: tuple[HugepageLimit, ...] = ()
    network_class_id: int | None = None
    network_priorities: tuple[InterfacePriority, ...] = ()
    rdma: Mapping[str, RdmaLimit] = EMPTY
    unified: Mapping[str, str] = EMPTY
    """Files of version 2 and what is written to them, past everything above."""
    devices: tuple[DeviceRule, ...] = ()
