"""Waiting for what ``depends_on`` and ``--wait`` ask of containers: by the engine's events, not by looking in turns."""

from __future__ import annotations

import time
from collections.abc import Iterable

from wherry.core.errors import Conflict, NotFound, Timeout, Unhealthy, WherryError
from wherry.engine import events
from wherry.engine.compose.project import Member
from wherry.engine.engine import Engine
from wherry.engine.health import HEALTHY, UNHEALTHY
from wherry.engine.info import ContainerInfo

LOOK_AGAIN_S = 5.0
_HEALTH = "health_status"


class DependencyFailed(WherryError):
    """A container is not what another service waits for."""


def until_healthy(engine: Engine, info: ContainerInfo, deadline: float | None = None) -> None:
    """Waits until a container's health check passes.

    Args:
        engine: of the container.
        info: it; it was started.
        deadline: on the clock of ``time.time``; None waits for ever.

    Raises:
        Unhealthy: its check has failed.
        DependencyFailed: it has ended.
        Conflict: it has no check.
        Timeout: it did not happen in time.
    """
    if info.config.healthcheck is None:
        raise Conflict(
            f"container {info.name} has no health check to wait for",
            hint="give its service a healthcheck, or its image",
        )
    filters = {"container": [info.id], "event": [_HEALTH, "die", "destroy"]}
    while deadline is None or time.time() < deadline:
        since_s = time.time()
        try:
            now = engine.inspect(info.id)
        except NotFound:
            raise DependencyFailed(f"container {info.name} is gone", hint="somebody removed it") from None
        if _settled(now, now.health):
            return
        # looked at again now and then, as an event is lost when the disk is full
        until_s = min(since_s + LOOK_AGAIN_S, deadline or since_s + LOOK_AGAIN_S)
        for event in events.read(engine.paths, since_s=since_s, until_s=until_s, filters=filters):
            action = str(event["Action"])
            if not action.startswith(_HEALTH):
                break  # whether it is started again shows in its state
            # the event is told before the state is written: its word is the newer one
            if _settled(now, action.partition(": ")[2]):
                return
    raise Timeout(f"container {info.name} did not become healthy in time", hint=f"`wherry inspect {info.name}`")


def _settled(info: ContainerInfo, health: str) -> bool:
    if health == HEALTHY:
        return True
    if health == UNHEALTHY:
        raise Unhealthy(f"container {info.name} is unhealthy", hint=f"`wherry inspect {info.name}` shows its checks")
    if info.status in ("exited", "created"):
        code = "" if info.exit_code is None else f" with status {info.exit_code}"
        raise DependencyFailed(f"container {info.name} has ended{code}", hint=f"`wherry logs {info.name}`")
    return False


def until_completed(engine: Engine, info: ContainerInfo) -> None:
    """Waits until a container has ended well.

    Raises:
        DependencyFailed: it ended with another status than 0.
    """
    try:
        code = engine.wait(info.id)
    except NotFound:
        raise DependencyFailed(f"container {info.name} is gone") from None
    if code != 0:
        raise DependencyFailed(
            f"container {info.name} did not complete successfully: status {code}", hint=f"`wherry logs {info.name}`"
        )


def until_ready(engine: Engine, found: Iterable[Member], timeout_s: float | None) -> None:
    """Waits until containers run, and are healthy where that can be told.

    Raises:
        Timeout: it did not happen in time.
        DependencyFailed, Unhealthy: one of them ended, or its check failed.
    """
    deadline = None if timeout_s is None else time.time() + timeout_s
    for member in found:
        info = engine.inspect(member.info.id)
        if info.config.healthcheck is not None:
            until_healthy(engine, info, deadline)
        elif info.status == "exited" and info.exit_code != 0:
            _settled(info, "")
