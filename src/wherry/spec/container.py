"""What a container is asked to be: the values that Compose files, revisions and the engine share.

Words and meanings are Compose's (compose-spec, "05-services.md"); times are milliseconds and CPUs are
thousandths, so that canonical JSON needs no fractions.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """One published port. ``host_port`` 0 means: any free one."""

    container_port: int
    host_port: int = 0
    host_ip: str = "0.0.0.0"  # noqa: S104 docker's and Compose's default for a published port
    protocol: Literal["tcp", "udp"] = "tcp"


class MountType(enum.StrEnum):
    """Where the bytes of a mount live."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount in a container. ``source`` is a host path, a volume's name, or "" for tmpfs."""

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    tmpfs_size_bytes: int | None = None
    tmpfs_mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How to tell that a container is well.

    ``test`` is Compose's: ``["CMD", ...]``, ``["CMD-SHELL", "..."]`` or ``["NONE"]``.
    """

    test: tuple[str, ...]
    interval_ms: int = 30_000
    timeout_ms: int = 30_000
    retries: int = 3
    start_period_ms: int = 0


class RestartName(enum.StrEnum):
    """Docker's and Compose's words for what happens when a container ends."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless-stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a container that ended is started again; ``max_retries`` 0 means without end."""

    name: RestartName = RestartName.NO
    max_retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of a container; None means none. ``milli_cpus`` 1500 is one and a half CPUs."""

    memory_bytes: int | None = None
    milli_cpus: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppImage:
    """The image that an app is pinned to."""

    reference: str
    """As the user wrote it; for people."""
    commit: str
    """The store commit of the image's tree."""
    digest: str
    """The OCI manifest's (or imported archive's) digest, ``sha256:...``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One app of a revision: a Compose service, resolved."""

    image: AppImage
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    user: str | None = None
    working_dir: str | None = None
    depends_on: Mapping[str, str] = field(default_factory=dict)
    """App name -> ``service_started``, ``service_healthy`` or ``service_completed_successfully``."""
    healthcheck: Healthcheck | None = None
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    resources: Resources = field(default_factory=Resources)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only: bool = False
    network_mode: Literal["bridge", "none", "host"] = "bridge"
    config: str | None = None
    """Checksum (dirtree) of ``config/<app>``, so that a change of it restarts the app; None when there is none."""
    extra: Mapping[str, object] = field(default_factory=dict)
