"""What a container takes of others and of its host at each start: namespaces that it joins, processors, a pid file."""

from __future__ import annotations

import os

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput
from wherry.engine import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths


def namespaces(paths: Paths, config: ContainerConfig) -> dict[str, str]:
    """Returns, by kind, the paths of the namespaces that a container shares with others; they run.

    Raises:
        NotFound: there is no such container.
        Conflict: it does not run.
        InvalidInput: it is the container itself.
    """
    parts = config.spec.isolation
    return {
        kind: namespace_path(paths, config, mode.removeprefix("container:"), kind)
        for kind, mode in (("pid", parts.pid), ("ipc", parts.ipc))
        if mode.startswith("container:")
    }


def namespace_path(paths: Paths, config: ContainerConfig, other: str, kind: str) -> str:
    """Returns the path of a namespace of another container.

    Args:
        paths: of the engine root.
        config: of the container that joins it.
        other: id, beginning of one, or name.
        kind: as in /proc/PID/ns.
    """
    found = state.find(paths, other)
    if found == config.id:
        raise InvalidInput(f"a container cannot join its own {kind} namespace", where=config.name)
    run = state.read_run(paths, found)
    if run is None or run.status != "running" or state.is_lost(paths, found):
        raise Conflict(
            f"container {other} is not running, and its {kind} namespace cannot be joined",
            hint=f"start it: `wherry start {other}`",
        )
    return f"/proc/{run.pid}/ns/{kind}"


def settle(config: ContainerConfig, pid: int) -> None:
    """Does what is done to a container's first process from outside before its command begins.

    Args:
        config: the container's.
        pid: of the process, which waits for its start.

    Raises:
        InvalidInput: there are no such processors.
        NotPermitted: the file for its number cannot be written.
    """
    spec = config.spec
    if spec.cpu_affinity:
        try:
            os.sched_setaffinity(pid, spec.cpu_affinity)
        except OSError as error:
            raise InvalidInput(f"no such processors: {','.join(map(str, spec.cpu_affinity))}") from error
    if spec.pid_file:
        try:
            with open(spec.pid_file, "w", encoding="ascii") as file:
                file.write(str(pid))
        except OSError as error:
            raise map_os_error(error, "cannot write the container's process number", where=spec.pid_file) from error
