"""All that a container needs before its first process, and the removal of all that.

Runs in the command that starts a container, and mounts nothing. What is prepared lasts over the restarts of the
container, and another process finds it again (`standing`); `clean_up` takes away whatever is there, also what a failed
`prepare` left half done, and goes on after a failure so that one stuck piece does not keep the others.
"""

from __future__ import annotations

import os

from wherry.core.errors import NotFound, WherryError
from wherry.core.value import Value
from wherry.engine.net import setup as net_setup
from wherry.engine.net.records import Joined
from wherry.engine.net.request import BRIDGE, USERSPACE
from wherry.engine.net.setup import NetworkSetup
from wherry.engine.rootfs import mount_in_child, root_mounter, see_to_image
from wherry.engine.spec import ContainerConfig
from wherry.engine.state import Paths, read_run
from wherry.spec.container import MountType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.engine.imagestore import ImageStore
    from wherry.engine.net.request import NetworkAttachment
    from wherry.engine.network import Network
    from wherry.engine.ports import Reservation
    from wherry.engine.volume_mounts import FileSystem
    from wherry.spec.container import PortMapping


class Prepared(Value):
    """What stands ready."""

    sources: tuple[str | FileSystem, ...]
    """For each mount of the config, the host path behind it; "" for a tmpfs."""
    network: NetworkSetup = NetworkSetup()
    joined: Joined = Joined()
    reservation: Reservation | None = None


def prepare(paths: Paths, store: ImageStore | None, config: ContainerConfig) -> Prepared:
    """Sees to the image, fills volumes, writes name resolution files, reserves ports and an address.

    Raises:
        WherryError: something cannot be had; nothing is undone here (see `clean_up`).
    """
    reservation = None
    joined = Joined()
    networks = _networks(paths, config)
    if config.spec.network == USERSPACE:
        joined = _userspace(config)
    elif config.spec.ports:
        from wherry.engine.ports import reserve

        network = _network(paths)
        reservation = reserve(config.spec.ports, network.published(), ipv6=network.publishes_ipv6(networks))
    try:
        if store is not None:
            see_to_image(paths, store, config)
        set_up = net_setup.set_up(paths, config)
        _fill_volumes(paths, "" if store is None else store.path, config)
        if any(item.overlaid for item in config.mounts):
            from wherry.engine.overlaid import empty_layers

            empty_layers(paths, config)
        sources = tuple(_sources(paths, config))
        if networks:
            joined = _network(paths).join(
                config.id,
                attachments=networks,
                names=(config.name, *config.spec.aliases),
                hostname=config.hostname,
                ports=reservation.ports if reservation else (),
                add_hosts=config.spec.add_hosts,
            )
    except BaseException:
        if reservation is not None:
            reservation.close()
        raise
    return Prepared(sources=sources, network=set_up, joined=joined, reservation=reservation)


def standing(paths: Paths, config: ContainerConfig) -> Prepared:
    """Returns what was prepared for a container by another process, but for the sockets of its ports."""
    joined = Joined()
    if config.spec.network == USERSPACE:
        from wherry.engine.net import userspace

        run = read_run(paths, config.id)
        ports = () if run is None else run.ports
        joined = Joined(leases=(userspace.lease((config.name,), ports),), ports=ports)
    elif _networks(paths, config):
        leases = tuple(lease for _, lease in _network(paths).leases_of(config.id))
        if not leases:
            raise NotFound("the container's addresses are gone", where=config.name, hint="stop and start it")
        joined = Joined(leases=leases, ports=next((lease.ports for lease in leases if lease.ports), ()))
    return Prepared(sources=tuple(_sources(paths, config)), network=net_setup.standing(paths, config), joined=joined)


def plug(paths: Paths, config: ContainerConfig, pid: int, ports: tuple[PortMapping, ...] = ()) -> int | None:
    """Gives the network namespace of a process its network; a loopback it has.

    Args:
        paths: of the engine root.
        config: the container's.
        pid: the process.
        ports: what it publishes.

    Returns:
        With a helper for that, the descriptor that it lives by; else None.
    """
    if config.spec.network == USERSPACE:
        from wherry.engine.net import userspace

        return userspace.start(paths.run_dir(config.id), pid, ports)
    if _networks(paths, config):
        _network(paths).plug(config.id, pid)
    return None


def unplug(paths: Paths, config: ContainerConfig) -> None:
    """Takes a container's end of the network away; its addresses stay."""
    if config.spec.network == BRIDGE:
        _network(paths).unplug(config.id)


def clean_up(paths: Paths, config: ContainerConfig) -> list[WherryError]:
    """Takes away everything that `prepare` made but reserved ports; also for a container whose keeper was killed.

    Returns:
        What could not be taken away.
    """
    problems: list[WherryError] = []
    if config.spec.network == BRIDGE:
        try:
            _network(paths).leave(config.id)
        except WherryError as error:
            problems.append(error)
    return problems


def _userspace(config: ContainerConfig) -> Joined:
    """Chooses and tries the ports, and lets them go: the helper listens on them itself."""
    from wherry.engine.net import userspace

    userspace.find_helper()
    ports = config.spec.ports
    if ports:
        from wherry.engine.ports import reserve

        reservation = reserve(ports, {})
        ports = reservation.ports
        reservation.close()
    return Joined(leases=(userspace.lease((config.name,), ports),), ports=ports)


def _fill_volumes(paths: Paths, store: str, config: ContainerConfig) -> None:
    """Makes the volumes that are not there yet, with what the image has at their mount points, or empty."""
    wanted = [item for item in config.mounts if item.type == MountType.VOLUME]
    if not wanted:
        return
    from wherry.engine.volume_mounts import behind

    missing = [
        item
        for item in wanted
        if behind(f"{paths.volumes}/{item.source}") == f"{paths.volumes}/{item.source}/data"
        and not os.path.isdir(f"{paths.volumes}/{item.source}/data")
    ]
    if not missing:
        return
    target = f"{paths.container(config.id)}/rootfs"
    from wherry.engine import volumes

    for item in missing:
        if item.no_copy or item.subpath:  # a part of it is not what the image has there
            volumes.prepare_volume(paths, item.source, root_fd=None, target=item.target)
    filled = [item for item in missing if not (item.no_copy or item.subpath)]
    if not filled:
        return

    def fill() -> None:
        root_fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for item in filled:
            volumes.prepare_volume(paths, item.source, root_fd=root_fd, target=item.target)

    mount_in_child(root_mounter(paths, store, config, to_look=True), fill)


def _sources(paths: Paths, config: ContainerConfig) -> Iterator[str | FileSystem]:
    for index, (item, source) in enumerate(zip(config.mounts, _plain_sources(paths, config), strict=True)):
        if item.overlaid:
            from wherry.engine.overlaid import layered

            yield layered(paths, config, index, source)
        else:
            yield source


def _plain_sources(paths: Paths, config: ContainerConfig) -> Iterator[str | FileSystem]:
    for item in config.mounts:
        if item.type == MountType.VOLUME:
            from wherry.engine.volume_mounts import behind, check_subpath

            source = behind(f"{paths.volumes}/{item.source}")
            if item.subpath:
                check_subpath(source, item)
            yield source
        elif item.type == MountType.BIND:
            if not os.path.exists(item.source):
                raise NotFound("the source of a bind mount is not there", where=item.source, hint="make it first")
            yield item.source
        else:
            yield ""


def _networks(paths: Paths, config: ContainerConfig) -> tuple[NetworkAttachment, ...]:
    """Returns the networks of a container as they are now."""
    if config.spec.network != BRIDGE:
        return ()
    from wherry.engine.net.connections import attachments

    return attachments(paths, config)


def _network(paths: Paths) -> Network:
    """Returns the networks; a container without one pays nothing for them."""
    from wherry.engine.network import Network

    return Network(paths)
