"""What parts a container from its host, as it is asked for: namespaces, masks, devices, limits of a process.

Values, and the checks of what contradicts itself; `bundle` says what they are to the runtime.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.lock import file_lock
from wherry.core.value import EMPTY, Value, replace
from wherry.linux import usernamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from wherry.engine.spec import ContainerSpec
    from wherry.engine.state import Paths

ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack", "as"),
)
"""What setrlimit(2) limits, by docker's words."""
MAX_OOM_SCORE = 1000
MIN_SHARES, MAX_SHARES = 2, 262144
MIN_WEIGHT, MAX_WEIGHT = 10, 1000
MIN_PERIOD_US, MAX_PERIOD_US = 1000, 1_000_000
_IPC_SYSCTLS = (
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
    *("kernel.shmmni", "kernel.shm_rmid_forced"),
)


AUTO_COUNT = 0x0FFE0000
"""How many ids there are for `auto`, if nobody says which."""


class IdRange(Value):
    """Ids of a container, and those that they are on the host."""

    container_id: int
    host_id: int
    size: int


class DeviceMapping(Value):
    """A device of the host, or a folder of them, in the container."""

    source: str
    target: str
    access: str = "rwm"


class Security(Value):
    """What docker's ``security_opt`` says."""

    no_new_privileges: bool = True
    seccomp: bool = True
    seccomp_profile: str = ""
    """The text of a profile; "" is the default one."""
    apparmor: str = ""
    masked: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()


class Ulimit(Value):
    """A limit of the container's first process; -1 is without."""

    name: str
    soft: int
    hard: int


class Isolation(Value):
    """Which namespaces a container has of its own, and what is hidden in them.

    A mode is ``private``, ``host``, or ``container:ID`` for that of another container.
    """

    pid: str = "private"
    ipc: str = "private"
    """Also ``none``, and ``shareable``, which is ``private``: others may join."""
    uts: str = "private"
    cgroup: str = "private"
    uids: tuple[IdRange, ...] = ()
    """Who its users are on the host; with none, it is in the host's user namespace."""
    gids: tuple[IdRange, ...] = ()
    auto_ids: int = 0
    """How many ids are found for it when it is made."""
    seccomp_profile: str = ""
    """The text of a profile instead of the default one: JSON, docker's or the runtime specification's."""
    apparmor: str = ""
    masked: tuple[str, ...] = ()
    """Paths to hide besides the usual ones."""
    unmasked: tuple[str, ...] = ()
    """Of the usual ones, those that stay open; ``ALL`` for every one."""


def check_isolation(spec: ContainerSpec) -> None:
    """Refuses what contradicts itself, before anything is made.

    Raises:
        InvalidInput: names the setting, and what it should look like.
    """
    parts = spec.isolation
    modes = {"pid": parts.pid, "ipc": parts.ipc, "uts": parts.uts, "cgroupns": parts.cgroup}
    for flag, mode in modes.items():
        known = ("private", "host", *{"ipc": ("none", "shareable")}.get(flag, ()))
        joins = mode.startswith("container:") and len(mode) > 10 and flag in ("pid", "ipc")
        if mode not in known and not joins:
            also = " or container:NAME" if flag in ("pid", "ipc") else ""
            raise InvalidInput(f"--{flag}: no mode {mode!r}", hint=f"use {', '.join(known)}{also}")
    if parts.uts == "host" and (spec.hostname or spec.domainname):
        raise InvalidInput("a container with the host's name cannot have its own", hint="leave out --uts or --hostname")
    if (parts.uids or parts.auto_ids) and any(item.overlaid for item in spec.mounts):
        raise InvalidInput("an overlay (:O) cannot be had with --userns", hint="leave out one of them")
    _check_sysctls(spec.sysctls, ipc=parts.ipc, network=spec.network, uts=parts.uts)
    for limit in spec.ulimits:
        if limit.name not in ULIMITS:
            raise InvalidInput(f"no such limit: {limit.name!r}", hint=f"there are {', '.join(ULIMITS)}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidInput(f"the soft limit of {limit.name} is above the hard one", hint="write SOFT:HARD")
    for device in spec.devices:
        if not device.source.startswith("/") or not device.target.startswith("/"):
            raise InvalidInput(f"not the absolute path of a device: {device.source!r}")
    if spec.oom_score_adj is not None and abs(spec.oom_score_adj) > MAX_OOM_SCORE:
        raise InvalidInput(f"--oom-score-adj is from -{MAX_OOM_SCORE} to {MAX_OOM_SCORE}, not {spec.oom_score_adj}")
    if spec.init and parts.pid != "private":
        raise InvalidInput("an init needs a process namespace of its own", hint="leave out --init or --pid")
    if spec.privileged and spec.device_rules:
        raise InvalidInput("a privileged container has every device", hint="leave out --device-cgroup-rule")
    _check_ids(spec)
    if spec.rootfs_direct and (spec.layers or not spec.rootfs):
        raise InvalidInput("only a root directory can be written to directly, and without layers over it")
    _check_limits(spec)


def _check_ids(spec: ContainerSpec) -> None:
    parts = spec.isolation
    if parts.uids or parts.gids:
        from wherry.engine.idranges import check_ranges

        check_ranges(parts.uids, "--uidmap")
        check_ranges(parts.gids, "--gidmap")
    if bool(parts.uids) != bool(parts.gids):
        raise InvalidInput("ranges of user ids need ranges of group ids", hint="give --uidmap and --gidmap")
    if not 0 <= parts.auto_ids <= AUTO_COUNT:
        raise InvalidInput(f"--userns: auto has 1 to {AUTO_COUNT} ids, not {parts.auto_ids}")
    if not parts.uids and not parts.auto_ids:
        return
    for flag, mode in (("pid", parts.pid), ("ipc", parts.ipc)):
        if mode.startswith("container:") or (flag == "pid" and mode == "host"):
            raise InvalidInput(
                f"--{flag} {mode}: that namespace belongs to another user namespace",
                hint=f"leave out --{flag}, or --userns",
            )
    for flag, wanted in (("usedev", spec.usedev), ("debugfs", spec.debugfs)):
        if wanted:
            raise InvalidInput(f"--{flag}: a user namespace mounts no such file system", hint="bind it: -v /dev:/dev")


def _check_sysctls(sysctls: Mapping[str, str] = EMPTY, *, ipc: str, network: str, uts: str) -> None:
    for name in sysctls:
        if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
            needs = "ipc" if ipc == "host" else ""
        elif name.startswith("net."):
            needs = "network" if network == "host" else ""
        elif name in ("kernel.domainname", "kernel.hostname"):
            needs = "uts" if uts == "host" else ""
        else:
            hint = "net.*, fs.mqueue.* and kernel.msg*, sem, shm* may be set"
            raise InvalidInput(f"--sysctl: {name} belongs to the whole host", hint=hint)
        if needs:
            raise InvalidInput(f"--sysctl: {name} would be set on the host", hint=f"leave out --{needs} host")


def _check_limits(spec: ContainerSpec) -> None:
    limits = spec.resources
    swap, memory = limits.memory_swap_bytes, limits.memory_bytes
    if swap is not None:
        if memory is None:
            raise InvalidInput("--memory-swap needs --memory", hint="give both")
        if swap not in (-1, 0) and swap < memory:
            raise InvalidInput("--memory-swap counts memory and swap, and is not below --memory")
    if limits.memory_reservation_bytes is not None and memory is not None and limits.memory_reservation_bytes > memory:
        raise InvalidInput("--memory-reservation is not above --memory")
    if limits.memory_swappiness is not None and not 0 <= limits.memory_swappiness <= 100:
        raise InvalidInput(f"--memory-swappiness is from 0 to 100, not {limits.memory_swappiness}")
    if limits.oom_kill_disable and memory is None:
        raise InvalidInput("--oom-kill-disable needs --memory: the host would run out", hint="give both")
    if limits.milli_cpus is not None and (limits.cpu_quota_us is not None or limits.cpu_period_us is not None):
        raise InvalidInput("--cpus says what --cpu-period and --cpu-quota do", hint="leave out one of them")
    period = limits.cpu_period_us
    if period is not None and not MIN_PERIOD_US <= period <= MAX_PERIOD_US:
        raise InvalidInput(f"--cpu-period is from {MIN_PERIOD_US} to {MAX_PERIOD_US} microseconds, not {period}")
    if limits.cpu_quota_us is not None and limits.cpu_quota_us != -1 and limits.cpu_quota_us < MIN_PERIOD_US:
        raise InvalidInput(f"--cpu-quota is at least {MIN_PERIOD_US} microseconds, not {limits.cpu_quota_us}")
    if limits.cpu_shares is not None and not MIN_SHARES <= limits.cpu_shares <= MAX_SHARES:
        raise InvalidInput(f"--cpu-shares is from {MIN_SHARES} to {MAX_SHARES}, not {limits.cpu_shares}")
    weights = [item.rate for item in limits.blkio_device_weights]
    for weight in [*weights, *([] if limits.blkio_weight is None else [limits.blkio_weight])]:
        if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
            raise InvalidInput(f"a weight of block devices is from {MIN_WEIGHT} to {MAX_WEIGHT}, not {weight}")
    runtime = limits.cpu_rt_runtime_us
    if runtime is not None and runtime > (limits.cpu_rt_period_us or MAX_PERIOD_US):
        raise InvalidInput("--cpu-rt-runtime is not above --cpu-rt-period")


class chosen:  # noqa: N801 a context manager, read as a noun
    """Gives a request with its ranges filled in, and keeps others from choosing until its container is there."""

    def __init__(self, paths: Paths, spec: ContainerSpec) -> None:
        self._paths, self._spec = paths, spec
        self._lock: file_lock | None = None

    def __enter__(self) -> ContainerSpec:
        spec = self._spec
        wanted = spec.isolation.auto_ids
        if (wanted or spec.isolation.uids) and usernamespace.inside():
            raise Unsupported(
                "a container of somebody without root has ids of its own already", hint="leave out --userns"
            )
        if not wanted:
            return spec
        self._lock = file_lock(f"{self._paths.run}/userns.lock", what="the ranges of ids")
        self._lock.__enter__()
        try:
            from wherry.engine.idranges import choose

            users, groups = choose(self._paths, wanted)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return replace(spec, isolation=replace(spec.isolation, uids=(users,), gids=(groups,)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.__exit__(kind, error, traceback)
            self._lock = None
