"""What a device is at, read from its folder without disturbing whoever works on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.errors import WherryError
from wherry.device.agent import is_held
from wherry.device.apps import by_key, keys_of
from wherry.device.deployments import Deployments
from wherry.device.hub import load_link
from wherry.device.identity import load_identity
from wherry.device.interfaces import Container, Containers
from wherry.device.machine import State
from wherry.device.paths import DevicePaths
from wherry.device.space import disk_of
from wherry.device.state import load_state
from wherry.spec.wire import UpdateState

_TRYING = frozenset({UpdateState.TRYING, UpdateState.TESTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    """One app of the revision that runs."""

    name: str
    state: str
    health: str
    restarts: int
    pid: int
    container: str
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateStatus:
    """The revision on its way."""

    revision: str
    phase: str
    assignment: int
    origin: str
    attempt: int
    trials: int
    reason: str
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeStatus:
    """How the last update ended."""

    revision: str
    state: str
    assignment: int
    origin: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatus:
    """The link to the hub."""

    url: str
    contact_s: int | None
    """When it answered last, by the device's clock, give or take a minute."""
    problem: str
    clock_behind_s: int
    """By how much the device's clock is behind the hub's, at least; 0 when it is not known to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """The disk that the device's folder lies on."""

    free_bytes: int
    total_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All of it."""

    device_id: str
    name: str
    target: str
    state: str
    """An ``UpdateState``."""
    agent_runs: bool
    current: str | None
    last_good: str | None
    candidate: CandidateStatus | None
    outcome: OutcomeStatus | None
    apps: tuple[AppStatus, ...]
    hub: HubStatus
    disk: DiskStatus


def read_status(
    root: Path, open_containers: Callable[[DevicePaths], Containers], *, now: Callable[[], float] = time.time
) -> Status:
    """Returns what the device in a folder is at.

    Args:
        root: the device's folder.
        open_containers: its engine.
        now: the device's clock.

    Raises:
        NotFound: no device is enrolled there.
    """
    paths = DevicePaths(root)
    identity = load_identity(paths)
    state = load_state(paths.state)
    link = load_link(paths.link)
    disk = disk_of(root)
    return Status(
        device_id=identity.device_id,
        name=identity.name,
        target=identity.target,
        state=state.phase.value,
        agent_runs=is_held(paths),
        current=state.current,
        last_good=state.last_good,
        candidate=_candidate(state),
        outcome=_outcome(state),
        apps=_apps(paths, state, open_containers),
        hub=HubStatus(
            url=identity.hub,
            contact_s=link.contact_s or None,
            problem=link.problem,
            clock_behind_s=max(0, link.clock_floor_s - int(now())),
        ),
        disk=DiskStatus(free_bytes=disk.free_bytes, total_bytes=disk.total_bytes, reserve_bytes=disk.reserve_bytes),
    )


def _candidate(state: State) -> CandidateStatus | None:
    found = state.candidate
    if found is None:
        return None
    return CandidateStatus(
        revision=found.order.revision,
        phase=found.phase.value,
        assignment=found.order.assignment,
        origin=found.order.origin.value,
        attempt=found.attempt,
        trials=found.trials,
        reason=found.reason,
        bytes_total=found.bytes_total,
    )


def _outcome(state: State) -> OutcomeStatus | None:
    found = state.outcome
    if found is None:
        return None
    return OutcomeStatus(
        revision=found.order.revision,
        state=found.state.value,
        assignment=found.order.assignment,
        origin=found.order.origin.value,
        reason=found.reason,
    )


def _apps(
    paths: DevicePaths, state: State, open_containers: Callable[[DevicePaths], Containers]
) -> tuple[AppStatus, ...]:
    shown: Checksum | None = state.current
    if state.candidate is not None and state.candidate.phase in _TRYING:
        shown = state.candidate.order.revision
    if shown is None:
        return ()
    try:
        revision = Deployments(paths).load(shown)
    except WherryError:
        return ()  # the agent lays it out again
    present = by_key(open_containers(paths).list())
    return tuple(
        _app(name, revision.apps[name].image.reference, present.get(key))
        for name, key in sorted(keys_of(revision).items())
    )


def _app(name: str, image: str, container: Container | None) -> AppStatus:
    if container is None:
        return AppStatus(name=name, state="missing", health="", restarts=0, pid=0, container="", image=image)
    return AppStatus(
        name=name,
        state=container.status,
        health=container.health,
        restarts=container.restarts,
        pid=container.pid or 0,
        container=container.id,
        image=image,
    )
