"""``down``, ``stop``, ``start``, ``restart``, ``kill`` and ``rm``: what is done to the containers that are there.

Nothing here needs the files: what waits for what stands in the containers' labels. Who calls holds the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from wherry.core import trace
from wherry.core.errors import Conflict, NotFound, WherryError
from wherry.engine.compose import granted, labels
from wherry.engine.compose.order import Circle, start_order
from wherry.engine.compose.project import Member, members, networks, volumes
from wherry.engine.compose.provide import Tell, remove_network
from wherry.engine.engine import Engine

MAX_AT_ONCE = 16
"""Containers that are stopped at the same time: each may take its whole grace period."""


def starting(found: Iterable[Member]) -> list[list[Member]]:
    """Returns containers by service, in the order in which they start; by name where the labels lead in a circle."""
    every = list(found)
    waits = {member.service: labels.waits_of(member.info.labels) for member in every}
    try:
        order = start_order(waits)
    except Circle:
        order = sorted(waits)
    return [[member for member in every if member.service == name] for name in order]


def stop(engine: Engine, found: Iterable[Member], tell: Tell, *, timeout_s: float | None = None) -> None:
    """Stops containers, those first that nothing waits for.

    Raises:
        WherryError: one of them could not be stopped; the others were.
    """

    def one(member: Member) -> None:
        if member.runs:
            tell("Container", member.info.name, "Stopping")
            engine.stop(member.info.id, timeout_s)
            tell("Container", member.info.name, "Stopped")

    for group in reversed(starting(found)):
        at_once(group, one)


def at_once(group: list[Member], work: Callable[[Member], None]) -> None:
    """Does one thing to several containers at the same time.

    Raises:
        WherryError: the first that was met, after all are done.
    """
    if len(group) == 1:
        work(group[0])
        return
    problems: list[Exception] = []

    def guarded(member: Member) -> None:
        try:
            work(member)
        except Exception as error:  # noqa: BLE001 raised again by whoever waits for it
            problems.append(error)

    for first in range(0, len(group), MAX_AT_ONCE):
        threads = [threading.Thread(target=guarded, args=(one,)) for one in group[first : first + MAX_AT_ONCE]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if problems:
        raise problems[0]


def kill(engine: Engine, found: Iterable[Member], tell: Tell, number: int) -> None:
    """Sends a signal to containers that run."""
    for member in found:
        if member.runs:
            try:
                engine.kill(member.info.id, number)
            except (Conflict, NotFound):
                continue  # it ended meanwhile
            tell("Container", member.info.name, "Killed")


def start(engine: Engine, found: Iterable[Member], tell: Tell) -> None:
    """Starts containers that are there, in the order of their dependencies."""
    for group in starting(found):
        for member in group:
            if not member.runs:
                engine.start(member.info.id)
                tell("Container", member.info.name, "Started")


def remove(engine: Engine, found: Iterable[Member], tell: Tell) -> None:
    """Removes containers that do not run."""
    for member in found:
        try:
            engine.remove(member.info.id, force=True)
        except NotFound:
            continue  # somebody else removed it
        tell("Container", member.info.name, "Removed")


def down(
    engine: Engine,
    project: str,
    tell: Tell,
    *,
    keep: Callable[[Member], bool] = lambda member: False,
    with_volumes: bool = False,
    timeout_s: float | None = None,
) -> None:
    """Removes a project: its containers, its networks and its files; its volumes when that is asked for.

    Args:
        engine: of the containers.
        project: its name.
        tell: told of what is done.
        keep: containers that stay.
        with_volumes: remove the named volumes that the project made, with their data.
        timeout_s: for a container to stop; None takes its own.

    Raises:
        WherryError: something could not be removed; the rest was.
    """
    every = members(engine, project, one_off=None)
    doomed = [member for member in every if not keep(member)]
    if len(doomed) < len(every):
        tell("Orphans", ", ".join(member.info.name for member in every if keep(member)), "stay")
    stop(engine, doomed, tell, timeout_s=timeout_s)
    trace.reach("compose.down.stopped")
    for group in reversed(starting(doomed)):
        remove(engine, group, tell)
    trace.reach("compose.down.containers-removed")
    kept = [mount.source for member in every if keep(member) for mount in member.info.config.mounts]
    granted.sweep(engine.paths, project, kept)
    for definition in networks(engine.paths, project):
        remove_network(engine.paths, definition.name, tell)
    trace.reach("compose.down.networks-removed")
    if with_volumes:
        _remove_volumes(engine, project, tell)


def _remove_volumes(engine: Engine, project: str, tell: Tell) -> None:
    problem: WherryError | None = None
    for name in volumes(engine.paths, project):
        try:
            engine.remove_volume(name)
        except WherryError as error:
            problem = error
            continue
        tell("Volume", name, "Removed")
    if problem is not None:
        raise problem
