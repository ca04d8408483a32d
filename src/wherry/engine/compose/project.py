"""What of a project is there: its containers, networks and volumes, found by their labels, and the project's lock.

::

    <run>/compose-PROJECT.lock      held by whatever changes a project, for as long as it changes it

A project is nothing but labels: there is no record of it that could contradict what is there. A container that was
made in another's place has the label ``com.docker.compose.replace`` until that one is gone (``replacing.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.core.lock import file_lock
from wherry.engine.compose import labels
from wherry.engine.compose.model import check_name
from wherry.engine.engine import Engine
from wherry.engine.info import ContainerInfo
from wherry.engine.net import registry
from wherry.engine.net.records import Definition
from wherry.engine.state import Paths

LOCK_TIMEOUT_S = 600.0
"""Another command may wait that long for a project to become healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A container of a project."""

    info: ContainerInfo

    @property
    def service(self) -> str:
        """Its service."""
        return self.info.labels.get(labels.SERVICE, "")

    @property
    def number(self) -> int:
        """Its number among those of its service; 0 without one."""
        text = self.info.labels.get(labels.NUMBER, "")
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def one_off(self) -> bool:
        """Whether ``run`` made it."""
        return self.info.labels.get(labels.ONE_OFF, "False") == "True"

    @property
    def replaces(self) -> str:
        """The id of the container in whose place it was made; "" for most."""
        return self.info.labels.get(labels.REPLACES, "")

    @property
    def runs(self) -> bool:
        """Whether it runs, or is about to be started again."""
        return self.info.status in ("running", "paused", "restarting")


def lock(paths: Paths, project: str) -> file_lock:
    """Returns the lock of a project, as a context manager."""
    check_name(project)
    paths.make()
    path = os.path.join(paths.run, f"compose-{project}.lock")
    return file_lock(path, timeout_s=LOCK_TIMEOUT_S, what=f"the project {project}")


def members(engine: Engine, project: str, *, one_off: bool | None = False) -> list[Member]:
    """Returns the containers of a project, by service and number.

    Args:
        engine: of the containers.
        project: its name.
        one_off: those that ``run`` made, or the others; None: all.
    """
    every = [Member(info=info) for info in engine.list(labels={labels.PROJECT: project})]
    found = [member for member in every if one_off is None or member.one_off == one_off]
    return sorted(found, key=lambda member: (member.service, member.number, member.info.created_s))


def of_service(found: Iterable[Member], service: str) -> list[Member]:
    """Returns the containers of one service, by number."""
    return [member for member in found if member.service == service]


def networks(paths: Paths, project: str) -> list[Definition]:
    """Returns the networks that a project made."""
    return [item for item in registry.every(paths) if item.labels.get(labels.PROJECT) == project]


def volumes(paths: Paths, project: str) -> list[str]:
    """Returns the names of the volumes that a project made."""
    from wherry.engine.volumes import list_volumes, read_volume

    return [name for name in list_volumes(paths) if read_volume(paths, name).labels.get(labels.PROJECT) == project]


def projects(engine: Engine) -> dict[str, list[Member]]:
    """Returns every project that has containers, by name."""
    found: dict[str, list[Member]] = {}
    for info in engine.list(labels={labels.PROJECT: ""}):
        found.setdefault(info.labels[labels.PROJECT], []).append(Member(info=info))
    return dict(sorted(found.items()))
