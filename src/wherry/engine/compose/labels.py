"""The labels by which containers, networks and volumes of a project are found: docker compose's own, so that its
users' scripts find them too.
"""

from __future__ import annotations

from collections.abc import Mapping

from wherry.engine.compose.model import Project, dependencies
from wherry.version import __version__

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
HASH = "com.docker.compose.config-hash"
DIRECTORY = "com.docker.compose.project.working_dir"
FILES = "com.docker.compose.project.config_files"
DEPENDS = "com.docker.compose.depends_on"
REPLACES = "com.docker.compose.replace"
"""The id of the container in whose place this one was made."""
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"
VERSION = "com.docker.compose.version"


def of_container(project: Project, service: str, number: int, config_hash: str) -> dict[str, str]:
    """Returns the labels of a service's container."""
    waits = dependencies(project.services[service])
    return {
        PROJECT: project.name,
        SERVICE: service,
        NUMBER: str(number),
        ONE_OFF: "False",
        HASH: config_hash,
        DIRECTORY: project.directory,
        FILES: ",".join(project.files),
        DEPENDS: ",".join(
            f"{name}:{how['condition']}:{str(bool(how.get('restart'))).lower()}" for name, how in sorted(waits.items())
        ),
        VERSION: __version__,
    }


def waits_of(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the services that a container's service waits for, by its label."""
    return tuple(item.partition(":")[0] for item in labels.get(DEPENDS, "").split(",") if item)


def of_network(project: Project, key: str, definition_hash: str) -> dict[str, str]:
    """Returns the labels of a network that a project made."""
    return {PROJECT: project.name, NETWORK: key, HASH: definition_hash, VERSION: __version__}


def of_volume(project: Project, key: str) -> dict[str, str]:
    """Returns the labels of a volume that a project made."""
    return {PROJECT: project.name, VOLUME: key, VERSION: __version__}
