"""What every command of ``wherry compose`` has: the project that is meant, its files, how progress shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.output import note
from wherry.core.errors import NotFound, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.engine.compose.model import Project
    from wherry.engine.compose.project import Member
    from wherry.engine.engine import Engine

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""Of terminals, one for each container in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The options of the group."""

    files: tuple[str, ...] = ()
    name: str = ""
    directory: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    ansi: str = "auto"
    progress: str = "auto"

    def colour(self, stream: Any) -> bool:
        """Tells whether a stream is shown colours."""
        if self.ansi != "auto":
            return self.ansi == "always"
        return bool(stream.isatty()) and "NO_COLOR" not in os.environ


def chosen() -> Chosen:
    """Returns the options of the group of the current call."""
    context = click.get_current_context()
    found = context.meta.get("wherry.compose")
    return found if isinstance(found, Chosen) else Chosen()


def load_project(services: Iterable[str] = (), *, every_profile: bool = False) -> Project:
    """Returns the project of the files; tells what is odd about them.

    Args:
        services: named on the command line; their profiles are on.
        every_profile: turn all profiles on.
    """
    from wherry.engine.compose.loading import EVERY_PROFILE, Request, load

    given = chosen()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WHERRY_")}
    env_files = given.env_files or tuple(filter(None, environment.get("COMPOSE_ENV_FILES", "").split(",")))
    project = load(
        Request(
            cwd=os.getcwd(),
            environment=environment,
            files=given.files,
            name=given.name,
            directory=given.directory,
            profiles=(EVERY_PROFILE,) if every_profile else given.profiles,
            env_files=env_files,
            services=tuple(services),
        )
    )
    for warning in project.warnings:
        note(f"wherry: {warning}", quiet=settings().quiet)
    return project


def project_or_name(services: Iterable[str] = ()) -> tuple[str, Project | None]:
    """Returns a project's name, and its files if there are any: what runs is found without them."""
    given = chosen()
    name = given.name or os.environ.get("COMPOSE_PROJECT_NAME", "")
    try:
        project = load_project(services, every_profile=True)
    except NotFound:
        if not name or given.files:
            raise
        return name, None
    return project.name, project


def engine_of(*, with_store: bool = False) -> Engine:
    """Returns the engine of this call."""
    return open_engine(settings(), with_store=with_store)


def chosen_members(
    engine: Engine, services: Iterable[str], *, one_off: bool | None = False
) -> tuple[str, list[Member]]:
    """Returns a project's name and those of its containers that are of some services, or all.

    Raises:
        NotFound: a service is neither in the files nor has it containers.
    """
    from wherry.engine.compose.project import members

    wanted = tuple(services)
    name, project = project_or_name(wanted)
    found = members(engine, name, one_off=one_off)
    known = {member.service for member in found} | (set(project.services) if project is not None else set())
    for service in wanted:
        if service not in known:
            raise NotFound(f"no service {service!r}", hint=f"there are: {', '.join(sorted(known))}" if known else None)
    return name, [member for member in found if not wanted or member.service in wanted]


def one_member(engine: Engine, service: str, index: int | None) -> Member:
    """Returns one container of a service: that with the number `index`, or the first that runs.

    Raises:
        NotFound: there is none.
    """
    _, found = chosen_members(engine, (service,))
    if index is not None:
        found = [member for member in found if member.number == index]
    running = [member for member in found if member.runs]
    if not found or (index is None and not running):
        what = (
            f"no container {index} of service {service!r}" if index is not None else f"service {service!r} does not run"
        )
        raise NotFound(what, hint=f"`wherry compose up -d {service}` starts it")
    return (running or found)[0]


def teller() -> Callable[[str, str, str], None]:
    """Returns what prints progress: a line for each step, on standard error."""
    given = chosen()
    if settings().quiet or given.progress == "quiet":
        return lambda kind, name, word: None
    coloured = given.colour(sys.stderr)

    def tell(kind: str, name: str, word: str) -> None:
        if coloured:
            mark, code = _mark(word)
            word = f"\033[{code}m{word}\033[0m"
            sys.stderr.write(f" {mark} {kind} {name}  {word}\n")
        else:
            sys.stderr.write(f" {kind} {name}  {word}\n")
        sys.stderr.flush()

    return tell


def _mark(word: str) -> tuple[str, int]:
    """Returns the sign before a step, and its colour."""
    if word.startswith(("Error", "In use")) or " " in word:
        return "!", 33
    return ("·", 34) if word.endswith("ing") and word != "Running" else ("✔", 32)


def end_with(failures: Sequence[WherryError], *, ignore: bool) -> None:
    """Tells of what went wrong with some of several images: the last is the command's error unless all are ignored."""
    for failure in failures if ignore else failures[:-1]:
        note(f"wherry: {failure}")
    if failures and not ignore:
        raise failures[-1]


def parse_scale(items: Iterable[str]) -> dict[str, int]:
    """Returns what ``--scale SERVICE=N`` says.

    Raises:
        UsageError: it is not of that form.
    """
    found = {}
    for item in items:
        name, equals, number = item.partition("=")
        if not equals or not (number.isascii() and number.isdigit()) or int(number) > 1000:
            raise UsageError(f"--scale: {item!r}", hint="write it as SERVICE=3")
        found[name] = int(number)
    return found
