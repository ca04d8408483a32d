"""What is known of a container, put together from its config, what is so while it is kept and its last run."""

from __future__ import annotations

from wherry.core.value import EMPTY, Value
from wherry.engine.records import LastRun, ProbeResult, RunState
from wherry.engine.spec import ContainerConfig
from wherry.spec.container import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CREATED, RUNNING, PAUSED, RESTARTING, EXITED = "created", "running", "paused", "restarting", "exited"
EXIT_KILLED = 137


class ContainerInfo(Value):
    """A container as others see it."""

    id: str
    name: str
    image: str
    commit: str
    status: str
    """``created``, ``running``, ``paused``, ``restarting`` or ``exited``."""
    created_s: float
    command: tuple[str, ...]
    health: str = ""
    """``starting``, ``healthy``, ``unhealthy``, or "" without a health check."""
    failing_streak: int = 0
    probes: tuple[ProbeResult, ...] = ()
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    """Why it could not be started, or why it ended without a status of its own."""
    restarts: int = 0
    pid: int = 0
    supervisor_pid: int = 0
    started_s: float | None = None
    finished_s: float | None = None
    ip: str = ""
    ports: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = EMPTY
    config: ContainerConfig


def describe(
    config: ContainerConfig, run: RunState | None, last: LastRun | None, *, paused: bool = False
) -> ContainerInfo:
    """Joins what is known.

    Args:
        config: the container's.
        run: what its keeper says; None when it is not kept.
        last: its last run.
        paused: whether its processes are frozen.
    """
    started_s = finished_s = exit_code = None
    status, error, oom, restarts = CREATED, "", False, 0
    if last is not None:
        started_s, finished_s, exit_code = last.started_s or None, last.finished_s or None, last.exit_code
        error, oom, restarts = last.error, last.oom_killed, last.restarts
        status = EXITED if last.started_s else CREATED
        if run is None and last.started_s and not last.finished_s:
            exit_code, error = EXIT_KILLED, error or "the machine went down while it ran"
    if run is not None and run.status in (RUNNING, RESTARTING):
        status, started_s, finished_s, exit_code = run.status, run.started_s, None, run.exit_code
        error, oom, restarts = run.error, False, run.restarts
        if status == RUNNING:
            exit_code = None
            status = PAUSED if paused else RUNNING
    elif run is not None and run.status == "ending":
        exit_code, error, oom, restarts = run.exit_code, run.error, run.oom_killed, run.restarts
    elif run is not None and run.restarts:
        status, restarts = RESTARTING, run.restarts  # it is being started again just now
    return ContainerInfo(
        id=config.id,
        name=config.name,
        image=config.image,
        commit=config.commit,
        status=status,
        created_s=config.created_s,
        command=config.argv,
        health=run.health if run is not None else "",
        failing_streak=run.failing_streak if run is not None else 0,
        probes=run.probes if run is not None else (),
        exit_code=exit_code,
        oom_killed=oom,
        error=error,
        restarts=restarts,
        pid=run.pid if run is not None else 0,
        supervisor_pid=run.supervisor_pid if run is not None else 0,
        started_s=started_s,
        finished_s=finished_s,
        ip=run.ip if run is not None else "",
        ports=run.ports if run is not None and run.ports else config.spec.ports,
        labels=config.labels,
        config=config,
    )


def all_match(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tells whether `labels` has every wanted label; a wanted value of "" fits any."""
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())
