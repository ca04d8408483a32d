"""A container's interfaces: made in its network namespace, or moved there, with addresses and routes.

The host's end of a veth pair goes with the container's namespace, which the kernel removes on its own time. So
nothing is deleted when a container ends: its end here is taken off the bridge, which is done at once, and a name that
is still there when the container starts again is removed then.
"""

from __future__ import annotations

import os

from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from wherry.engine.net.bridge import has_ipv6, write_sysctl
from wherry.engine.net.subnets import parse_address, parse_mac, parse_subnet
from wherry.linux import addresses, links
from wherry.linux.netlink import RouteSocket, with_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.engine.net.records import Lease, Live
    from wherry.linux.netlink import Request

LOOPBACK = 1


def plug(netns_fd: int, joined: Sequence[tuple[Live, Lease]]) -> None:
    """Gives a network namespace its loopback and its interfaces.

    Args:
        netns_fd: the open namespace.
        joined: each lease with its network.

    Raises:
        Conflict: an interface or a bridge is gone.
        NotFound: the host has no such interface.
    """
    route: RouteSocket

    def enter() -> None:
        nonlocal route
        route = RouteSocket()
        if has_ipv6():
            # a neighbour must not be able to become the container's router
            write_sysctl("net/ipv6/conf/default/accept_ra", "0")

    with_namespace(netns_fd, enter)
    with route as there:
        there.do(links.set_up(LOOPBACK))
        if not joined:
            return
        with RouteSocket() as here:
            for live, lease in joined:
                if live.driver == "interface":
                    _move(here, netns_fd, lease)
                elif live.driver == "macvlan":
                    _add_macvlan(here, netns_fd, live, lease)
                else:
                    _add_veth(here, netns_fd, live, lease)
                _configure(there, live, lease)


def _add_veth(here: RouteSocket, netns_fd: int, live: Live, lease: Lease) -> None:
    bridge = links.look_up(here, live.bridge)
    if bridge is None:
        raise Conflict(f"the bridge {live.bridge} was removed from outside", hint="start it again")
    requests = [
        links.new_veth(
            lease.link,
            master=bridge.index,
            peer=lease.interface,
            peer_netns_fd=netns_fd,
            peer_mac=parse_mac(lease.mac),
            mtu=live.mtu,
        )
    ]
    if lease.ports:
        # where bridged packets are shown to the rules, what a container sends to its own published port comes back
        # to it without ever leaving the bridge
        requests.append(links.set_hairpin(lease.link))
    try:
        here.do(*requests)
    except Conflict:
        here.do(links.delete(lease.link))
        here.do(*requests)


def _add_macvlan(here: RouteSocket, netns_fd: int, live: Live, lease: Lease) -> None:
    parent = links.look_up(here, live.parent)
    if parent is None:
        raise NotFound(f"network {live.name} stands on the interface {live.parent}, which this machine has not")
    here.do(
        links.new_macvlan(
            lease.interface,
            parent=parent.index,
            mode=live.mode or "bridge",
            netns_fd=netns_fd,
            mac=parse_mac(lease.mac),
        )
    )


def _move(here: RouteSocket, netns_fd: int, lease: Lease) -> None:
    name = lease.interface
    link = links.look_up(here, name)
    if link is None:
        raise NotFound(f"no interface {name}", hint="`ip link` lists them")
    here.do(links.move(link.index, netns_fd))


def _configure(there: RouteSocket, live: Live, lease: Lease) -> None:
    inside = links.look_up(there, lease.interface)
    if inside is None:
        raise Conflict(f"the container's {lease.interface} is gone already")
    there.do(links.set_up(inside.index), *_addresses(inside.index, lease, lease.ip, live.subnet, live.gateway))
    try:
        there.do(*_addresses(inside.index, lease, lease.ip6, live.subnet6, live.gateway6))
    except (NotPermitted, InvalidInput):
        pass  # the container turned IPv6 off (net.ipv6.conf.all.disable_ipv6)


def _addresses(index: int, lease: Lease, address: str, subnet: str, gateway: str) -> list[Request]:
    if not address:
        return []
    requests = [addresses.new_address(index, parse_address(address), parse_subnet(subnet).prefix)]
    routed = lease.default_route if "." in address else lease.default_route6
    if gateway and routed:
        requests.append(addresses.default_route(parse_address(gateway), index))
    return requests


def take_back(netns_fd: int, lease: Lease) -> None:
    """Moves an interface of the host's back from a namespace; nothing happens when it is not there any more."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with RouteSocket(netns_fd) as there:
            link = links.look_up(there, lease.interface)
            if link is not None:
                there.do(links.move(link.index, home))
    finally:
        os.close(home)


def take_out(netns_fd: int, lease: Lease) -> None:
    """Removes an interface from a container that runs."""
    with RouteSocket(netns_fd) as there:
        there.do(links.delete(lease.interface))


def cut_off(names: tuple[str, ...]) -> None:
    """Takes the host's ends of veth pairs off their bridges, so that nothing that still has the other end is heard."""
    with RouteSocket() as here:
        here.do(*(links.set_master(name, 0) for name in names))
