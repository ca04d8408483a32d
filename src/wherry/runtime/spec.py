"""What the runtime is asked to run: an OCI runtime specification as values.

The names are the specification's in Python's spelling (``noNewPrivileges`` is `Process.no_new_privileges`);
``config.py`` reads and writes its JSON, ``resources.py`` has the limits.
Source: Open Container Initiative, Runtime Specification 1.2.0, config.md and config-linux.md.
"""

from __future__ import annotations

from wherry.core.value import EMPTY, Value
from wherry.runtime.resources import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wherry.linux.seccomp_profile import Profile

OCI_VERSION = "1.2.0"


class Namespace:
    """The words for the namespaces that a container may have of its own, or join."""

    PID = "pid"
    NETWORK = "network"
    MOUNT = "mount"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"
    USER = "user"
    TIME = "time"


class Capabilities(Value):
    """The five sets of a process, by names such as ``CAP_CHOWN``.

    Those that the caller itself lacks are left out: nobody can give what they do not have.
    """

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Value):
    """One limit of a process; ``type`` is ``RLIMIT_NOFILE`` and so on, -1 means unlimited."""

    type: str
    soft: int
    hard: int


class Scheduler(Value):
    """How a process is scheduled: sched_setattr(2)."""

    policy: str
    """``SCHED_OTHER``, ``SCHED_FIFO``, ``SCHED_RR``, ``SCHED_BATCH``, ``SCHED_IDLE``, ``SCHED_DEADLINE``."""
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0


class IoPriority(Value):
    """The priority of a process's input and output: ioprio_set(2)."""

    io_class: str
    """``IOPRIO_CLASS_RT``, ``IOPRIO_CLASS_BE`` or ``IOPRIO_CLASS_IDLE``."""
    priority: int = 0


class Process(Value):
    """What runs in the container: the first process, or one that `exec_process` adds."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """``NAME=VALUE``; PATH among them is where the command is looked for."""
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    user: str = ""
    """``USER[:GROUP]``, looked up in the container's own files; takes the place of the three above."""
    groups: tuple[str, ...] = ()
    """Further groups, by name or number, looked up with `user`."""
    umask: int | None = None
    """None means 0022."""
    capabilities: Capabilities = Capabilities()
    no_new_privileges: bool = True
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    terminal: bool = False
    console_columns: int = 80
    console_rows: int = 24
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    cpu_affinity_initial: str = ""
    """The processors of a further process before it is in its control groups: ``execCPUAffinity.initial``."""
    cpu_affinity_final: str = ""
    apparmor_profile: str = ""
    selinux_label: str = ""


class IdMapping(Value):
    """A range of user or group ids: ``size`` of them, from ``container_id`` in the container on."""

    container_id: int
    host_id: int
    size: int


class Mount(Value):
    """One mount, in the order in which they are made.

    ``type`` is the kernel's name of the file system, ``bind`` for something of the host, or ``cgroup`` for the
    container's own control groups, of whatever version the host has. ``options`` are those of mount(8): ``ro``,
    ``nosuid``, ``rbind``, ``rro`` (read-only with all below it), ``rslave``, ``idmap`` and so on; others go to the
    file system.
    """

    destination: str
    type: str
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    """Of an id-mapped bind mount; of the container's user namespace where none are given and `idmap` is an option."""
    gid_mappings: tuple[IdMapping, ...] = ()
    beneath: str = ""
    """Of a bind mount: the path below ``source`` that is bound, which no link leads out of; no OCI configuration has
    it, as only an engine knows which sources are written to by others."""


class Device(Value):
    """A device node to be made in the container."""

    path: str
    type: str
    """``c``, ``b`` or ``p``."""
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class Hook(Value):
    """A program that is run at one point of a container's life, with its state on standard input."""

    path: str
    args: tuple[str, ...] = ()
    """The whole argument list, with the name at its head; empty means the path alone."""
    env: tuple[str, ...] = ()
    timeout_s: int | None = None


class Hooks(Value):
    """The programs at the six points of a container's life (config.md, "POSIX-platform Hooks")."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class TimeOffset(Value):
    """How far a clock of a new time namespace is from the host's."""

    secs: int = 0
    nanosecs: int = 0


class Personality(Value):
    """The execution domain: personality(2)."""

    domain: str
    """``LINUX`` or ``LINUX32``."""
    flags: tuple[str, ...] = ()


class IntelRdt(Value):
    """Cache and memory bandwidth by resctrl, on processors that have it."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_cmt: bool = False
    enable_mbm: bool = False


class Spec(Value):
    """A container."""

    process: Process
    root_read_only: bool = False
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    namespaces: Mapping[str, str] = EMPTY
    """Namespace -> "" for a new one, or the path of one to join. One that is missing is shared with the caller."""
    uid_mappings: tuple[IdMapping, ...] = ()
    """Of a new user namespace."""
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: Mapping[str, TimeOffset] = EMPTY
    """``monotonic`` and ``boottime``."""
    resources: Resources = Resources()
    cgroups_path: str = ""
    """Below the root of every hierarchy; "" means ``/wherry/<container id>``."""
    rootfs_propagation: str = ""
    """``shared``, ``slave``, ``private``, ``unbindable``, each also with an ``r`` before it; "" means ``rprivate``."""
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    sysctl: Mapping[str, str] = EMPTY
    seccomp: Profile | None = None
    filter: bytes = b""
    """A system call filter that is compiled already, in place of `seccomp`."""
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = None
    hooks: Hooks = Hooks()
    annotations: Mapping[str, str] = EMPTY
    extra: Mapping[str, Any] = EMPTY
    """Keys that mean nothing to a runtime and are handed on in the state."""
