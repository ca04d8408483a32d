"""What is asked for of a container's network, and what cannot be asked for. Pure."""

from __future__ import annotations

from wherry.core.errors import InvalidInput, Unsupported
from wherry.core.value import Value, replace
from wherry.linux import usernamespace
from wherry.spec.container import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ContainerSpec

BRIDGE, NONE, HOST = "bridge", "none", "host"
CONTAINER, NAMESPACE = "container:", "ns:"
USERSPACE = "slirp4netns"
"""A network that needs no root (userspace.py)."""
MAX_NETWORKS = 64
"""How many networks one container may be on."""
INTERFACE = "interface:"
"""Begins the name of a network that is an interface of the host's."""
HOST_GATEWAY = "host-gateway"
"""Docker's word for the host's address on a container's network (``--add-host name:host-gateway``)."""
PROTOCOLS = ("tcp", "udp")


class NetworkAttachment(Value):
    """One network of a container."""

    network: str
    """A name, or ``interface:NAME`` for an interface of the host's that moves into the container."""
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    """Further names by which others on this network find it."""


class DnsSettings(Value):
    """What is asked for instead of the host's ``resolv.conf``; empty takes the host's."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def attachments(spec: ContainerSpec) -> tuple[NetworkAttachment, ...]:
    """Returns the networks of a container; none unless it has a network namespace of its own and wants some."""
    if spec.network != BRIDGE:
        return ()
    return spec.networks or (NetworkAttachment(network=BRIDGE),)


def own_namespace(spec: ContainerSpec) -> bool:
    """Tells whether a container has a network namespace made for it."""
    return spec.network in (BRIDGE, NONE, USERSPACE)


def check(spec: ContainerSpec) -> None:
    """Refuses a network that cannot work.

    Raises:
        InvalidInput: names the setting, and what it should look like.
    """
    mode = spec.network
    known = mode in (BRIDGE, NONE, HOST, USERSPACE) or (
        mode.startswith((CONTAINER, NAMESPACE)) and not mode.endswith(":")
    )
    if not known:
        raise InvalidInput(
            f"not a network: {mode!r}", hint="give bridge, none, host, container:NAME, ns:PATH or a network's name"
        )
    if mode.startswith(NAMESPACE) and not mode.removeprefix(NAMESPACE).startswith("/"):
        raise InvalidInput(f"not an absolute path of a network namespace: {mode!r}")
    if (spec.ports or spec.publish_all) and mode not in (BRIDGE, USERSPACE):
        raise InvalidInput(f"ports cannot be published with the network {mode!r}", hint="use --network bridge")
    if spec.networks and mode != BRIDGE:
        raise InvalidInput(f"a container with the network {mode!r} has no other")
    if mode.startswith(CONTAINER) and (spec.hostname or spec.dns != DnsSettings() or spec.add_hosts):
        raise InvalidInput("host name and name resolution are those of the other container", hint="leave them out")
    if len(spec.networks) > MAX_NETWORKS:
        raise InvalidInput(f"a container is on {MAX_NETWORKS} networks at most")
    for item in spec.networks:
        _check_attachment(item)
    for server in spec.dns.servers:
        from wherry.engine.net.subnets import parse_address  # most requests name no address

        parse_address(server, what="the address of a name server")
    for word in (*spec.dns.search, *spec.dns.options):
        if not word or any(c.isspace() or ord(c) < 32 for c in word):
            raise InvalidInput(f"not a domain or an option of resolv.conf: {word!r}")
    for line in spec.add_hosts:
        if not line.strip() or any(ord(c) < 32 and c != "\t" for c in line):
            raise InvalidInput(f"not a line of /etc/hosts: {line!r}")
    for text in spec.expose:
        exposed(text)


def without_root(spec: ContainerSpec) -> ContainerSpec:
    """Returns a request with the network that it gets without root, where it wants the usual one.

    Raises:
        Unsupported: it wants what only root can make.
    """
    if spec.network != BRIDGE or not usernamespace.inside() or usernamespace.owns_network():
        return spec
    if [item for item in spec.networks if item != NetworkAttachment(network=BRIDGE)]:
        raise Unsupported(
            "networks by name, bridges and interfaces of the host need root",
            hint=f"use --network {USERSPACE}, host, none or container:NAME",
        )
    return replace(spec, network=USERSPACE, networks=())


def _check_attachment(item: NetworkAttachment) -> None:
    if not (item.ip or item.ip6 or item.mac):
        return
    from wherry.engine.net.subnets import parse_address, parse_mac

    if item.ip and len(parse_address(item.ip)) != 4:
        raise InvalidInput(f"not an IPv4 address: {item.ip!r}", hint="IPv6 addresses are ip6 (--ip6)")
    if item.ip6 and len(parse_address(item.ip6)) != 16:
        raise InvalidInput(f"not an IPv6 address: {item.ip6!r}", hint="IPv4 addresses are ip (--ip)")
    if item.mac:
        parse_mac(item.mac)
    if item.network.startswith(INTERFACE):
        raise InvalidInput(f"{item.network} keeps its own addresses", hint="leave ip, ip6 and mac out")


def exposed(text: str) -> tuple[PortMapping, ...]:
    """Returns the ports that ``80``, ``53/udp`` or ``8000-8010/tcp`` means, each to be published on any free one.

    Raises:
        InvalidInput: it is not of that form.
    """
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    kind = (protocol or "tcp").lower()
    if kind == "sctp":
        raise InvalidInput(f"SCTP ports cannot be published: {text!r}", hint="use tcp or udp")
    if kind not in PROTOCOLS or not (first.isascii() and first.isdigit() and (last.isdigit() or not dash)):
        raise InvalidInput(f"not a port: {text!r}", hint="write it as 80, 53/udp or 8000-8010")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 65536:
        raise InvalidInput(f"not a port: {text!r}", hint="ports are 1 to 65535")
    return tuple(
        PortMapping(container_port=port, protocol="udp" if kind == "udp" else "tcp") for port in range(low, high + 1)
    )


def all_ports(spec: ContainerSpec, of_image: tuple[str, ...]) -> tuple[PortMapping, ...]:
    """Returns the ports to publish: with ``-P`` also every exposed one that is not published anyhow."""
    if not spec.publish_all:
        return spec.ports
    done = {(port.container_port, port.protocol) for port in spec.ports}
    further: dict[tuple[int, str], PortMapping] = {}
    for text in (*spec.expose, *of_image):
        if text.endswith("/sctp"):
            continue  # an image may expose what nobody can publish
        for port in exposed(text):
            if (port.container_port, port.protocol) not in done:
                further[(port.container_port, port.protocol)] = port
    return (*spec.ports, *(further[key] for key in sorted(further)))
