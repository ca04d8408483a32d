"""A project as its files say, in plain values: everything in long forms, merged, with variables filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.core.errors import InvalidInput

DEFAULT_NETWORK = "default"
MAX_NAME = 63
SHARED = "service:"
"""Begins the mode of a namespace that is another service's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What the Compose files of a project come to."""

    name: str
    directory: str
    """Where relative paths begin."""
    files: tuple[str, ...] = ()
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those that are on: of no profile, of an active one, or named."""
    disabled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those of other profiles."""
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment of the project: the caller's over ``.env``."""
    places: Mapping[str, str] = field(default_factory=dict)
    """``services.web.image`` -> file, line and column."""
    warnings: tuple[str, ...] = ()

    def place(self, *path: str) -> str:
        """Returns where something stands, or the nearest that is known above it."""
        for length in range(len(path), 0, -1):
            found = self.places.get(".".join(path[:length]))
            if found:
                return found
        return self.files[0] if self.files else self.directory

    def every_profile(self) -> list[str]:
        """Returns the profiles that services are of."""
        every = [*self.services.values(), *self.disabled.values()]
        return sorted({name for service in every for name in service.get("profiles", ())})


def normal_name(text: str) -> str:
    """Returns what a directory's name is as the name of a project."""
    return "".join(char for char in text.lower() if char.isascii() and (char.isalnum() or char in "_-")).lstrip("_-")


def check_name(name: str, where: object = None) -> None:
    """Refuses what is no name of a project.

    Raises:
        InvalidInput: says what one looks like.
    """
    if not name or normal_name(name) != name or len(name) > MAX_NAME:
        raise InvalidInput(
            f"not a project's name: {name[:80]!r}",
            where=where,
            hint="small letters, digits, - and _ only, a letter or digit first",
        )


def network_name(project: Project, key: str) -> str:
    """Returns the engine's name of a network of the file."""
    return _name(project, project.networks.get(key, {}), key)


def volume_name(project: Project, key: str) -> str:
    """Returns the engine's name of a volume of the file."""
    return _name(project, project.volumes.get(key, {}), key)


def _name(project: Project, given: Mapping[str, Any], key: str) -> str:
    if isinstance(given.get("external"), str):
        return str(given["external"])
    if given.get("name"):
        return str(given["name"])
    return key if given.get("external") else f"{project.name}_{key}"


def container_name(project: Project, service: str, number: int) -> str:
    """Returns the name of a service's container: ``PROJECT-SERVICE-N``, or the one that is given."""
    return str(project.services[service].get("container_name") or f"{project.name}-{service}-{number}")


def built_name(project: str, service: str) -> str:
    """Returns what the image of a service is called that is built and has no ``image``."""
    return f"{project}-{service.lower()}"


def built_after(service: Mapping[str, Any]) -> list[str]:
    """Returns the services whose images the build of a service takes files of."""
    contexts = service.get("build", {}).get("additional_contexts", {}).values()
    return [text.removeprefix(SHARED) for text in contexts if text.startswith(SHARED)]


def networks_of(service: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the networks that a service is on, the most important first."""
    if "network_mode" in service:
        return {}
    given: Mapping[str, Any] = service.get("networks") or {DEFAULT_NETWORK: {}}
    order = sorted(given, key=lambda name: (-given[name].get("gw_priority", 0), -given[name].get("priority", 0)))
    return {name: given[name] for name in order}


def scale_of(service: Mapping[str, Any]) -> int:
    """Returns how many containers a service has."""
    if "scale" in service:
        return int(service["scale"])
    return int(service.get("deploy", {}).get("replicas", 1))


def shared_with(service: Mapping[str, Any]) -> dict[str, str]:
    """Returns key -> service for each namespace or mount that a service takes from another."""
    found = {}
    for key in ("network_mode", "pid", "ipc"):
        mode = str(service.get(key, ""))
        if mode.startswith(SHARED):
            found[key] = mode.removeprefix(SHARED)
    for item in service.get("volumes_from", ()):
        if not item.startswith("container:"):
            found[f"volumes_from.{item}"] = item.partition(":")[0]
    return found


def dependencies(service: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what a service waits for: service -> condition, required, restart."""
    found = {name: dict(how) for name, how in service.get("depends_on", {}).items()}
    implied = [*shared_with(service).values(), *(item.partition(":")[0] for item in service.get("links", ()))]
    for name in implied:
        found.setdefault(name, {"condition": "service_started", "required": True, "restart": True})
    return found
