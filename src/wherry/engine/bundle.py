"""From a container's config to what the runtime is asked for: the seam between ``engine`` and ``runtime``.

`build_spec` is pure but for the list of the host's devices that a privileged container gets.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.value import EMPTY
from wherry.engine import limits
from wherry.engine.net.request import own_namespace
from wherry.engine.platforms import is_native, parts_of
from wherry.engine.spec import ContainerConfig, normal_path
from wherry.engine.state import Paths
from wherry.linux import usernamespace
from wherry.linux.signals import number_of
from wherry.runtime import default
from wherry.runtime.spec import Capabilities, IdMapping, Mount, Namespace, Process, Spec
from wherry.runtime.users import MAX_ID
from wherry.spec.container import Mount as WantedMount
from wherry.spec.container import MountType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wherry.engine.isolation import IdRange
    from wherry.engine.prepare import Prepared
    from wherry.engine.volume_mounts import FileSystem
    from wherry.linux.seccomp_profile import Profile

DEFAULT_TMPFS_MODE = 0o1777
_TMPFS_OPTIONS = ("nosuid", "nodev")
INIT = "/sbin/docker-init"
"""Where the init of ``--init`` lies in a container; the name that docker gives it."""
INIT_PROGRAMS = (
    *("/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/libexec/podman/catatonit", "/usr/libexec/docker/docker-init"),
)
"""Static programs that do for one, of the packages ``tini`` and ``catatonit``."""
_MOUNT_QUIET = ("nosuid", "noexec", "nodev")


def runtime_dir(paths: Paths, container_id: str) -> str:
    """Returns where the runtime keeps its own state of a container."""
    return f"{paths.run_dir(container_id)}/runtime"


def signal_number(text: str) -> int:
    """Returns the number of a signal written as ``SIGTERM``, ``TERM`` or ``15``.

    Raises:
        InvalidInput: there is no such signal.
    """
    number = number_of(text)
    if not number:
        raise InvalidInput(f"not a signal: {text!r}", hint="write it as SIGTERM, TERM or 15")
    return number


def build_spec(
    config: ContainerConfig,
    prepared: Prepared,
    joined: Mapping[str, str] = EMPTY,
    *,
    filter_code: bytes = b"",
    env: tuple[str, ...] = (),
) -> Spec:
    """Returns the runtime's specification of a container.

    Args:
        config: the container's.
        prepared: its mount sources and files.
        joined: of the namespaces of other containers that it joins, the paths by their kinds (`joining.namespaces`).
        filter_code: its system call filter, when that is compiled already (`filters.default_filter`).
        env: more environment, over the container's.
    """
    spec = config.spec
    parts = spec.isolation
    devices = limits.host_devices() if spec.privileged else limits.wanted_devices(spec)
    unmasked = spec.privileged or "ALL" in parts.unmasked
    argv = (INIT, "--", *config.argv) if spec.init else config.argv
    return Spec(
        process=build_process(config, argv, terminal=spec.tty, env=env),
        root_read_only=spec.read_only,
        hostname=config.hostname or prepared.network.hostname,
        domainname=spec.domainname,
        mounts=(*_default_mounts(config), *_mounts(config, prepared)),
        namespaces=_namespaces(config, prepared, joined),
        uid_mappings=_mappings(parts.uids),
        gid_mappings=_mappings(parts.gids),
        resources=limits.resources(spec, devices),
        cgroups_path="" if not spec.cgroup_parent else f"/{spec.cgroup_parent.strip('/')}/{config.id}",
        devices=devices,
        masked_paths=(*parts.masked, *_still(default.masked_paths(), parts.unmasked, unmasked)),
        readonly_paths=_still(default.READONLY_PATHS, parts.unmasked, unmasked),
        sysctl=_sysctls(config),
        seccomp=None if filter_code else seccomp_profile(config),
        filter=filter_code,
        annotations=spec.annotations,
    )


def _still(paths: tuple[str, ...], unmasked: tuple[str, ...], none: bool) -> tuple[str, ...]:
    return () if none else tuple(path for path in paths if path not in unmasked)


def _namespaces(config: ContainerConfig, prepared: Prepared, joined: Mapping[str, str]) -> dict[str, str]:
    parts, network = config.spec.isolation, prepared.network.namespace
    modes = {
        Namespace.NETWORK: "host" if network is None else "",
        Namespace.PID: parts.pid,
        Namespace.IPC: parts.ipc,
        Namespace.UTS: parts.uts,
        Namespace.CGROUP: parts.cgroup,
    }
    own = {kind: path for kind, path in default.NAMESPACES.items() if modes.get(kind) != "host"}
    if parts.uids:
        own[Namespace.USER] = ""
    return {**own, **joined, **({Namespace.NETWORK: network} if network else {})}


def _mappings(ranges: tuple[IdRange, ...]) -> tuple[IdMapping, ...]:
    return tuple(IdMapping(container_id=item.container_id, host_id=item.host_id, size=item.size) for item in ranges)


def _sysctls(config: ContainerConfig) -> dict[str, str]:
    if not own_namespace(config.spec):
        return dict(config.spec.sysctls)
    # docker's: a user of the container may use low ports and ping, as the network is the container's own
    usual = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": f"0 {_last_group(config)}"}
    return {**usual, **config.spec.sysctls}


def _last_group(config: ContainerConfig) -> int:
    """Returns the highest of the groups that there are from 0 up without a gap; the kernel takes no other range."""
    end = 0
    for item in sorted(config.spec.isolation.gids, key=lambda item: item.container_id):
        if item.container_id == end:
            end += item.size
    if not end:
        end = usernamespace.mapped("gid") if usernamespace.inside() else MAX_ID + 1
    return min(end - 1, MAX_ID)


def _default_mounts(config: ContainerConfig) -> Iterator[Mount]:
    """Gives the mounts of every container, but for those that something of the config's lies over or stands for."""
    spec = config.spec
    taken = {normal_path(item.target) for item in config.mounts}
    shm = default.DEFAULT_SHM_BYTES if spec.shm_bytes is None else spec.shm_bytes
    for item in default.mounts(shm_bytes=shm, privileged=spec.privileged):
        if item.destination in taken:
            continue
        if item.destination == "/dev" and spec.usedev:
            yield Mount(destination="/dev", type="devtmpfs", source="devtmpfs", options=("nosuid", "mode=755"))
        elif item.destination == "/dev/shm" and spec.isolation.ipc == "none":  # noqa: S108 a place in the container
            continue
        elif item.destination in ("/dev/shm", "/dev/mqueue") and spec.isolation.ipc == "host":  # noqa: S108
            yield Mount(
                destination=item.destination, type="bind", source=item.destination, options=("rbind", *_MOUNT_QUIET)
            )
        else:
            yield item
    if spec.debugfs:
        yield Mount(destination="/sys/kernel/debug", type="debugfs", source="debugfs", options=_MOUNT_QUIET)


def has_default_filter(config: ContainerConfig) -> bool:
    """Tells whether a container has the default filter of system calls: neither its own, nor none."""
    spec = config.spec
    return spec.seccomp and not spec.privileged and not spec.isolation.seccomp_profile


def seccomp_profile(config: ContainerConfig) -> Profile | None:
    """Returns the filter of system calls, or None for a container without one."""
    if config.spec.privileged or not config.spec.seccomp:
        return None
    capabilities = frozenset(capabilities_of(config).bounding)
    if has_default_filter(config):
        from wherry.runtime.default_seccomp import profile

        return profile(capabilities)
    from wherry.runtime import docker_seccomp

    version = os.uname().release.split("-")[0].split(".")
    return docker_seccomp.parse(
        config.spec.isolation.seccomp_profile.encode(),
        capabilities=capabilities,
        kernel=(int(version[0]), int(version[1])),
        where="--security-opt seccomp",
    )


def capabilities_of(config: ContainerConfig) -> Capabilities:
    """Returns the capabilities of a container."""
    spec = config.spec
    return default.capabilities(add=spec.cap_add, drop=spec.cap_drop, privileged=spec.privileged)


def build_process(
    config: ContainerConfig,
    args: tuple[str, ...],
    *,
    user: str | None = None,
    terminal: bool = False,
    env: tuple[str, ...] = (),
    working_dir: str | None = None,
    privileged: bool = False,
) -> Process:
    """Returns a process of a container: its first, or a further one.

    Args:
        config: the container's.
        args: the command.
        user: ``USER[:GROUP]``, looked up in the container's root as it is then; None takes the container's.
        terminal: whether it gets one.
        env: more environment, over the container's.
        working_dir: None takes the container's.
        privileged: all capabilities, also in a container that is not privileged.
    """
    merged: dict[str, str] = {}
    for item in (*config.env, *env):
        key, _, value = item.partition("=")
        merged[key] = value
    spec = config.spec
    capabilities = default.capabilities(privileged=True) if privileged else capabilities_of(config)
    return Process(
        args=args,
        env=tuple(f"{key}={value}" for key, value in merged.items()),
        cwd=working_dir or config.working_dir,
        user=(config.user if user is None else user) or "0",
        groups=spec.group_add,
        umask=spec.umask,
        rlimits=limits.rlimits(spec),
        oom_score_adj=spec.oom_score_adj,
        apparmor_profile="" if spec.privileged else spec.isolation.apparmor,
        capabilities=capabilities,
        no_new_privileges=spec.no_new_privileges and not spec.privileged and not privileged,
        terminal=terminal,
    )


def _mounts(config: ContainerConfig, prepared: Prepared) -> Iterator[Mount]:
    taken = {normal_path(item.target) for item in config.mounts}
    owned = ("idmap",) if config.spec.isolation.uids else ()
    for path in prepared.network.files:
        name = os.path.basename(path)
        if f"/etc/{name}" not in taken and not (name == "hosts" and config.spec.no_hosts):
            yield Mount(destination=f"/etc/{name}", type="bind", source=path, options=("bind", "rprivate", *owned))
    if not is_native(parts_of(config.platform)[1]):
        from wherry.engine import foreign

        yield from foreign.mounts(config.platform)
    if config.spec.init:
        yield Mount(destination=INIT, type="bind", source=init_program(), options=("bind", "rprivate", "ro"))
    pairs = zip(config.mounts, prepared.sources, strict=True)
    # a mount point inside another mount comes after it
    for item, source in sorted(pairs, key=lambda pair: normal_path(pair[0].target).count("/")):
        yield _mount(item, source, mapped=bool(config.spec.isolation.uids))


def _mount(item: WantedMount, source: str | FileSystem, *, mapped: bool) -> Mount:
    target = normal_path(item.target)
    if not isinstance(source, str):
        quiet = () if item.overlaid else _TMPFS_OPTIONS  # what lies below an overlay is as it would be without one
        own = (*quiet, *source.options, *(("ro",) if item.read_only else ()))
        return Mount(destination=target, type=source.type, source=source.device, options=own)
    if item.type == MountType.TMPFS:
        mode = DEFAULT_TMPFS_MODE if item.tmpfs_mode is None else item.tmpfs_mode
        options = [*_TMPFS_OPTIONS, f"mode={mode:o}"]
        if item.tmpfs_size_bytes is not None:
            options.append(f"size={item.tmpfs_size_bytes}")
        options += [*item.tmpfs_options, *(("ro",) if item.read_only else ())]
        return Mount(destination=target, type="tmpfs", source="tmpfs", options=tuple(options))
    options = ["bind" if item.recursive == "disabled" else "rbind", item.propagation or "rprivate"]
    if item.read_only:
        # docker's words: `writable` leaves what is mounted below as it is
        options.append("ro" if item.recursive in ("disabled", "writable") else "rro")
    if item.type == MountType.VOLUME:
        options.append("nodev")
    if mapped and (item.type == MountType.VOLUME or item.mapped):
        options.append("idmap")
    return Mount(destination=target, type="bind", source=source, options=tuple(options), beneath=item.subpath)


def init_program() -> str:
    """Returns the program of the host that serves as an init.

    Raises:
        NotFound: there is none.
    """
    for path in INIT_PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise NotFound("no init for --init on this host", hint="install the package tini or catatonit")
