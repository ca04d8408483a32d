"""The engine, as the updater sees it: the containers of one device and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wherry.core.digest import Checksum
from wherry.device.apps import LABEL_APP
from wherry.engine.engine import Engine
from wherry.engine.info import ContainerInfo
from wherry.engine.spec import ContainerSpec

MAX_PROBE_CHARS = 300


class EngineContainers:
    """The ``Containers`` of a real device; every call finds them on disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Makes a container, and lays its image out; starts nothing."""
        return self._engine.create(spec)

    def start(self, container_id: str) -> None:
        """Starts it; one that runs is left alone."""
        self._engine.start(container_id)

    def stop(self, container_id: str) -> None:
        """Stops it, and it stays so."""
        self._engine.stop(container_id)

    def remove(self, container_id: str) -> None:
        """Removes it, running or not."""
        self._engine.remove(container_id, force=True)

    def list(self) -> Sequence[ContainerInfo]:
        """Returns all that are some app's."""
        return self._engine.list(labels={LABEL_APP: ""})

    def log_tail(self, container_id: str, lines: int) -> str:
        """Returns the last lines that it printed, and what its last failed health check said."""
        text = [
            entry.data.decode(errors="replace").rstrip("\n") for entry in self._engine.logs(container_id, tail=lines)
        ]
        probes = self._engine.inspect(container_id).probes
        if probes and probes[-1].exit_code != 0:
            said = probes[-1].output.strip()[-MAX_PROBE_CHARS:]
            text.append(f"(health check: status {probes[-1].exit_code}{f', {said}' if said else ''})")
        return "\n".join(text)

    def keep_images(self, commits: Collection[Checksum]) -> None:
        """Forgets every image that is laid out but not among `commits`, nor used by a container."""
        self._engine.gc_images(commits)
