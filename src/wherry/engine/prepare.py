"""All that a container needs before its first process, and the removal of all that.

Runs in the monitor, which from then on has a mount namespace of its own. What is prepared here lasts over the
restarts of the container; `clean_up` takes away whatever is there, also what a failed `prepare` left half done, and
goes on after a failure so that one stuck piece does not keep the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import NotFound, WherryError
from wherry.engine import hosts, volumes
from wherry.engine.network import Lease, Network, NetworkState
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

SYSTEMD_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
FILES = ("hosts", "hostname", "resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What stands ready."""

    rootfs: Path
    identity: users.Identity
    sources: tuple[str, ...]
    """For each mount of the config, the host path behind it; "" for a tmpfs."""
    files: tuple[Path, ...] = ()
    """Those of ``FILES`` that are bound over the image's, below the run root."""
    network: NetworkState | None = None
    lease: Lease | None = None
    reservation: Reservation | None = None


def prepare(paths: Paths, repo: Repository | None, config: ContainerConfig) -> Prepared:
    """Mounts the root, finds the user, fills volumes, writes name resolution files, reserves ports and an address.

    Raises:
        WherryError: something cannot be had; nothing is undone here (see `clean_up`).
    """
    reservation = state = lease = None
    if config.spec.ports:
        from wherry.engine.ports import reserve

        reservation = reserve(config.spec.ports, Network(paths).published())
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
    files = _write_files(paths, config)
    if config.spec.network == "bridge":
        state, lease = Network(paths).join(
            config.id,
            names=(config.name, *config.spec.aliases),
            hostname=config.hostname,
            ports=reservation.ports if reservation else (),
        )
    return Prepared(
        rootfs=root,
        identity=identity,
        sources=sources,
        files=files,
        network=state,
        lease=lease,
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
    if config.spec.network == "bridge":
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


def _write_files(paths: Paths, config: ContainerConfig) -> tuple[Path, ...]:
    folder = paths.run_dir(config.id) / "etc"
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        own_network = config.spec.network != "host"
        text = hosts.read_or_empty(Path("/etc/hosts")) if not own_network else hosts.hosts_file(None, ())
        if config.spec.network == "none" and config.hostname:
            text = hosts.hosts_file(hosts.HostEntry(ip="127.0.0.1", names=(config.hostname, config.name)), ())
        hosts.write_in_place(folder / "hosts", text)
        name = config.hostname or os.uname().nodename
        hosts.write_in_place(folder / "hostname", f"{name}\n")
        resolv = hosts.resolv_conf(
            hosts.read_or_empty(Path("/etc/resolv.conf")),
            upstream=hosts.read_or_empty(SYSTEMD_UPSTREAM),
            own_network=own_network,
        )
        hosts.write_in_place(folder / "resolv.conf", resolv)
    except OSError as error:
        raise map_os_error(error, "cannot write the name resolution files", where=folder) from error
    return tuple(folder / name for name in FILES)
