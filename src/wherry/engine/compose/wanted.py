"""Which images a project's services need, and when they are pulled: ``pull_policy`` and ``--pull``.

Source: Compose specification, "pull_policy"; docker compose's ``up --pull``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wherry.core.errors import NotFound
from wherry.engine.compose.model import Project, dependencies
from wherry.engine.compose.order import with_dependencies

POLICIES = ("always", "missing", "never")
_SAME = {"": "missing", "if_not_present": "missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedImage:
    """An image that services are made from."""

    image: str
    platform: str
    policy: str
    """One of `POLICIES`."""
    services: tuple[str, ...]


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
        )
    return list(found.values())
