"""A simulated engine: containers are files in a folder, so that they outlive the process that made them.

It behaves as the real one where the device can tell: a container that runs is not started twice, a port is taken by
one container, names are unique. How an app does is said in its environment variable ``SIM``:

* ``healthy`` (or nothing): runs; ``unhealthy``: runs, and its health check fails; ``slow:N``: becomes healthy at the
  N-th look; ``exit:N``: ends at once with status N; ``refuse``: cannot be started.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, NotFound, WherryError
from wherry.engine.spec import ContainerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SimContainer:
    id: str
    name: str
    image: str
    status: str = "created"
    health: str = ""
    exit_code: int | None = None
    restarts: int = 0
    pid: int = 0
    error: str = ""
    started_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    behaviour: str = "healthy"
    checked: bool = False
    looks: int = 0
    starts: int = 0
    ports: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()


class SimEngine:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def create(self, spec: ContainerSpec) -> SimContainer:
        if any(container.name == spec.name for container in self._all()):
            raise Conflict(f"the name {spec.name!r} is taken")
        for layer in spec.layers:
            if not os.path.isdir(layer):
                raise NotFound("no such layer", where=layer)
        container = SimContainer(
            id=secrets.token_hex(32),
            name=spec.name,
            image=spec.image,
            labels=dict(spec.labels),
            behaviour=spec.env.get("SIM", "healthy"),
            checked=spec.healthcheck is not None,
            ports=tuple(port.host_port for port in spec.ports),
            layers=spec.layers,
        )
        self._write(container)
        return container

    def start(self, container_id: str) -> None:
        container = self._read(container_id)
        if container.status == "running":
            (self._root / "started-twice").write_text(container.name)
            raise Conflict(f"container {container.name} runs already")
        for other in self._all():
            for port in set(other.ports) & set(container.ports):
                if other.status == "running":
                    raise Conflict(f"port {port} is in use", where=other.name)
        for layer in container.layers:
            if not os.path.isdir(layer):
                raise NotFound("no such layer", where=layer)
        kind, _, number = container.behaviour.partition(":")
        if kind == "refuse":
            raise WherryError("the program cannot be invoked", where="/bin/nothing")
        started = replace(
            container, status="running", started_s=float(self._tick()), exit_code=None, starts=container.starts + 1
        )
        if kind == "exit":
            started = replace(started, status="exited", exit_code=int(number))
        elif kind == "unhealthy":
            started = replace(started, health="unhealthy")
        elif kind == "slow":
            started = replace(started, health="starting", looks=0)
        elif container.checked:
            started = replace(started, health="healthy")
        self._write(started)

    def stop(self, container_id: str) -> None:
        container = self._read(container_id)
        if container.status in ("running", "restarting"):
            self._write(replace(container, status="exited", exit_code=143, health=""))

    def remove(self, container_id: str) -> None:
        self._path(container_id).unlink(missing_ok=True)

    def list(self) -> Sequence[SimContainer]:
        found = self._all()
        for container in found:
            kind, _, number = container.behaviour.partition(":")
            if kind == "slow" and container.health == "starting":
                looks = container.looks + 1
                health = "healthy" if looks >= int(number) else "starting"
                self._write(replace(container, looks=looks, health=health))
        return found

    def log_tail(self, container_id: str, lines: int) -> str:
        return f"last words of {self._read(container_id).name}"

    def keep_images(self, commits: Collection[Checksum]) -> None:
        (self._root / "images").write_text(" ".join(sorted(commits)))

    def reboot(self) -> None:
        """Everything that ran is dead, as after a power cut."""
        for container in self._all():
            if container.status == "running":
                self._write(replace(container, status="exited", exit_code=None, health=""))

    @property
    def started_twice(self) -> bool:
        return (self._root / "started-twice").exists()

    def _tick(self) -> int:
        return sum(container.starts for container in self._all()) + 1

    def _all(self) -> Sequence[SimContainer]:
        return [self._read(path.stem) for path in sorted(self._root.glob("*.json"))]

    def _path(self, container_id: str) -> Path:
        return self._root / f"{container_id}.json"

    def _read(self, container_id: str) -> SimContainer:
        try:
            value = json.loads(self._path(container_id).read_text())
        except FileNotFoundError:
            raise NotFound(f"no container {container_id[:12]}") from None
        return SimContainer(**{**value, "ports": tuple(value["ports"]), "layers": tuple(value["layers"])})

    def _write(self, container: SimContainer) -> None:
        path = self._path(container.id)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(container)))
        temporary.rename(path)
