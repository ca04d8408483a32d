"""What a project's containers need: networks, volumes and files, made when they are not there, removed by ``down``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wherry.core import jsonio
from wherry.core.errors import Conflict, NotFound
from wherry.engine.compose import labels
from wherry.engine.compose.granted import granted_files, write
from wherry.engine.compose.model import Project, network_name, networks_of, volume_name
from wherry.engine.net import registry
from wherry.engine.net.state import LiveNetworks, NetworkLock
from wherry.engine.state import Paths

Tell = Callable[[str, str, str], None]
"""Told of what is done: the kind of thing, its name, and a word such as ``Created``."""


def provide(paths: Paths, project: Project, services: Iterable[str], tell: Tell) -> None:
    """Makes what some services need.

    Raises:
        NotFound: something external is not there.
        Conflict: a network is there with other settings.
    """
    names = list(services)
    used = dict.fromkeys(key for name in names for key in networks_of(project.services[name]))
    for key in used:
        _network(paths, project, key, tell)
    mounts = [mount for name in names for mount in project.services[name].get("volumes", ())]
    for key in dict.fromkeys(item["source"] for item in mounts if item["type"] == "volume" and item.get("source")):
        _volume(paths, project, key, tell)
    for item in mounts:
        if item["type"] == "bind" and item["bind"].get("create_host_path", True):
            os.makedirs(item["source"], exist_ok=True) if not os.path.exists(item["source"]) else None
    for name in names:
        write(granted_files(paths, project, project.services[name]))


def _network(paths: Paths, project: Project, key: str, tell: Tell) -> None:
    given = project.networks[key]
    name = network_name(project, key)
    if given.get("external"):
        try:
            registry.find(paths, name)
        except NotFound:
            raise NotFound(
                f"the external network {name!r} is not there",
                where=project.place("networks", key),
                hint=f"make it: `wherry network create {name}`",
            ) from None
        return
    wanted = definition_hash(given)
    with NetworkLock(paths):
        there = next((item for item in registry.every(paths) if item.name == name), None)
        if there is None:
            tell("Network", name, "Creating")
            registry.create(paths, name, taken=_taken(), **_arguments(project, key, given, wanted))
            tell("Network", name, "Created")
            return
    owner = there.labels.get(labels.PROJECT)
    if owner != project.name:
        whose = f"project {owner}" if owner else "nobody's project"
        raise Conflict(
            f"the network {name!r} is there, of {whose}",
            where=project.place("networks", key),
            hint="say external: true, or give it another name",
        )
    if there.labels.get(labels.HASH) != wanted:
        if name not in {live.name for live in LiveNetworks(paths).every() if live.leases}:
            with NetworkLock(paths):
                registry.remove(paths, name)
                registry.create(paths, name, taken=_taken(), **_arguments(project, key, given, wanted))
            tell("Network", name, "Recreated")
            return
        raise Conflict(
            f"the network {name!r} has other settings than the file, and containers are on it",
            where=project.place("networks", key),
            hint="`wherry compose down`, then up",
        )


def definition_hash(given: Mapping[str, Any]) -> str:
    """Returns what tells whether a network is still what the file says."""
    return hashlib.sha256(jsonio.canonical(dict(given))).hexdigest()


def _taken() -> list[tuple[int, int]]:
    from wherry.linux.addresses import list_networks
    from wherry.linux.netlink import RouteSocket

    with RouteSocket() as route:
        return list_networks(route, 2)


def _arguments(project: Project, key: str, given: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    config = given.get("ipam", {}).get("config", ())
    return {
        "driver": given.get("driver", "bridge"),
        "subnet": tuple(item["subnet"] for item in config if "subnet" in item),
        "gateway": tuple(item["gateway"] for item in config if "gateway" in item),
        "ip_range": next((item["ip_range"] for item in config if "ip_range" in item), ""),
        "ipv6": given.get("enable_ipv6", False),
        "internal": given.get("internal", False),
        "options": dict(given.get("driver_opts", {})),
        "labels": {**given.get("labels", {}), **labels.of_network(project, key, wanted)},
    }


def _volume(paths: Paths, project: Project, key: str, tell: Tell) -> None:
    from wherry.engine.volumes import create_volume, read_volume

    given = project.volumes[key]
    name = volume_name(project, key)
    try:
        there = read_volume(paths, name)
    except NotFound:
        there = None
    if given.get("external"):
        if there is None:
            raise NotFound(
                f"the external volume {name!r} is not there",
                where=project.place("volumes", key),
                hint=f"make it: `wherry volume create {name}`",
            )
        return
    if there is not None:
        if dict(there.options) != dict(given.get("driver_opts", {})):
            raise Conflict(
                f"the volume {name!r} is there with other options",
                where=project.place("volumes", key),
                hint="`wherry compose down -v` removes it with its data",
            )
        return
    create_volume(
        paths,
        name,
        labels={**given.get("labels", {}), **labels.of_volume(project, key)},
        options=dict(given.get("driver_opts", {})),
    )
    tell("Volume", name, "Created")


def remove_network(paths: Paths, name: str, tell: Tell) -> bool:
    """Removes a network that a project made; tells when containers of others are on it, and leaves it.

    Returns:
        Whether it is gone.
    """
    with NetworkLock(paths):
        if any(live.name == name and live.leases for live in LiveNetworks(paths).every()):
            tell("Network", name, "In use")
            return False
        registry.remove(paths, name)
    tell("Network", name, "Removed")
    return True
