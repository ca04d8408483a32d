"""``up`` and ``create``: makes the containers that are there those that the files ask for.

Who calls holds the project's lock. Each step leaves what the next call goes on from: containers are found by their
labels, one that was to take another's place is put there first (``replacing.py``), and nothing is done to those that
are as they should be: same hash of what they are asked to be, same image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wherry.core import trace
from wherry.core.errors import Conflict, NotFound, UsageError, WherryError
from wherry.core.value import replace
from wherry.engine.compose import granted, labels, replacing, waiting
from wherry.engine.compose.model import (
    Project,
    container_name,
    dependencies,
    scale_of,
    shared_with,
)
from wherry.engine.compose.order import start_order, with_dependencies
from wherry.engine.compose.project import Member, members, of_service
from wherry.engine.compose.provide import Tell, provide
from wherry.engine.compose.services import config_hash, container_spec
from wherry.engine.engine import Engine
from wherry.engine.info import ContainerInfo
from wherry.engine.inheriting import with_volumes_from
from wherry.engine.spec import ContainerSpec


def _nothing(info: ContainerInfo) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What ``up`` is asked to do."""

    services: tuple[str, ...] = ()
    """Empty: all."""
    with_dependencies: bool = True
    force_recreate: bool = False
    always_recreate_dependencies: bool = False
    recreate: bool = True
    renew_anonymous_volumes: bool = False
    remove_orphans: bool = False
    start: bool = True
    scale: dict[str, int] = field(default_factory=dict)
    timeout_s: float | None = None
    """For a container to stop; None takes its own."""
    started: Callable[[ContainerInfo], None] = _nothing
    """Told of each container that runs, before another one is started."""


def up(engine: Engine, project: Project, wish: Wish, tell: Tell) -> list[Member]:
    """Makes a project so, and starts it in the order of its dependencies.

    Returns:
        The containers of the services that were asked for and what they depend on.

    Raises:
        NotFound: an image, or something external, is not there.
        DependencyFailed: a service did not come to what another waits for.
    """
    return _Up(engine, project, wish, tell).run()


class _Up:
    def __init__(self, engine: Engine, project: Project, wish: Wish, tell: Tell) -> None:
        self._engine, self._project, self._wish, self._tell = engine, project, wish, tell
        for name in (*wish.services, *wish.scale):
            if name not in project.services:
                raise NotFound(f"no service {name!r}", hint=f"there are: {', '.join(sorted(project.services))}")
        self._waits = {name: dependencies(service) for name, service in project.services.items()}
        self._changed: set[str] = set()
        """Services of which a container was replaced."""

    def run(self) -> list[Member]:
        project, engine = self._project, self._engine
        named = self._wish.services or tuple(project.services)
        chosen = set(named)
        if self._wish.with_dependencies:
            chosen = with_dependencies(named, self._waits)
        order = [name for name in start_order(self._waits) if name in chosen]
        commits = {name: self._image(name) for name in order}
        hashes = {name: config_hash(engine.paths, project, name) for name in order}
        there = self._repaired()
        self._orphans(there)
        provide(engine.paths, project, order, self._tell)
        trace.reach("compose.up.provided")
        for name in order:
            self._wait_for(name)
            self._converge(name, there, hashes[name], commits[name])
        every = members(engine, project.name, one_off=None)
        granted.sweep(
            engine.paths, project.name, (mount.source for member in every for mount in member.info.config.mounts)
        )
        return [member for member in every if member.service in chosen and not member.one_off]

    def _image(self, name: str) -> str:
        from wherry.image.catalog import Images

        image = self._project.services[name]["image"]
        if self._engine.repo is None:
            raise NotFound(f"no image {image!r}: there is no store", hint="`wherry pull` brings one")
        try:
            return str(Images(self._engine.repo).get(image).commit)
        except NotFound as error:
            place = self._project.place("services", name, "image")
            raise NotFound(f"services.{name}: {error.what}", where=place, hint=error.hint) from None

    def _repaired(self) -> list[Member]:
        found = members(self._engine, self._project.name)
        names = {}
        for member in found:
            if member.replaces:
                known = member.service in self._project.services
                fallback = member.info.name.partition("_")[2] or member.info.name
                names[member.info.id] = (
                    container_name(self._project, member.service, member.number) if known else fallback
                )
        if replacing.repair(self._engine, found, names):
            return members(self._engine, self._project.name)
        return found

    def _orphans(self, there: list[Member]) -> None:
        known = {*self._project.services, *self._project.disabled}
        orphans = [member for member in there if member.service not in known]
        if self._wish.remove_orphans:
            for member in orphans:
                self._remove(member)
        elif orphans:
            names = ", ".join(member.info.name for member in orphans)
            self._tell("Orphans", names, "of no service in the files; --remove-orphans removes them")

    def _remove(self, member: Member) -> None:
        if member.runs:
            self._tell("Container", member.info.name, "Stopping")
            self._engine.stop(member.info.id, self._wish.timeout_s)
        self._engine.remove(member.info.id, force=True)
        self._tell("Container", member.info.name, "Removed")

    # --- waiting

    def _wait_for(self, name: str) -> None:
        if not self._wish.start:
            return
        for other, how in sorted(self._waits[name].items()):
            if other not in self._project.services or not self._wish.with_dependencies:
                continue
            condition = how["condition"]
            if condition == "service_started":
                continue
            for member in of_service(members(self._engine, self._project.name), other):
                try:
                    self._tell("Container", member.info.name, "Waiting")
                    if condition == "service_healthy":
                        waiting.until_healthy(self._engine, member.info)
                        self._tell("Container", member.info.name, "Healthy")
                    else:
                        waiting.until_completed(self._engine, member.info)
                        self._tell("Container", member.info.name, "Exited")
                except WherryError as error:
                    if how["required"]:
                        raise waiting.DependencyFailed(
                            f"service {name} was not started: {error.what}", hint=error.hint
                        ) from error
                    self._tell("Container", member.info.name, f"Error, but it is not required: {error.what}")

    # --- one service

    def _converge(self, name: str, there: list[Member], hash_: str, commit: str) -> None:
        service = self._project.services[name]
        wanted = self._wish.scale.get(name, scale_of(service))
        if wanted > 1 and "container_name" in service:
            raise UsageError(f"service {name} has a container_name, and so one container", hint="leave it out")
        mine = of_service(there, name)
        for member in mine[wanted:]:
            self._remove(member)
        mine = mine[:wanted]
        numbers = {member.number for member in mine}
        forced = self._wish.force_recreate and self._is_named(name)
        follows = any(other in self._changed for other in shared_with(service).values())
        restarts = any(how.get("restart") and other in self._changed for other, how in self._waits[name].items())
        for member in mine:
            stale = member.info.labels.get(labels.HASH) != hash_ or member.info.commit != commit
            if (self._wish.recreate and (stale or forced)) or follows:
                self._replace(name, member)
            elif self._wish.start and not member.runs:
                self._start(member.info)
            elif self._wish.start and restarts:
                self._tell("Container", member.info.name, "Restarting")
                self._engine.restart(member.info.id, self._wish.timeout_s)
                self._tell("Container", member.info.name, "Restarted")
                self._wish.started(self._engine.inspect(member.info.id))
            else:
                self._tell("Container", member.info.name, "Running" if member.runs else "Created")
                if member.runs:
                    self._wish.started(member.info)
        number = 0
        while len(numbers) < wanted:
            number += 1
            if number not in numbers:
                numbers.add(number)
                self._make(name, number)

    def _is_named(self, name: str) -> bool:
        named = self._wish.services
        return not named or name in named or self._wish.always_recreate_dependencies

    def _spec(self, name: str, number: int) -> ContainerSpec:
        spec = container_spec(self._engine.paths, self._project, name, number, self._peer)
        words = [self._volumes_of(item) for item in self._project.services[name].get("volumes_from", ())]
        return with_volumes_from(self._engine.paths, spec, words) if words else spec

    def _peer(self, service: str) -> str:
        found = of_service(members(self._engine, self._project.name), service)
        if not found:
            raise Conflict(f"service {service} has no container to share", hint=f"`wherry compose up {service}` first")
        return found[0].info.id

    def _volumes_of(self, item: str) -> str:
        if item.startswith("container:"):
            return item.removeprefix("container:")
        service, colon, mode = item.partition(":")
        return self._peer(service) + colon + mode

    def _make(self, name: str, number: int) -> None:
        spec = self._spec(name, number)
        self._tell("Container", spec.name, "Creating")
        info = self._engine.create(spec)
        trace.reach("compose.up.created")
        self._tell("Container", spec.name, "Created")
        if self._wish.start:
            self._start(info)

    def _replace(self, name: str, member: Member) -> None:
        # the number is kept, so that the name is
        spec = self._spec(name, member.number)
        self._tell("Container", spec.name, "Recreate")
        new = replacing.make(self._engine, member.info, spec, renew_volumes=self._wish.renew_anonymous_volumes)
        info = replacing.finish(self._engine, new, spec.name, timeout_s=self._wish.timeout_s)
        self._changed.add(name)
        self._tell("Container", spec.name, "Recreated")
        if self._wish.start:
            self._start(info)

    def _start(self, info: ContainerInfo) -> None:
        self._tell("Container", info.name, "Starting")
        try:
            self._engine.start(info.id)
        except WherryError as error:
            self._tell("Container", info.name, "Error")
            raise type(error)(f"cannot start {info.name}: {error.what}", where=error.where, hint=error.hint) from error
        trace.reach("compose.up.started")
        self._tell("Container", info.name, "Started")
        self._wish.started(self._engine.inspect(info.id))


def one_off_spec(engine: Engine, project: Project, name: str, changes: dict[str, Any]) -> ContainerSpec:
    """Returns what ``run`` asks of the engine: a service's container with another name and what was given.

    Args:
        engine: of the container.
        project: of the service.
        name: the service.
        changes: fields of ``ContainerSpec``; ``labels`` are added.
    """
    own = _Up(engine, project, Wish(), lambda *_: None)
    spec = own._spec(name, 1)
    marks = {**spec.labels, labels.ONE_OFF: "True", labels.NUMBER: "1", **changes.pop("labels", {})}
    return replace(spec, labels=marks, **changes)
