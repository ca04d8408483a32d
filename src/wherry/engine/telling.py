"""The events of a container, with docker's attributes: its image and its labels, and what belongs to each.

In docker's order a life is: ``create``, ``attach`` for a command in the foreground, ``start``, ``kill`` with the
signal, ``die`` with the exit status, ``stop`` if that was asked for, ``destroy``; after both of ``restart``, that. A
further process is ``exec_create: COMMAND``, ``exec_start: COMMAND`` and ``exec_die``, joined by ``execID``. Health
checks are told by their outcome alone (``health_status: ...``): on a device three lines for every look would be most of
what there is. Source: Docker Engine API 1.45, "Monitor events"; the order is that of Docker 20.10.
"""

from __future__ import annotations

import os

from wherry.engine.events import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths


def tell(paths: Paths, config: ContainerConfig, action: str, **attributes: object) -> None:
    """Tells an event of a container; a failure is not told.

    Args:
        paths: of the engine root.
        config: the container's.
        action: docker's word.
        **attributes: more than image, name and labels.
    """
    given = {**config.labels, "image": config.image, **attributes}
    emit(paths, action, actor_id=config.id, name=config.name, attributes=given)


class Execution:
    """The events of one further process in a container; the first two are told at once.

    Args:
        paths: of the engine root.
        config: the container's.
        args: the command.
    """

    def __init__(self, paths: Paths, config: ContainerConfig, args: tuple[str, ...]) -> None:
        self._paths, self._config = paths, config
        self._id = os.urandom(32).hex()
        for action in ("exec_create", "exec_start"):
            tell(paths, config, f"{action}: {' '.join(args)}", execID=self._id)

    def died(self, exit_code: int) -> None:
        """Tells its end."""
        tell(self._paths, self._config, "exec_die", execID=self._id, exitCode=exit_code)
