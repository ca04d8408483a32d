"""From the words of a command to a project: names, variables, files laid over each other, includes, profiles.

The environment comes in as a mapping: the command line alone reads it. Source: compose-spec, "04-version-and-name.md",
"14-include.md", "15-profiles.md".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose import dotenv
from wherry.engine.compose.check import check
from wherry.engine.compose.files import STANDARD_INPUT, Files, check_readable, find_files
from wherry.engine.compose.model import (
    DEFAULT_NETWORK,
    Project,
    built_name,
    check_name,
    dependencies,
    networks_of,
    normal_name,
)
from wherry.engine.compose.order import with_dependencies
from wherry.engine.compose.readers import Context

MAX_INCLUDES = 64
EVERY_PROFILE = "*"
_SECTIONS = ("services", "networks", "volumes", "configs", "secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a command names."""

    cwd: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """The caller's."""
    files: tuple[str, ...] = ()
    name: str = ""
    directory: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Named on the command line: their profiles count as active."""


def load(request: Request) -> Project:
    """Returns the project that a command means.

    Raises:
        NotFound: a file is not there.
        InvalidInput: a file is malformed, or what it says contradicts itself; with file, line and column.
    """
    folder = request.directory and os.path.join(request.cwd, request.directory)
    variables = _variables(request, folder or request.cwd)
    files = _files(request, variables, folder or request.cwd)
    directory = os.path.abspath(folder or _folder(files[0], request.cwd))
    if not request.env_files and directory != os.path.abspath(folder or request.cwd):
        variables = {**_dotenv(directory, request.environment), **variables}
    warnings: dict[str, None] = {}
    places: dict[str, str] = {}

    def unset(name: str) -> None:
        warnings[f"the variable {name} is not set; it counts as empty"] = None

    reader = Files(Context(base=directory, variables=variables, places=places))
    name = _project_name(request, variables, reader, files, directory)
    variables = {**variables, "COMPOSE_PROJECT_NAME": name}
    reader = Files(Context(base=directory, variables=variables, unset=unset, places=places))
    model: dict[str, Any] = {}
    for path in files:
        model = reader.model(path, base=directory, before=model)
    model = _with_includes(model, variables, places, warnings, trail=tuple(files))
    for path in reader.obsolete:
        warnings[f"{os.path.basename(path)}: version has no meaning any more; remove it"] = None
    sections: dict[str, Any] = {key: model.get(key, {}) for key in _SECTIONS}
    services = {
        key: _with_files(service, variables, unset, places.get(f"services.{key}"))
        for key, service in sections.pop("services").items()
    }
    for key, service in services.items():
        if "build" in service:
            service.setdefault("image", built_name(name, key))
    profiles = request.profiles or tuple(filter(None, variables.get("COMPOSE_PROFILES", "").split(",")))
    on = _active(services, profiles, request.services)
    project = Project(
        name=name,
        directory=directory,
        files=tuple(path if path == STANDARD_INPUT else os.path.abspath(path) for path in files),
        services={key: services[key] for key in services if key in on},
        disabled={key: services[key] for key in services if key not in on},
        variables=variables,
        places=places,
        warnings=tuple(warnings),
        **sections,
    )
    if any(DEFAULT_NETWORK in networks_of(service) for service in project.services.values()):
        sections["networks"] = {DEFAULT_NETWORK: {}, **sections["networks"]}
        project = _with(project, networks=sections["networks"])
    check(project)
    return project


def _with(project: Project, **changes: Any) -> Project:
    from dataclasses import replace

    return replace(project, **changes)


def _folder(path: str, cwd: str) -> str:
    return cwd if path == STANDARD_INPUT else os.path.dirname(os.path.abspath(path))


def _variables(request: Request, folder: str) -> dict[str, str]:
    """Returns the caller's variables over those of the env files."""
    if not request.env_files:
        return {**_dotenv(folder, request.environment), **request.environment}
    found: dict[str, str] = {}
    for name in request.env_files:
        path = os.path.join(request.cwd, name)
        known = {**found, **request.environment}
        parsed = dotenv.parse(dotenv.read_file(path), known, where=path)
        found.update({key: value for key, value in parsed.items() if value is not None})
    return {**found, **request.environment}


def _dotenv(folder: str, environment: Mapping[str, str]) -> dict[str, str]:
    path = os.path.join(folder, ".env")
    if not os.path.isfile(path):
        return {}
    parsed = dotenv.parse(dotenv.read_file(path), environment, where=path)
    return {key: value for key, value in parsed.items() if value is not None}


def _files(request: Request, variables: Mapping[str, str], folder: str) -> list[str]:
    given = request.files
    if not given and variables.get("COMPOSE_FILE"):
        given = tuple(variables["COMPOSE_FILE"].split(variables.get("COMPOSE_PATH_SEPARATOR", os.pathsep)))
    if not given:
        return find_files(folder)
    found = [path if path == STANDARD_INPUT else os.path.abspath(os.path.join(request.cwd, path)) for path in given]
    check_readable(found)
    return found


def _project_name(
    request: Request, variables: Mapping[str, str], reader: Files, files: list[str], directory: str
) -> str:
    for given in (request.name, variables.get("COMPOSE_PROJECT_NAME", "")):
        if given:
            check_name(given)
            return given
    named = next(filter(None, (reader.name(path) for path in reversed(files))), "")
    if named:
        check_name(named, where=files[-1])
        return named
    found = normal_name(os.path.basename(directory))
    if not found:
        raise InvalidInput("the directory's name is no name of a project", where=directory, hint="give one with -p")
    return found


def _with_includes(
    model: dict[str, Any],
    variables: Mapping[str, str],
    places: dict[str, str],
    warnings: dict[str, None],
    *,
    trail: tuple[str, ...],
) -> dict[str, Any]:
    """Returns a model with what it includes; two that define one thing differently are an error."""
    includes = model.pop("include", [])
    for item in includes:
        if set(item["path"]) & set(trail) or len(trail) > MAX_INCLUDES:
            raise InvalidInput("files include each other", where=item["place"], hint="break the circle")
        check_readable(item["path"])
        base = item.get("project_directory") or os.path.dirname(item["path"][0])
        own: dict[str, str] = {}
        for path in item.get("env_file", ()):
            parsed = dotenv.parse(dotenv.read_file(path), {**own, **variables}, where=path)
            own.update({key: value for key, value in parsed.items() if value is not None})
        if not item.get("env_file"):
            own = _dotenv(base, variables)

        def unset(name: str) -> None:
            warnings[f"the variable {name} is not set; it counts as empty"] = None

        theirs = {**own, **variables}
        reader = Files(Context(base=base, variables=theirs, unset=unset, places=places))
        included: dict[str, Any] = {}
        for path in item["path"]:
            included = reader.model(path, base=base, before=included)
        included = _with_includes(included, theirs, places, warnings, trail=(*trail, *item["path"]))
        for section in _SECTIONS:
            for key, value in included.get(section, {}).items():
                there = model.setdefault(section, {})
                if key in there and there[key] != value:
                    raise InvalidInput(
                        f"{section}.{key} is defined here and in what is included",
                        where=item["place"],
                        hint="rename one of them",
                    )
                there[key] = value
    return model


def _with_files(
    service: Mapping[str, Any], variables: Mapping[str, str], unset: Any, place: str | None
) -> dict[str, Any]:
    """Returns a service with its files of variables and labels read, and names without a value filled in."""
    found = dict(service)
    environment: dict[str, str | None] = {}
    for item in found.pop("env_file", ()):
        if not os.path.isfile(item["path"]):
            if item["required"]:
                raise NotFound(
                    "no such env_file", where=item["path"], hint=f"it is named in {place}" if place else None
                )
            continue
        text = dotenv.read_file(item["path"])
        parsed = dotenv.parse(text, variables, where=item["path"], raw=item.get("format") == "raw", unset=unset)
        environment.update(parsed)
    environment.update(found.get("environment", {}))
    filled = {key: variables.get(key) if value is None else value for key, value in environment.items()}
    if environment:
        found["environment"] = {key: value for key, value in filled.items() if value is not None}
    labels: dict[str, str] = {}
    for path in found.pop("label_file", ()):
        labels.update(
            {key: value or "" for key, value in dotenv.parse(dotenv.read_file(path), {}, where=path, raw=True).items()}
        )
    if labels:
        found["labels"] = {**labels, **found.get("labels", {})}
    return found


def _active(services: Mapping[str, Mapping[str, Any]], profiles: Iterable[str], named: Iterable[str]) -> set[str]:
    """Returns the services that are on; what is named on the command line is, with what it waits for."""
    wanted = set(profiles)
    on = {
        key
        for key, service in services.items()
        if not service.get("profiles") or EVERY_PROFILE in wanted or wanted & set(service["profiles"])
    }
    waits = {key: tuple(dependencies(service)) for key, service in services.items()}
    return on | with_dependencies((name for name in named if name in services), waits)
