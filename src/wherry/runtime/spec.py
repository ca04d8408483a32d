"""What the runtime is asked to run: the parts of an OCI runtime specification that are done.

The names are the specification's in Python's spelling (``noNewPrivileges`` is `Process.no_new_privileges`);
``config.py`` reads and writes its JSON. Not done yet, and refused by name there: user and time namespaces, hooks,
id-mapped mounts, joining a pid namespace, device filters on cgroup v2 (see docs/internals/runtime.md).
Source: Open Container Initiative, Runtime Specification 1.2.0, config.md and config-linux.md.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.linux.seccomp import Profile

OCI_VERSION = "1.2.0"


class Namespace(enum.StrEnum):
    """The namespaces that a container may have of its own."""

    PID = "pid"
    NETWORK = "network"
    MOUNT = "mount"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The five sets of a process, by names such as ``CAP_CHOWN``.

    Those that the caller itself lacks are left out silently: nobody can give what they do not have.
    """

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """One limit of a process; ``type`` is ``RLIMIT_NOFILE`` and so on, -1 means unlimited."""

    type: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What runs in the container: the first process, or one that `exec_process` adds."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    """``NAME=VALUE``; PATH among them is where the command is looked for."""
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    umask: int = 0o022
    capabilities: Capabilities = field(default_factory=Capabilities)
    no_new_privileges: bool = True
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    terminal: bool = False
    console_columns: int = 80
    console_rows: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount, in the order in which they are made.

    ``type`` is the kernel's name of the file system, ``bind`` for something of the host, or ``cgroup`` for the
    container's own control groups, of whatever version the host has. ``options`` are those of mount(8): ``ro``,
    ``nosuid``, ``rbind``, ``rro`` (read-only with all below it), ``rslave`` and so on; others go to the file system.
    """

    destination: str
    type: str
    source: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node to be made in the container."""

    path: str
    type: str
    """``c`` or ``b``."""
    major: int
    minor: int
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """One line of the devices list of cgroup v1; None stands for any number."""

    allow: bool
    type: str = "a"
    """``c``, ``b``, or ``a`` for all."""
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits by control groups; None leaves the kernel's default."""

    memory_limit_bytes: int | None = None
    memory_swap_bytes: int | None = None
    """Memory and swap together, as in OCI; equal to the memory limit means no swap; -1 unlimited."""
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    pids_limit: int | None = None
    devices: tuple[DeviceRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A container."""

    process: Process
    root_read_only: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    namespaces: Mapping[Namespace, str] = field(default_factory=dict)
    """Namespace -> "" for a new one, or the path of one to join. One that is missing is shared with the caller."""
    resources: Resources = field(default_factory=Resources)
    cgroups_path: str = ""
    """Below the root of every hierarchy; "" means ``/wherry/<container id>``."""
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    seccomp: Profile | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
