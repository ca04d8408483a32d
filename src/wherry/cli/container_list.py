"""How containers are shown: docker's columns, and JSON."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wherry.core.digest import short
from wherry.core.units import format_duration, format_size
from wherry.core.value import Value, fields_of, replace
from wherry.engine.info import ContainerInfo
from wherry.spec.container import PortMapping

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

HEAD = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
SHRINK = (1, 2, 5, 3, 6, 4)
"""What gives way on a narrow terminal, the first to give way first; 80 columns hold them all."""
MAX_COMMAND_CHARS = 16
STATUSES = ("created", "running", "paused", "restarting", "exited")


def row(info: ContainerInfo, *, truncate: bool = True) -> tuple[str, ...]:
    """Returns a container's cells for `HEAD`."""
    command = " ".join(info.command)
    if truncate and len(command) > MAX_COMMAND_CHARS:
        command = command[: MAX_COMMAND_CHARS - 1] + "…"
    return (
        info.id[:12] if truncate else info.id,
        short_image(info.image) if truncate else info.image,
        f'"{command}"',
        f"{format_duration(max(0.0, time.time() - info.created_s))} ago",
        status_text(info),
        ports_text(info.ports) if info.status in ("running", "paused") else "",
        info.name,
    )


def short_image(name: str) -> str:
    """Returns an image's name as a person would write it: without docker's defaults."""
    if name.startswith("/"):
        return name.rstrip("/").rpartition("/")[2] or "/"
    return name.removeprefix("docker.io/").removeprefix("library/")


def status_text(info: ContainerInfo, span: Callable[[float], str] = format_duration) -> str:
    """Returns ``Up 3 min (healthy)``, ``Exited (1) 2 h ago`` and so on.

    Args:
        info: the container.
        span: writes a number of seconds.
    """
    now = time.time()
    ended = f" {span(max(0.0, now - info.finished_s))} ago" if info.finished_s else ""
    if info.status in ("running", "paused"):
        health = {"": "", "starting": " (health: starting)"}.get(info.health, f" ({info.health})")
        if info.status == "paused":
            health = " (Paused)"
        return f"Up {span(max(0.0, now - (info.started_s or now)))}{health}"
    if info.status == "restarting":
        return f"Restarting ({info.exit_code}){ended}"
    if info.status == "exited":
        return f"Exited ({info.exit_code}){ended}"
    return "Created"


def ports_text(ports: Iterable[PortMapping]) -> str:
    """Returns ``8080->80/tcp``, with the address when it is not all of them; ``8000-8010->80-90/tcp`` for a range."""
    runs: list[list[PortMapping]] = []
    for port in ports:
        last = runs[-1][-1] if runs else None
        if last is not None and port == replace(
            last, host_port=last.host_port + 1, container_port=last.container_port + 1
        ):
            runs[-1].append(port)
        else:
            runs.append([port])
    parts = []
    for run in runs:
        first, last = run[0], run[-1]
        address = "" if first.host_ip in ("0.0.0.0", "") else f"{first.host_ip}:"  # noqa: S104 a comparison
        if ":" in first.host_ip:
            address = f"[{first.host_ip}]:"
        host = _range(first.host_port, last.host_port)
        parts.append(f"{address}{host}->{_range(first.container_port, last.container_port)}/{first.protocol}")
    return ", ".join(parts)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def summary(info: ContainerInfo) -> dict[str, Any]:
    """Returns what ``ps --json`` shows of a container."""
    return {
        "id": info.id,
        "name": info.name,
        "image": info.image,
        "commit": info.commit,
        "command": list(info.command),
        "status": info.status,
        "health": info.health,
        "exit_code": info.exit_code,
        "restarts": info.restarts,
        "pid": info.pid,
        "created_s": info.created_s,
        "started_s": info.started_s,
        "finished_s": info.finished_s,
        "ip": info.ip,
        "ports": [full(port) for port in info.ports],
        "labels": dict(info.labels),
    }


def full(value: Any) -> Any:
    """Returns a value or a data class as a JSON value with every field, also those that have their default."""
    if isinstance(value, Value):
        named = {name: full(getattr(value, name)) for name in fields_of(type(value)) if name != "extra"}
        return {**named, **full(getattr(value, "extra", {}))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = {
            field.name: full(getattr(value, field.name)) for field in dataclasses.fields(value) if field.name != "extra"
        }
        return {**result, **full(getattr(value, "extra", {}))}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: full(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [full(item) for item in value]
    return value


def short_id(info: ContainerInfo, *, truncate: bool) -> str:
    """Returns what ``ps -q`` prints."""
    return short(info.id) if truncate else info.id


def size_text(engine: Engine, info: ContainerInfo) -> str:
    """Returns what ``ps --size`` shows: what it has written, and its whole root's size."""
    from wherry.engine.disk import image_bytes, written_bytes

    own = written_bytes(engine.paths, info.id)
    return f"{format_size(own)} (virtual {format_size(own + image_bytes(engine.repo, info.commit))})"
