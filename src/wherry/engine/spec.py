"""What a container is asked to be, and what that comes to with its image: two values and the pure step between.

``ContainerSpec`` is the request, in docker's words. ``resolve`` joins it with the image's config to a
``ContainerConfig``, which is written once to the container's folder and never changes. This module reads and
writes nothing, and refuses what the kernel or a later step would refuse in a less readable way.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.core.value import EMPTY, Value, replace
from wherry.engine.isolation import DeviceMapping, Isolation, Ulimit, check_isolation
from wherry.engine.net import request
from wherry.engine.net.request import DnsSettings, NetworkAttachment
from wherry.runtime.resources import DeviceRule
from wherry.spec.container import Healthcheck, Mount, MountType, PortMapping, Resources, RestartName, RestartPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, Protocol
else:
    Protocol = object

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_LOG_BYTES = 10 * 1024 * 1024
DEFAULT_LOG_FILES = 3
DEFAULT_STOP_TIMEOUT_S = 10
DEFAULT_STOP_SIGNAL = "SIGTERM"
MIN_MEMORY_BYTES = 6 * 1024 * 1024
"""Docker's own lower limit: below it an init cannot even be set up."""
MAX_HOSTNAME_BYTES = 63
"""RFC 1123, 2.1 for one label; the kernel takes 64."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_CHARS = _PLAIN | frozenset("_.-")
MAX_NAME = 128


class LogLimits(Value):
    """How much of a container's output is kept: `files` files of at most `max_bytes` each."""

    max_bytes: int = DEFAULT_LOG_BYTES
    files: int = DEFAULT_LOG_FILES
    driver: Literal["json-file", "none"] = "json-file"


class ContainerSpec(Value):
    """A container as it is asked for. What is None or empty is taken from the image."""

    image: str = ""
    """What ``Images.get`` takes: a reference, a commit or a prefix of one."""
    rootfs: str = ""
    """A directory, or an image file of squashfs or EROFS, to run from instead of an image of the store."""
    rootfs_direct: bool = False
    """Whether the directory itself is written to; else what is written lies over it."""
    platform: str = ""
    """What the image must be for, as ``linux/arm64``; "" takes it as it is."""
    name: str = ""
    """Unique below one engine root; made up when empty."""
    args: tuple[str, ...] | None = None
    """The command: replaces the image's Cmd."""
    entrypoint: tuple[str, ...] | None = None
    """Replaces the image's Entrypoint, and drops its Cmd."""
    env: Mapping[str, str] = EMPTY
    secret_env: Mapping[str, str] = EMPTY
    """Variables, and the names of the secrets that are their values: read at each start, and written nowhere."""
    mounts: tuple[Mount, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    network: str = "bridge"
    """``bridge``, ``none``, ``host``, ``container:NAME`` or ``ns:PATH``."""
    networks: tuple[NetworkAttachment, ...] = ()
    """With ``bridge``: networks by name, in the place of the default one."""
    expose: tuple[str, ...] = ()
    """Ports beside the image's, for `publish_all`."""
    publish_all: bool = False
    """Whether every exposed port is published on any free one."""
    dns: DnsSettings = DnsSettings()
    add_hosts: tuple[str, ...] = ()
    """Lines for ``/etc/hosts``; the address ``host-gateway`` is the host's on the container's network."""
    aliases: tuple[str, ...] = ()
    """Further names under which other containers of this engine root find it."""
    hostname: str = ""
    domainname: str = ""
    no_hosts: bool = False
    """Whether the image's own /etc/hosts stays."""
    resources: Resources = Resources()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = True
    seccomp: bool = True
    isolation: Isolation = Isolation()
    devices: tuple[DeviceMapping, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = EMPTY
    shm_bytes: int | None = None
    oom_score_adj: int | None = None
    cgroup_parent: str = ""
    cpu_affinity: tuple[int, ...] = ()
    """The processors that its processes are bound to by sched_setaffinity(2); () leaves that to the kernel."""
    init: bool = False
    """Whether an init comes before the command, to hand on signals and to reap."""
    usedev: bool = False
    """Whether /dev is the host's devtmpfs."""
    debugfs: bool = False
    group_add: tuple[str, ...] = ()
    umask: int | None = None
    annotations: Mapping[str, str] = EMPTY
    pid_file: str = ""
    user: str | None = None
    working_dir: str | None = None
    read_only: bool = False
    restart: RestartPolicy = RestartPolicy()
    healthcheck: Healthcheck | None = None
    labels: Mapping[str, str] = EMPTY
    tty: bool = False
    stdin_open: bool = False
    log: LogLimits = LogLimits()
    layers: tuple[str, ...] = ()
    """Directories laid read-only over the image, the first on top: an app's configuration."""
    stop_signal: str = ""
    stop_timeout_s: int = DEFAULT_STOP_TIMEOUT_S
    rm: bool = False
    """Whether the container removes itself when it has ended."""


class ImageSettings(Protocol):
    """What is read of an image's config (image-spec 1.1, config.md); ``image.config.ImageConfig`` is one."""

    @property
    def entrypoint(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def cmd(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def env(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def user(self) -> str: ...  # noqa: D102
    @property
    def working_dir(self) -> str: ...  # noqa: D102
    @property
    def volumes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def stop_signal(self) -> str: ...  # noqa: D102
    @property
    def healthcheck(self) -> Healthcheck | None: ...  # noqa: D102
    @property
    def platform(self) -> str: ...  # noqa: D102
    @property
    def exposed_ports(self) -> tuple[str, ...]: ...  # noqa: D102


class BareSettings(Value):
    """The settings of a root tree that has no image config (``--rootfs``)."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = EMPTY
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    exposed_ports: tuple[str, ...] = ()
    platform: str = ""
    """As ``linux/arm64``; "" when it is not known."""


class ContainerConfig(Value):
    """A container as it will run: ``config.json`` in its folder, written once."""

    id: str
    name: str
    created_s: float
    image: str
    """The image's reference, or the root directory, for people."""
    commit: str
    """The store commit of the image's tree; "" with `rootfs`."""
    argv: tuple[str, ...]
    spec: ContainerSpec
    platform: str = ""
    """What the root tree is for, as ``linux/arm64``; "" when it does not say."""
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = "/"
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = EMPTY
    stop_signal: str = DEFAULT_STOP_SIGNAL
    healthcheck: Healthcheck | None = None
    anonymous_volumes: tuple[str, ...] = ()
    """Volumes made for this container alone; they go with it."""
    extra: Mapping[str, Any] = EMPTY


def check(spec: ContainerSpec) -> None:
    """Refuses a request that cannot work.

    Raises:
        InvalidInput: names the setting, and what it should look like.
    """
    if bool(spec.image) == bool(spec.rootfs):
        raise InvalidInput("a container has either an image or a root directory", hint="name one of the two")
    if spec.name and not is_name(spec.name):
        raise InvalidInput(f"not a container name: {spec.name!r}", hint="use letters, digits, _ . and -")
    for alias in spec.aliases:
        if not _is_hostname(alias.replace("_", "-")):
            raise InvalidInput(f"not a network alias: {alias!r}", hint="use letters, digits, . and -")
    if spec.hostname and (len(spec.hostname) > MAX_HOSTNAME_BYTES or not _is_hostname(spec.hostname)):
        raise InvalidInput(f"not a host name: {spec.hostname!r}", hint="use letters, digits, . and -, at most 63")
    for key, value in spec.env.items():
        if not key or "=" in key or "\0" in key or "\0" in value:
            raise InvalidInput(f"not a name of an environment variable: {key!r}", hint="write it as NAME=value")
    request.check(spec)
    seen: set[tuple[int, str, str]] = set()
    for port in spec.ports:
        if not 0 < port.container_port < 65536 or not 0 <= port.host_port < 65536:
            raise InvalidInput(f"not a port: {port.host_port}:{port.container_port}", hint="ports are 1 to 65535")
        key3 = (port.host_port, port.host_ip, port.protocol)
        if port.host_port and key3 in seen:
            raise InvalidInput(f"port {port.host_port}/{port.protocol} is published twice")
        seen.add(key3)
    _check_mounts(spec.mounts)
    memory = spec.resources.memory_bytes
    if memory not in (None, -1) and memory < MIN_MEMORY_BYTES:
        raise InvalidInput(f"a memory limit of {memory} bytes is too small", hint="give at least 6m")
    if spec.resources.milli_cpus is not None and spec.resources.milli_cpus < 10:
        raise InvalidInput("a CPU limit is at least 0.01")
    check_isolation(spec)
    if spec.rm and spec.restart.name != RestartName.NO:
        raise InvalidInput("a container that removes itself cannot be restarted", hint="leave out --rm or --restart")
    if spec.log.max_bytes < 4096 or not 1 <= spec.log.files <= 100:
        raise InvalidInput("log limits are at least 4 KiB a file, and 1 to 100 files")


def check_cpus(resources: Resources, processors: int) -> None:
    """Refuses more CPUs than the machine has, as docker does; a part of `check` that depends on the machine.

    Raises:
        InvalidInput: names the most that can be.
    """
    if resources.milli_cpus is not None and resources.milli_cpus > processors * 1000:
        cpus = f"{resources.milli_cpus / 1000:g}"
        raise InvalidInput(f"{cpus} CPUs are more than this machine has", hint=f"give 0.01 to {processors}")


def _check_mounts(mounts: tuple[Mount, ...]) -> None:
    targets: set[str] = set()
    for mount in mounts:
        if not mount.target.startswith("/") or normal_path(mount.target) == "/" or "\0" in mount.target:
            raise InvalidInput(f"not a mount point in the container: {mount.target!r}", hint="give an absolute path")
        if normal_path(mount.target) in targets:
            raise InvalidInput(f"two mounts have one mount point: {mount.target}")
        targets.add(normal_path(mount.target))
        if mount.type == MountType.BIND and not mount.source.startswith("/"):
            raise InvalidInput(f"the source of a bind mount is not an absolute path: {mount.source!r}")
        if mount.subpath:
            _check_subpath(mount)
        if mount.overlaid and (mount.read_only or mount.propagation or mount.mapped or mount.recursive != "enabled"):
            raise InvalidInput(f"an overlay (:O) goes with no other option: {mount.target}")
        if mount.type == MountType.VOLUME and mount.source and not is_name(mount.source):
            raise InvalidInput(f"not a volume name: {mount.source!r}", hint="a path begins with / or ./")


def _check_subpath(mount: Mount) -> None:
    if mount.type != MountType.VOLUME or not mount.source:
        raise InvalidInput("a path in a volume needs a volume with a name", where=mount.target)
    if mount.subpath.startswith("/") or ".." in mount.subpath.split("/") or "\0" in mount.subpath:
        raise InvalidInput(f"not a path in a volume: {mount.subpath!r}", hint="give one from its top, without '..'")


def is_name(text: str) -> bool:
    """Tells whether a text can name a container or a volume."""
    return 0 < len(text) <= MAX_NAME and text[0] in _PLAIN and _NAME_CHARS.issuperset(text)


def _is_hostname(text: str) -> bool:
    return text[:1] in _PLAIN and text[-1:] in _PLAIN and _NAME_CHARS.issuperset(text) and "_" not in text


def normal_path(path: str) -> str:
    """Returns an absolute path in a container without ``.``, ``..``, double and trailing slashes."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def resolve(
    spec: ContainerSpec,
    settings: ImageSettings,
    *,
    container_id: str,
    name: str,
    created_s: float,
    image: str,
    commit: str,
) -> ContainerConfig:
    """Joins a request with its image's settings, by docker's rules.

    Args:
        spec: the request, checked.
        settings: of the image.
        container_id: 64 hex digits.
        name: the final name.
        created_s: seconds since 1970.
        image: the image's reference, for people.
        commit: of the image's tree, or "".

    Returns:
        The config to be written.

    Raises:
        InvalidInput: neither side names a command, or the health check is malformed.
    """
    entrypoint = spec.entrypoint if spec.entrypoint is not None else settings.entrypoint or ()
    if spec.args is not None:
        command = spec.args
    else:
        command = () if spec.entrypoint is not None else settings.cmd or ()
    argv = tuple(entrypoint) + tuple(command)
    if not argv:
        raise InvalidInput("no command to run, and the image names none", where=image, hint="name one after the image")
    named = request.own_namespace(spec) and spec.isolation.uts != "host"
    hostname = spec.hostname or (container_id[:12] if named else "")
    spec = replace(spec, ports=request.all_ports(spec, settings.exposed_ports))
    mounts = list(spec.mounts)
    taken = {normal_path(mount.target) for mount in mounts}
    for target in settings.volumes:
        if normal_path(target) not in taken:
            mounts.append(Mount(type=MountType.VOLUME, target=normal_path(target)))
    anonymous: list[str] = []
    for index, mount in enumerate(mounts):
        if mount.type == MountType.VOLUME and not mount.source:
            volume = f"anon-{container_id[:16]}-{len(anonymous)}"
            anonymous.append(volume)
            mounts[index] = replace(mount, source=volume)
    return ContainerConfig(
        id=container_id,
        name=name,
        created_s=created_s,
        image=image,
        commit=commit,
        argv=argv,
        spec=spec,
        platform=settings.platform,
        env=_environment(spec, settings, hostname),
        user=spec.user if spec.user is not None else settings.user,
        working_dir=_working_dir(spec.working_dir or settings.working_dir or "/"),
        hostname=hostname,
        mounts=tuple(mounts),
        labels={**settings.labels, **spec.labels},
        stop_signal=spec.stop_signal or settings.stop_signal or DEFAULT_STOP_SIGNAL,
        healthcheck=_healthcheck(spec.healthcheck, settings.healthcheck),
        anonymous_volumes=tuple(anonymous),
    )


def _working_dir(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidInput(f"the working directory is not an absolute path: {path!r}")
    return normal_path(path)


def _environment(spec: ContainerSpec, settings: ImageSettings, hostname: str) -> tuple[str, ...]:
    merged: dict[str, str] = {"PATH": DEFAULT_PATH}
    if hostname:
        merged["HOSTNAME"] = hostname
    if spec.tty:
        merged["TERM"] = "xterm"
    for item in settings.env:
        key, _, value = item.partition("=")
        merged[key] = value
    merged.update(spec.env)
    return tuple(f"{key}={value}" for key, value in merged.items())


def _healthcheck(own: Healthcheck | None, of_image: Healthcheck | None) -> Healthcheck | None:
    if own is not None and not own.test and of_image is not None:
        # `--health-interval` alone changes how the image's own test is run
        own = replace(own, test=of_image.test)
    found = own if own is not None else of_image
    if found is None or not found.test or found.test[0] == "NONE":
        return None
    if found.test[0] not in ("CMD", "CMD-SHELL") or len(found.test) < 2:
        raise InvalidInput(f"not a health check: {list(found.test)!r}", hint='write ["CMD", "program", "argument"]')
    if min(found.interval_ms, found.timeout_ms, found.retries) <= 0:
        raise InvalidInput("a health check's interval, timeout and retries are above zero")
    return found


def health_argv(healthcheck: Healthcheck) -> tuple[str, ...]:
    """Returns the command of a health check that ``resolve`` accepted."""
    if healthcheck.test[0] == "CMD-SHELL":
        return ("/bin/sh", "-c", healthcheck.test[1])
    return healthcheck.test[1:]
