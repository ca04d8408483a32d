"""Networks of containers that are there: connected and disconnected, also while they run.

What is changed is kept in ``containers/<id>/networks.json``, which from then on stands for the networks that the
container was made with.
"""

from __future__ import annotations

from wherry.core import jsonio
from wherry.core.durable import write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.value import Value
from wherry.engine import state
from wherry.engine.net import registry, request
from wherry.engine.net.request import NetworkAttachment
from wherry.engine.net.state import LiveNetworks, NetworkLock
from wherry.spec.values import decode_value, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.net.records import Definition
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths

MAX_BYTES = 1 << 16
FILE = "networks.json"


class Connections(Value):
    """The networks of a container, as they were changed."""

    networks: tuple[NetworkAttachment, ...] = ()


def attachments(paths: Paths, config: ContainerConfig) -> tuple[NetworkAttachment, ...]:
    """Returns the networks of a container as they are now."""
    if config.spec.network != request.BRIDGE:
        return ()
    path = f"{paths.container(config.id)}/{FILE}"
    try:
        with open(path, "rb") as file:
            data = jsonio.loads(file.read(MAX_BYTES), where=path)
    except FileNotFoundError:
        return request.attachments(config.spec)
    return decode_value(Connections, data, where=path).networks


def _keep(paths: Paths, config: ContainerConfig, networks: tuple[NetworkAttachment, ...]) -> None:
    path = f"{paths.container(config.id)}/{FILE}"
    write_file(path, jsonio.pretty(encode(Connections(networks=networks))).encode(), mode=0o600)


def _pid(paths: Paths, container_id: str) -> int | None:
    run = state.read_run(paths, container_id)
    return run.pid if run is not None and run.pid and not state.is_lost(paths, container_id) else None


def connect(paths: Paths, container: str, attachment: NetworkAttachment) -> None:
    """Puts a container on one more network, at once if it runs.

    Raises:
        NotFound: there is no such container or network.
        Conflict: it is on it already.
        InvalidInput: it has no networks of its own.
    """
    from wherry.engine.network import Network

    container_id = state.find(paths, container)
    config = state.read_config(paths, container_id)
    if config.spec.network != request.BRIDGE:
        raise InvalidInput(f"a container with the network {config.spec.network!r} has no other")
    definition = registry.find(paths, attachment.network)
    now = attachments(paths, config)
    if any(item.network == definition.name for item in now):
        raise Conflict(f"container {config.name} is on network {definition.name} already")
    pid = _pid(paths, container_id)
    if pid is not None:
        names = (config.name, *config.spec.aliases)
        Network(paths).connect(container_id, pid, attachment, names=names, hostname=config.hostname)
    _keep(paths, config, (*now, attachment))


def disconnect(paths: Paths, container: str, network: str) -> None:
    """Takes a container off a network, at once if it runs.

    Raises:
        NotFound: there is no such container or network.
        Conflict: it is not on it.
    """
    from wherry.engine.network import Network

    container_id = state.find(paths, container)
    config = state.read_config(paths, container_id)
    name = registry.find(paths, network).name
    now = attachments(paths, config)
    left = tuple(item for item in now if item.network != name)
    if len(left) == len(now):
        raise Conflict(f"container {config.name} is not on network {name}")
    pid = _pid(paths, container_id)
    if pid is not None:
        Network(paths).disconnect(container_id, pid, name)
    _keep(paths, config, left)


def users(paths: Paths, name: str) -> list[str]:
    """Returns the names of the containers that are on a network when they run."""
    found = []
    for container_id in state.all_ids(paths):
        try:
            config = state.read_config(paths, container_id)
        except NotFound:
            continue  # removed while we looked
        if any(item.network == name for item in attachments(paths, config)):
            found.append(config.name)
    return found


def remove(paths: Paths, network: str) -> Definition:
    """Removes a network that no container is on.

    Raises:
        NotFound: there is none.
        Conflict: a container is on it, or it is the default one.
    """
    definition = registry.find(paths, network)
    if definition.name == registry.DEFAULT:
        raise Conflict("the default network is always there")
    with NetworkLock(paths):
        live = LiveNetworks(paths).read(definition.name)
        holders = sorted({lease.names[0] for lease in live.leases.values()}) if live is not None else []
        holders = holders or users(paths, definition.name)
        if holders:
            raise Conflict(
                f"network {definition.name} is used by {', '.join(holders)}",
                hint="remove them, or `wherry network disconnect` them first",
            )
        registry.remove(paths, definition.name)
    return definition
