"""What a container's network needs before its first process: which namespace, and its name resolution files."""

from __future__ import annotations

import os

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, NotFound
from wherry.core.value import Value
from wherry.engine import hosts, state
from wherry.engine.net import request
from wherry.engine.net.request import HOST_GATEWAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths

SYSTEMD_UPSTREAM = "/run/systemd/resolve/resolv.conf"
FILES = ("hosts", "hostname", "resolv.conf")
LOOPBACK_IP = "127.0.0.1"


class NetworkSetup(Value):
    """What a container's specification says of its network."""

    namespace: str | None = ""
    """Path of the network namespace; "" makes one, None is the host's."""
    files: tuple[str, ...] = ()
    """Those of ``FILES`` that are bound over the image's."""
    hostname: str = ""
    """Where the container has none of its own."""


def set_up(paths: Paths, config: ContainerConfig) -> NetworkSetup:
    """Finds the network namespace and writes the name resolution files; `Network.join` rewrites ``hosts`` later.

    Raises:
        NotFound: there is no such container or namespace.
        Conflict: the container whose network is to be shared does not run.
    """
    mode = config.spec.network
    if mode.startswith(request.CONTAINER):
        return _shared(paths, config, mode.removeprefix(request.CONTAINER))
    namespace: str | None = ""
    if mode == request.HOST:
        namespace = None
    elif mode.startswith(request.NAMESPACE):
        namespace = mode.removeprefix(request.NAMESPACE)
        if not os.path.exists(namespace):
            raise NotFound("no such network namespace", where=namespace, hint="`ip netns` lists those with a name")
    return NetworkSetup(namespace=namespace, files=_write_files(paths, config))


def standing(paths: Paths, config: ContainerConfig) -> NetworkSetup:
    """Returns what `set_up` returned to another process; writes nothing."""
    mode = config.spec.network
    if mode.startswith(request.CONTAINER):
        return _shared(paths, config, mode.removeprefix(request.CONTAINER))
    namespace = mode.removeprefix(request.NAMESPACE) if mode.startswith(request.NAMESPACE) else ""
    folder = f"{paths.run_dir(config.id)}/etc"
    files = tuple(f"{folder}/{name}" for name in FILES)
    return NetworkSetup(namespace=None if mode == request.HOST else namespace, files=files)


def _shared(paths: Paths, config: ContainerConfig, name: str) -> NetworkSetup:
    other_id = state.find(paths, name)
    if other_id == config.id:
        raise Conflict("a container cannot share its own network")
    run = state.read_run(paths, other_id)
    if run is None or not run.pid or not state.is_kept(paths, other_id):
        raise Conflict(
            f"container {name}, whose network is to be shared, is not running", hint=f"`wherry start {name}`"
        )
    other = state.read_config(paths, other_id)
    namespace: str | None = f"/proc/{run.pid}/ns/net"
    if other.spec.network == request.HOST:
        namespace = None
    folder = f"{paths.run_dir(other_id)}/etc"
    # a folder of its own marks the run, as of every container, for whoever cleans up after it
    _make_folder(f"{paths.run_dir(config.id)}/etc")
    return NetworkSetup(
        namespace=namespace,
        files=tuple(f"{folder}/{name}" for name in FILES if os.path.exists(f"{folder}/{name}")),
        hostname=other.hostname or os.uname().nodename,
    )


def _write_files(paths: Paths, config: ContainerConfig) -> tuple[str, ...]:
    folder = f"{paths.run_dir(config.id)}/etc"
    spec = config.spec
    further = [line for line in spec.add_hosts if not line.startswith(HOST_GATEWAY)]
    try:
        _make_folder(folder)
        text = hosts.hosts_file((), (), further)
        if spec.network == request.HOST:
            local = [line.replace(HOST_GATEWAY, LOOPBACK_IP, 1) for line in spec.add_hosts]
            text = hosts.read_or_empty("/etc/hosts") + "".join(f"{line}\n" for line in local)
        elif spec.network == request.USERSPACE:
            from wherry.engine.net import userspace

            own = hosts.HostEntry(ip=userspace.ADDRESS, names=(config.hostname, config.name))
            gateway = [line.replace(HOST_GATEWAY, userspace.GATEWAY, 1) for line in spec.add_hosts]
            text = hosts.hosts_file((own,), (), gateway)
        elif spec.network == request.NONE and config.hostname:
            own = hosts.HostEntry(ip=LOOPBACK_IP, names=(config.hostname, config.name))
            text = hosts.hosts_file((own,), (), further)
        hosts.write_in_place(f"{folder}/hosts", text)
        name = config.hostname or os.uname().nodename
        hosts.write_in_place(f"{folder}/hostname", f"{name}\n")
        resolv = hosts.resolv_conf(
            hosts.read_or_empty("/etc/resolv.conf"),
            upstream=hosts.read_or_empty(SYSTEMD_UPSTREAM),
            own_network=spec.network != request.HOST,
        )
        if spec.network == request.USERSPACE:
            from wherry.engine.net import userspace

            resolv = hosts.with_options(resolv, servers=(userspace.NAME_SERVER,), search=(), options=())
        dns = spec.dns
        resolv = hosts.with_options(resolv, servers=dns.servers, search=dns.search, options=dns.options)
        hosts.write_in_place(f"{folder}/resolv.conf", resolv)
    except OSError as error:
        raise map_os_error(error, "cannot write the name resolution files", where=folder) from error
    return tuple(f"{folder}/{name}" for name in FILES)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
