"""What a container is asked to be: the values that Compose files, revisions and the engine share.

Words and meanings are Compose's (compose-spec, "05-services.md"); times are milliseconds and CPUs are
thousandths, so that canonical JSON needs no fractions.
"""

from __future__ import annotations

from wherry.core.value import EMPTY, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final, Literal


class PortMapping(Value):
    """One published port. ``host_port`` 0 means: any free one."""

    container_port: int
    host_port: int = 0
    host_ip: str = "0.0.0.0"  # noqa: S104 docker's and Compose's default for a published port
    protocol: Literal["tcp", "udp"] = "tcp"


class MountType:
    """Where the bytes of a mount live."""

    BIND: Final = "bind"
    VOLUME: Final = "volume"
    TMPFS: Final = "tmpfs"
    ALL: tuple[Literal["bind", "volume", "tmpfs"], ...] = (BIND, VOLUME, TMPFS)


class Mount(Value):
    """One mount in a container. ``source`` is a host path, a volume's name, or "" for tmpfs.

    Read-only means all below it as well, unless ``recursive`` says otherwise.
    """

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    tmpfs_size_bytes: int | None = None
    tmpfs_mode: int | None = None
    tmpfs_options: tuple[str, ...] = ()
    """More of mount(8)'s words, such as ``exec`` or ``uid=5``."""
    propagation: Literal["", "private", "rprivate", "shared", "rshared", "slave", "rslave"] = ""
    """"" means ``rprivate``."""
    recursive: Literal["enabled", "disabled", "writable", "readonly"] = "enabled"
    """Docker's ``bind-recursive``: whether mounts below a bound directory come along, and read-only as it is."""
    mapped: bool = False
    """Whether a bound directory shows its files with the owners that the container's user namespace has."""
    no_copy: bool = False
    """Whether a new volume begins empty, and not with what the image has there."""
    subpath: str = ""
    """What of a volume is mounted, from its top; "" is all of it."""
    overlaid: bool = False
    """Whether what the container writes goes to a layer of its own, which is emptied at each start."""


class Healthcheck(Value):
    """How to tell that a container is well.

    ``test`` is Compose's: ``["CMD", ...]``, ``["CMD-SHELL", "..."]`` or ``["NONE"]``.
    """

    test: tuple[str, ...]
    interval_ms: int = 30_000
    timeout_ms: int = 30_000
    retries: int = 3
    start_period_ms: int = 0
    start_interval_ms: int = 5_000
    """Between two looks in the start period."""


class RestartName:
    """Docker's and Compose's words for what happens when a container ends."""

    NO: Final = "no"
    ON_FAILURE: Final = "on-failure"
    ALWAYS: Final = "always"
    UNLESS_STOPPED: Final = "unless-stopped"
    ALL: tuple[Literal["no", "on-failure", "always", "unless-stopped"], ...] = (NO, ON_FAILURE, ALWAYS, UNLESS_STOPPED)


class RestartPolicy(Value):
    """When a container that ended is started again; ``max_retries`` 0 means without end."""

    name: Literal["no", "on-failure", "always", "unless-stopped"] = RestartName.NO
    max_retries: int = 0


class DeviceRate(Value):
    """A limit of one block device, by its path on the host: bytes or operations in a second, or a weight."""

    path: str
    rate: int


class Resources(Value):
    """Limits of a container; None means none. ``milli_cpus`` 1500 is one and a half CPUs."""

    memory_bytes: int | None = None
    milli_cpus: int | None = None
    pids: int | None = None
    memory_reservation_bytes: int | None = None
    memory_swap_bytes: int | None = None
    """Memory and swap together; -1 is without limit. None means twice the memory limit."""
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_period_us: int | None = None
    cpu_quota_us: int | None = None
    cpu_rt_period_us: int | None = None
    cpu_rt_runtime_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int | None = None
    blkio_device_weights: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()


class AppImage(Value):
    """The image that an app is pinned to."""

    reference: str
    """As the user wrote it; for people."""
    commit: str
    """The store commit of the image's tree."""
    digest: str
    """The OCI manifest's (or imported archive's) digest, ``sha256:...``."""


class App(Value):
    """One app of a revision: a Compose service, resolved."""

    image: AppImage
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = EMPTY
    ports: tuple[PortMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    user: str | None = None
    working_dir: str | None = None
    depends_on: Mapping[str, str] = EMPTY
    """App name -> ``service_started``, ``service_healthy`` or ``service_completed_successfully``."""
    healthcheck: Healthcheck | None = None
    restart: RestartPolicy = RestartPolicy()
    resources: Resources = Resources()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only: bool = False
    network_mode: Literal["bridge", "none", "host"] = "bridge"
    config: str | None = None
    """Checksum (dirtree) of ``config/<app>``, so that a change of it restarts the app; None when there is none."""
    extra: Mapping[str, object] = EMPTY
