"""Which images a project's services need, and when they are pulled or built: ``pull_policy``, ``--pull``, ``--build``.

Source: Compose specification, "pull_policy"; docker compose's ``up --pull``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.compose.model import Project, built_after, built_name, dependencies
from wherry.engine.compose.order import Circle, start_order, with_dependencies

POLICIES = ("build", "always", "missing", "never")
_SAME = {"": "missing", "if_not_present": "missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedImage:
    """An image that containers of services are made from."""

    image: str
    platform: str
    policy: str
    """One of `POLICIES`."""
    services: tuple[str, ...]
    built: str = ""
    """The service whose ``build`` makes it; "" where none does."""
    elsewhere: bool = True
    """Whether it has a name under which a registry may have it."""


def wanted_images(
    project: Project, services: Collection[str] = (), *, dependencies_too: bool = True, policy: str = ""
) -> list[WantedImage]:
    """Returns the images that services need, each once.

    Args:
        project: what is to be.
        services: of these; empty: of all.
        dependencies_too: also those that they depend on.
        policy: counts in the place of each service's own, unless it is empty or ``policy``.

    Raises:
        NotFound: there is no such service.
    """
    for name in services:
        if name not in project.services:
            raise NotFound(f"no service {name!r}", hint=f"there are: {', '.join(sorted(project.services))}")
    chosen = set(services or project.services)
    if dependencies_too:
        waits = {name: dependencies(service) for name, service in project.services.items()}
        chosen = with_dependencies(chosen, waits)
    found: dict[tuple[str, str], WantedImage] = {}
    for name, service in project.services.items():
        if name not in chosen:
            continue
        own = service.get("pull_policy", "")
        its = policy if policy not in ("", "policy") else _SAME.get(own, own)
        key = (service["image"], service.get("platform", ""))
        before = found.get(key)
        found[key] = WantedImage(
            image=key[0],
            platform=key[1],
            policy=its if before is None else min(its, before.policy, key=POLICIES.index),
            services=(*(before.services if before else ()), name),
            built=(before.built if before else "") or (name if "build" in service else ""),
            elsewhere="build" not in service or key[0] != built_name(project.name, name),
        )
    return list(found.values())


def build_order(project: Project, services: Collection[str]) -> list[str]:
    """Returns services that are built, and those whose images these take files of, what is needed first.

    Raises:
        InvalidInput: two need each other.
    """
    waits = {name: built_after(service) for name, service in project.services.items() if "build" in service}
    wanted = with_dependencies(services, waits)
    try:
        return [name for name in start_order(waits) if name in wanted]
    except Circle as circle:
        raise InvalidInput(
            f"images are built from each other: {circle}",
            where=project.place("services", circle.trail[0], "build"),
            hint="break the circle",
        ) from None
