"""What a container is by default: docker's choices of mounts, masks, devices and capabilities.

Source: moby/moby, oci/defaults.go and oci/caps/defaults.go (28.x); Runtime Specification 1.2.0, "Default Devices".
"""

from __future__ import annotations

import os

from wherry.linux.capabilities import NAMES, number
from wherry.runtime.resources import DeviceRule
from wherry.runtime.spec import Capabilities, Mount, Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.linux.seccomp_profile import Profile

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

_CPUS = "/sys/devices/system/cpu"

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

NAMESPACES = {
    Namespace.PID: "",
    Namespace.NETWORK: "",
    Namespace.MOUNT: "",
    Namespace.IPC: "",
    Namespace.UTS: "",
    Namespace.CGROUP: "",
}
"""Every namespace anew but for users and time; for the host's network, leave ``Namespace.NETWORK`` out."""

DEVICE_RULES = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    DeviceRule(allow=True, type="c", major=1, minor=3),
    DeviceRule(allow=True, type="c", major=1, minor=5),
    DeviceRule(allow=True, type="c", major=1, minor=7),
    DeviceRule(allow=True, type="c", major=1, minor=8),
    DeviceRule(allow=True, type="c", major=1, minor=9),
    DeviceRule(allow=True, type="c", major=5, minor=0),
    DeviceRule(allow=True, type="c", major=5, minor=1),
    DeviceRule(allow=True, type="c", major=5, minor=2),
    DeviceRule(allow=True, type="c", major=136),
)
"""Nodes may be made, but only null, zero, full, random, urandom, tty, console and ptmx and pts be opened."""

ALWAYS_ALLOWED_DEVICES = DEVICE_RULES[1:]
"""Those that the specification supplies to every container, whatever its list says ("Default Devices")."""

ALL_DEVICES = (DeviceRule(allow=True),)

DEFAULT_SHM_BYTES = 64 * 1024 * 1024
_TTY_GID = 5


def mounts(*, shm_bytes: int = DEFAULT_SHM_BYTES, privileged: bool = False) -> tuple[Mount, ...]:
    """Returns the mounts that every container has.

    Args:
        shm_bytes: the size of /dev/shm.
        privileged: leave /sys and the control groups writable.
    """
    ro = () if privileged else ("ro",)
    quiet = ("nosuid", "noexec", "nodev")
    return (
        Mount(destination="/proc", type="proc", source="proc", options=quiet),
        Mount(
            destination="/dev",
            type="tmpfs",
            source="tmpfs",
            options=("nosuid", "strictatime", "mode=755", "size=65536k"),
        ),
        Mount(
            destination="/dev/pts",
            type="devpts",
            source="devpts",
            options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", f"gid={_TTY_GID}"),
        ),
        Mount(
            destination="/dev/shm",  # noqa: S108 a place in the container
            type="tmpfs",
            source="shm",
            options=(*quiet, "mode=1777", f"size={shm_bytes}"),
        ),
        Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=quiet),
        Mount(destination="/sys", type="sysfs", source="sysfs", options=(*quiet, *ro)),
        Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=(*quiet, *ro)),
    )


def masked_paths(cpus: str = _CPUS) -> tuple[str, ...]:
    """Returns what is masked on this machine: `MASKED_PATHS`, and what each processor tells of its heat.

    The counters of throttling tell what other containers compute (GHSA-6fw5-f8r9-fgfm).

    Args:
        cpus: the directory of the processors.
    """
    try:
        names = os.listdir(cpus)
    except OSError:
        return MASKED_PATHS
    numbered = (name for name in names if name.startswith("cpu") and name[3:].isdigit())
    heat = (f"{cpus}/{name}/thermal_throttle" for name in numbered)
    return (*MASKED_PATHS, *sorted(path for path in heat if os.path.isdir(path)))


def capabilities(*, add: Iterable[str] = (), drop: Iterable[str] = (), privileged: bool = False) -> Capabilities:
    """Returns docker's default capabilities with some more or fewer, as ``--cap-add`` and ``--cap-drop`` mean it.

    Args:
        add: names, with or without ``CAP_``; ``ALL`` means every one.
        drop: names; ``ALL`` means to begin with none, so that only those of `add` stay.
        privileged: every one.

    Raises:
        InvalidInput: there is no such capability.
    """
    added, dropped = {_name(item) for item in add}, {_name(item) for item in drop}
    if privileged:
        chosen = set(NAMES)
    elif "ALL" in added:
        chosen = set(NAMES) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = (set(CAPABILITIES) - dropped) | added
    names = tuple(item for item in NAMES if item in chosen)
    return Capabilities(bounding=names, effective=names, permitted=names)


def _name(item: str) -> str:
    return "ALL" if item.upper() in ("ALL", "CAP_ALL") else NAMES[number(item)]


def seccomp_profile(capabilities: Iterable[str]) -> Profile:
    """Returns the default system call filter.

    Args:
        capabilities: the container's bounding set, as what a capability is for is let through to those who have it.
    """
    from wherry.runtime import default_seccomp

    return default_seccomp.profile(frozenset(capabilities))
