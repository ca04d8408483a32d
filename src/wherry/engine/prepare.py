"""All that a container needs before its first process, and the removal of all that.

Runs in the monitor, which from then on has a mount namespace of its own. What is prepared here lasts over the
restarts of the container; `clean_up` takes away whatever is there, also what a failed `prepare` left half done, and
goes on after a failure so that one stuck piece does not keep the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.errors import NotFound, WherryError
from wherry.core.value import Value
from wherry.engine import volumes
from wherry.engine.net import setup as net_setup
from wherry.engine.net.request import attachments
from wherry.engine.net.setup import NetworkSetup
from wherry.engine.network import Joined, Network
from wherry.engine.rootfs import mount_rootfs
from wherry.engine.spec import ContainerConfig
from wherry.engine.state import Paths
from wherry.linux import mount
from wherry.linux.beneath import open_in_root
from wherry.linux.namespaces import CLONE_NEWNS, unshare
from wherry.runtime import users
from wherry.spec.container import MountType

if TYPE_CHECKING:
    from wherry.engine.ports import Reservation
    from wherry.store.repository import Repository


class Prepared(Value):
    """What stands ready."""

    rootfs: Path
    identity: users.Identity
    sources: tuple[str, ...]
    """For each mount of the config, the host path behind it; "" for a tmpfs."""
    network: NetworkSetup = NetworkSetup()
    joined: Joined = Joined()
    reservation: Reservation | None = None


def prepare(paths: Paths, repo: Repository | None, config: ContainerConfig) -> Prepared:
    """Mounts the root, finds the user, fills volumes, writes name resolution files, reserves ports and an address.

    Raises:
        WherryError: something cannot be had; nothing is undone here (see `clean_up`).
    """
    reservation = None
    joined = Joined()
    networks = attachments(config.spec)
    if config.spec.ports:
        from wherry.engine.ports import reserve

        network = Network(paths)
        reservation = reserve(config.spec.ports, network.published(), ipv6=network.publishes_ipv6(networks))
    unshare(CLONE_NEWNS)
    # slave and not private: what is unmounted on the host must not be held by us
    mount.mount(None, "/", None, mount.MS_SLAVE | mount.MS_REC)
    root = mount_rootfs(paths, repo, config)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identity = look_up_user(root_fd, config.user)
        sources = tuple(_sources(paths, config, root_fd))
    finally:
        os.close(root_fd)
    set_up = net_setup.set_up(paths, config)
    if networks:
        joined = Network(paths).join(
            config.id,
            attachments=networks,
            names=(config.name, *config.spec.aliases),
            hostname=config.hostname,
            ports=reservation.ports if reservation else (),
            add_hosts=config.spec.add_hosts,
        )
    return Prepared(
        rootfs=root,
        identity=identity,
        sources=sources,
        network=set_up,
        joined=joined,
        reservation=reservation,
    )


def clean_up(paths: Paths, config: ContainerConfig, prepared: Prepared | None) -> list[WherryError]:
    """Takes away everything that `prepare` made; also called for a container whose monitor was killed.

    Returns:
        What could not be taken away.
    """
    problems: list[WherryError] = []
    if prepared is not None and prepared.reservation is not None:
        prepared.reservation.close()
    if attachments(config.spec):
        try:
            Network(paths).leave(config.id)
        except WherryError as error:
            problems.append(error)
    return problems


def unmount_rootfs(paths: Paths, config: ContainerConfig) -> None:
    """Unmounts a container's root in the monitor's own namespace, so that its folder can be removed at once."""
    target = paths.container(config.id) / "rootfs"
    while True:
        try:
            mount.umount(target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        except OSError:
            return  # EINVAL: nothing is mounted there any more


def look_up_user(root_fd: int, text: str) -> users.Identity:
    """Returns the ids that ``USER[:GROUP]`` means in a root tree."""
    numeric = not any(word and not word.isdigit() for word in text.split(":"))
    passwd = _read_beneath(root_fd, "etc/passwd")
    group = "" if numeric and text.count(":") == 1 else _read_beneath(root_fd, "etc/group")
    return users.look_up(text, passwd, group)


def _read_beneath(root_fd: int, path: str) -> str:
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(fd, "rb") as file:
        return file.read(users.MAX_FILE_BYTES).decode("utf-8", errors="replace")


def _sources(paths: Paths, config: ContainerConfig, root_fd: int) -> Iterator[str]:
    for item in config.mounts:
        if item.type == MountType.VOLUME:
            yield str(volumes.prepare_volume(paths, item.source, root_fd=root_fd, target=item.target))
        elif item.type == MountType.BIND:
            if not os.path.exists(item.source):
                raise NotFound("the source of a bind mount is not there", where=item.source, hint="make it first")
            yield item.source
        else:
            yield ""
