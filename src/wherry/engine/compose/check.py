"""What a project's files say of each other: names that lead somewhere, and nothing that contradicts itself; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wherry.core.errors import InvalidInput
from wherry.engine.compose.model import DEFAULT_NETWORK, Project, built_after, dependencies, scale_of, shared_with
from wherry.engine.compose.order import Circle, start_order
from wherry.revision.yamldoc import did_you_mean


def check(project: Project) -> None:
    """Refuses a project that cannot work.

    Raises:
        InvalidInput: says what, with its place.
    """
    for name, service in project.services.items():
        _check_service(project, name, service)
    waits = {name: tuple(dependencies(service)) for name, service in project.services.items()}
    try:
        start_order(waits)
    except Circle as circle:
        raise InvalidInput(
            f"services wait for each other: {circle}",
            where=project.place("services", circle.trail[0], "depends_on"),
            hint="break the circle",
        ) from None
    for section in ("configs", "secrets"):
        for name, given in getattr(project, section).items():
            sources = [key for key in ("file", "environment", "content", "external") if given.get(key)]
            if len(sources) != 1:
                words = "file, environment or content" if section == "configs" else "file, environment or external"
                raise InvalidInput(f"{section}.{name}: must have one of {words}", where=project.place(section, name))


def _check_service(project: Project, name: str, service: Mapping[str, Any]) -> None:
    def wrong(what: str, key: str, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"services.{name}: {what}", where=project.place("services", name, key), hint=hint)

    if "image" not in service:
        raise wrong("image is missing", "", "every service names its image, or says how to build: it")
    if "build" in service:
        _check_build(project, service, wrong)
    for other, how in dependencies(service).items():
        if other in project.services or not how["required"]:
            continue
        if other in project.disabled:
            profiles = ", ".join(project.disabled[other].get("profiles", ()))
            raise wrong(f"depends on {other!r}, which is off", "depends_on", f"turn on its profile: {profiles}")
        raise wrong(f"no service {other[:60]!r}", "depends_on", _near(other, project.services))
    for other in shared_with(service).values():
        if other not in project.services:
            raise wrong(f"no service {other[:60]!r}", "network_mode", _near(other, project.services))
    mode = service.get("network_mode", "")
    if mode and "networks" in service:
        raise wrong("network_mode and networks do not go together", "network_mode", "leave one of them out")
    if mode and mode != "bridge" and service.get("ports"):
        raise wrong(f"ports cannot be published with network_mode: {mode}", "ports")
    for network in service.get("networks", {}):
        if network != DEFAULT_NETWORK and network not in project.networks:
            raise wrong(
                f"network {network[:60]!r} is not declared", "networks", _declare(network, project.networks, "networks")
            )
    for mount in service.get("volumes", ()):
        source = mount.get("source")
        if mount["type"] == "volume" and source and source not in project.volumes:
            raise wrong(
                f"volume {source[:60]!r} is not declared", "volumes", _declare(source, project.volumes, "volumes")
            )
    for section in ("configs", "secrets"):
        for item in service.get(section, ()):
            if item["source"] not in getattr(project, section):
                hint = _declare(item["source"], getattr(project, section), section)
                raise wrong(f"{section}: {item['source'][:60]!r} is not declared", section, hint)
    if "container_name" in service and scale_of(service) > 1:
        raise wrong("several containers cannot have one container_name", "container_name", "leave it out")
    if service.get("healthcheck", {}).get("disable") and service["healthcheck"].get("test", ["NONE"]) != ["NONE"]:
        raise wrong("a health check that is off has no test", "healthcheck")


def _check_build(project: Project, service: Mapping[str, Any], wrong: Callable[..., InvalidInput]) -> None:
    build = service["build"]
    if "dockerfile" in build and "dockerfile_inline" in build:
        raise wrong("build: dockerfile and dockerfile_inline do not go together", "build", "leave one of them out")
    platform, platforms = service.get("platform"), build.get("platforms")
    if platform and platforms and platform not in platforms:
        raise wrong(f"build.platforms: {platform} is not among them, and is the service's platform", "build")
    for item in build.get("secrets", ()):
        if item["source"] not in project.secrets:
            hint = _declare(item["source"], project.secrets, "secrets")
            raise wrong(f"build.secrets: {item['source'][:60]!r} is not declared", "build", hint)
    for other in built_after(service):
        if "build" not in project.services.get(other, {}):
            known = [name for name, service in project.services.items() if "build" in service]
            raise wrong(
                f"build.additional_contexts: no service {other[:60]!r} that is built", "build", _near(other, known)
            )


def _near(word: str, known: Iterable[str]) -> str | None:
    names = frozenset(known)
    return did_you_mean(word, names) if names else None


def _declare(word: str, known: Iterable[str], section: str) -> str:
    near = _near(word, known)
    return near if near and near.startswith("did you") else f"add `{word}:` under {section}: at the top of the file"
