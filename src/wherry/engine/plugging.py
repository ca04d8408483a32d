"""What a container's network is to its life: plugged in for each run, with the helper that it may hang on."""

from __future__ import annotations

import os

from wherry.engine import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.engine.keep import Keep
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths
    from wherry.spec.container import PortMapping

_NAME = "helper"


class Plugged:
    """The network of one container.

    Args:
        paths: of the engine root.
        keep: who else holds the line that a helper lives by (``net/userspace.py``).
    """

    def __init__(self, paths: Paths, keep: Keep) -> None:
        self._paths, self._keep = paths, keep
        self._line_fd = -1

    def held(self) -> dict[str, int]:
        """Returns what must not be closed while the container runs."""
        return {_NAME: self._line_fd} if self._line_fd >= 0 else {}

    def take_on(self, held: Mapping[str, int]) -> None:
        """Takes over what another process held."""
        self._line_fd = held.get(_NAME, -1)

    def plug(self, config: ContainerConfig, pid: int, ports: tuple[PortMapping, ...]) -> None:
        """Gives the network namespace of a process its network."""
        self._end(config)
        line = prepare.plug(self._paths, config, pid, ports)
        if line is not None:
            self._line_fd = line
            self._keep.hold({f"{config.id}/{_NAME}": line})

    def unplug(self, config: ContainerConfig) -> None:
        """Takes a container's end of the network away; its addresses stay."""
        self._end(config)
        prepare.unplug(self._paths, config)

    def _end(self, config: ContainerConfig) -> None:
        if self._line_fd >= 0:
            os.close(self._line_fd)
            self._line_fd = -1
            self._keep.drop(f"{config.id}/{_NAME}")
