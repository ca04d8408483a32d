"""From a container's config to what the runtime is asked for: the seam between ``engine`` and ``runtime``.

`build_spec` is pure but for the list of the host's devices that a privileged container gets.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

from wherry.core.errors import InvalidInput
from wherry.engine.net.request import own_namespace
from wherry.engine.prepare import Prepared
from wherry.engine.spec import ContainerConfig, normal_path
from wherry.engine.state import Paths
from wherry.linux.seccomp_profile import Profile
from wherry.runtime import default
from wherry.runtime.default_seccomp import profile as default_profile
from wherry.runtime.resources import Resources
from wherry.runtime.spec import Capabilities, Device, Mount, Namespace, Process, Spec
from wherry.runtime.users import Identity
from wherry.spec.container import Mount as WantedMount
from wherry.spec.container import MountType

CPU_PERIOD_US = 100_000
DEFAULT_TMPFS_MODE = 0o1777
_DEV_EVERYWHERE = frozenset(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
)
"""What every container has of its own."""
_DEV_SKIPPED = ("pts", "shm", "mqueue", "fd", "console")


def runtime_dir(paths: Paths, container_id: str) -> Path:
    """Returns where the runtime keeps its own state of a container."""
    return paths.run_dir(container_id) / "runtime"


def signal_number(text: str) -> int:
    """Returns the number of a signal written as ``SIGTERM``, ``TERM`` or ``15``.

    Raises:
        InvalidInput: there is no such signal.
    """
    word = text.upper()
    if word.isdigit() and 0 < int(word) < signal.NSIG:
        return int(word)
    name = word if word.startswith("SIG") else f"SIG{word}"
    if name.startswith("SIGRTMIN+") and name[9:].isdigit():
        number = int(signal.SIGRTMIN) + int(name[9:])
        if number <= signal.SIGRTMAX:
            return number
    elif name in signal.Signals.__members__:
        return int(signal.Signals[name])
    raise InvalidInput(f"not a signal: {text!r}", hint="write it as SIGTERM, TERM or 15")


def build_spec(config: ContainerConfig, prepared: Prepared) -> Spec:
    """Returns the runtime's specification of a container.

    Args:
        config: the container's.
        prepared: its root, user, mount sources and files.
    """
    spec = config.spec
    namespaces = dict(default.NAMESPACES)
    if prepared.network.namespace is None:
        del namespaces[Namespace.NETWORK]
    else:
        namespaces[Namespace.NETWORK] = prepared.network.namespace
    limits = spec.resources
    quota = None if limits.milli_cpus is None else max(1000, limits.milli_cpus * CPU_PERIOD_US // 1000)
    return Spec(
        process=build_process(config, prepared.identity, config.argv, terminal=spec.tty),
        root_read_only=spec.read_only,
        hostname=config.hostname or prepared.network.hostname,
        mounts=(*default.mounts(privileged=spec.privileged), *_mounts(config, prepared)),
        namespaces=namespaces,
        resources=Resources(
            memory_limit_bytes=limits.memory_bytes,
            # docker's rule: as much swap again as memory
            memory_swap_bytes=None if limits.memory_bytes is None else 2 * limits.memory_bytes,
            cpu_quota_us=quota,
            cpu_period_us=None if quota is None else CPU_PERIOD_US,
            pids_limit=limits.pids,
            devices=default.ALL_DEVICES if spec.privileged else default.DEVICE_RULES,
        ),
        devices=tuple(_host_devices()) if spec.privileged else (),
        masked_paths=() if spec.privileged else default.masked_paths(),
        readonly_paths=() if spec.privileged else default.READONLY_PATHS,
        # docker's: a user of the container may use low ports and ping, as the network is the container's own
        sysctl={}
        if not own_namespace(spec)
        else {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
        seccomp=seccomp_profile(config),
    )


def seccomp_profile(config: ContainerConfig) -> Profile | None:
    """Returns the filter of system calls, or None for a container without one."""
    if config.spec.privileged or not config.spec.seccomp:
        return None
    return default_profile(frozenset(capabilities_of(config).bounding))


def capabilities_of(config: ContainerConfig) -> Capabilities:
    """Returns the capabilities of a container."""
    spec = config.spec
    return default.capabilities(add=spec.cap_add, drop=spec.cap_drop, privileged=spec.privileged)


def build_process(
    config: ContainerConfig,
    identity: Identity,
    args: tuple[str, ...],
    *,
    terminal: bool = False,
    env: tuple[str, ...] = (),
    working_dir: str | None = None,
    privileged: bool = False,
) -> Process:
    """Returns a process of a container: its first, or a further one.

    Args:
        config: the container's.
        identity: whose process it is.
        args: the command.
        terminal: whether it gets one.
        env: more environment, over the container's.
        working_dir: None takes the container's.
        privileged: all capabilities, also in a container that is not privileged.
    """
    merged = {"HOME": identity.home}
    for item in (*config.env, *env):
        key, _, value = item.partition("=")
        merged[key] = value
    spec = config.spec
    capabilities = default.capabilities(privileged=True) if privileged else capabilities_of(config)
    return Process(
        args=args,
        env=tuple(f"{key}={value}" for key, value in merged.items()),
        cwd=working_dir or config.working_dir,
        uid=identity.uid,
        gid=identity.gid,
        additional_gids=identity.groups,
        capabilities=capabilities,
        no_new_privileges=spec.no_new_privileges and not spec.privileged and not privileged,
        terminal=terminal,
    )


def _mounts(config: ContainerConfig, prepared: Prepared) -> Iterator[Mount]:
    taken = {normal_path(item.target) for item in config.mounts}
    for path in prepared.network.files:
        if f"/etc/{path.name}" not in taken:
            yield Mount(destination=f"/etc/{path.name}", type="bind", source=str(path), options=("bind", "rprivate"))
    pairs = zip(config.mounts, prepared.sources, strict=True)
    # a mount point inside another mount comes after it
    for item, source in sorted(pairs, key=lambda pair: normal_path(pair[0].target).count("/")):
        yield _mount(item, source)


def _mount(item: WantedMount, source: str) -> Mount:
    target = normal_path(item.target)
    if item.type == MountType.TMPFS:
        mode = DEFAULT_TMPFS_MODE if item.tmpfs_mode is None else item.tmpfs_mode
        options = ["nosuid", "nodev", f"mode={mode:o}"]
        if item.tmpfs_size_bytes is not None:
            options.append(f"size={item.tmpfs_size_bytes}")
        if item.read_only:
            options.append("ro")
        return Mount(destination=target, type="tmpfs", source="tmpfs", options=tuple(options))
    options = ["rbind", "rprivate"]
    if item.read_only:
        options.append("rro")
    if item.type == MountType.VOLUME:
        options.append("nodev")
    return Mount(destination=target, type="bind", source=source, options=tuple(options))


def _host_devices() -> Iterator[Device]:
    for folder, folders, names in os.walk("/dev"):
        if folder == "/dev":
            folders[:] = [name for name in folders if name not in _DEV_SKIPPED]
        for name in names:
            path = f"{folder}/{name}"
            try:
                status = os.lstat(path)
            except OSError:
                continue
            kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(status.st_mode))
            if kind is None or path in _DEV_EVERYWHERE:
                continue
            yield Device(
                path=path,
                type=kind,
                major=os.major(status.st_rdev),
                minor=os.minor(status.st_rdev),
                file_mode=stat.S_IMODE(status.st_mode),
                uid=status.st_uid,
                gid=status.st_gid,
            )
