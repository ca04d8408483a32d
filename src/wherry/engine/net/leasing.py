"""Addresses and interface names given out; pure."""

from __future__ import annotations

from wherry.core.errors import Conflict, InvalidInput
from wherry.core.value import replace
from wherry.engine.net import subnets
from wherry.engine.net.request import HOST_GATEWAY, INTERFACE
from wherry.engine.net.subnets import parse_address, parse_mac, parse_subnet, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.engine.net.records import Lease, Live


def link_name(container_id: str, number: int) -> str:
    """Returns the name of the host's end of a container's veth pair, on the default network (0) or another."""
    return f"whv{container_id[:11]}" if number == 0 else f"whv{container_id[:8]}-{number:03x}"


def interface_names(networks: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Returns the names of a container's interfaces: those of the host's that move in keep theirs.

    Args:
        networks: names of networks, in order.
        taken: names that are not free.
    """
    moved = {name.removeprefix(INTERFACE) for name in networks if name.startswith(INTERFACE)}
    free = (name for number in range(4096) if (name := f"eth{number}") not in moved and name not in taken)
    return [name.removeprefix(INTERFACE) if name.startswith(INTERFACE) else next(free) for name in networks]


def lease(container_id: str, live: Live, wanted: Lease) -> Lease:
    """Completes a lease with free addresses.

    Args:
        container_id: whose.
        live: the network, with the leases of the others.
        wanted: what was asked for; empty fields are filled in.

    Raises:
        Conflict: an address that was asked for is taken.
        InvalidInput: it is not of the network.
        NoSpace: no address is free.
    """
    if live.driver == "interface":
        return wanted
    others = [item for key, item in live.leases.items() if key != container_id]
    used = {item.ip for item in others} | {live.gateway}
    used6 = {item.ip6 for item in others} | {live.gateway6}
    subnet = parse_subnet(live.subnet)
    if wanted.ip:
        ip = _asked(wanted.ip, subnet, used, live.name)
    else:
        within = parse_subnet(live.ip_range) if live.ip_range else subnet
        ip = show(subnet.address(subnets.pick(subnet, within, lambda address: show(address) in used)))
    ip6 = ""
    if live.subnet6:
        subnet6 = parse_subnet(live.subnet6)
        if wanted.ip6:
            ip6 = _asked(wanted.ip6, subnet6, used6, live.name)
        else:
            # the same place as in the IPv4 network, when it is free: one number to remember
            offset = int.from_bytes(parse_address(ip), "big") - subnet.base
            same = show(subnet6.address(offset)) if offset < subnet6.size else ""
            if not same or same in used6:
                same = show(subnet6.address(subnets.pick(subnet6, subnet6, lambda address: show(address) in used6)))
            ip6 = same
    elif wanted.ip6:
        raise InvalidInput(f"network {live.name} has no IPv6", hint="make it with --ipv6")
    mac = parse_mac(wanted.mac) if wanted.mac else subnets.mac_of(parse_address(ip))
    return replace(
        wanted,
        ip=ip,
        ip6=ip6,
        mac=mac.hex(":"),
        link=link_name(container_id, live.number) if live.driver == "bridge" else "",
        hosts=tuple(_with_gateway(line, live.gateway) for line in wanted.hosts),
    )


def _asked(text: str, subnet: subnets.Subnet, used: set[str], name: str) -> str:
    address = parse_address(text)
    if not subnet.holds(address) or int.from_bytes(address, "big") == subnet.base:
        raise InvalidInput(f"the address {text} is not one of network {name}", hint=f"give one of {subnet}")
    if show(address) in used:
        raise Conflict(f"the address {text} of network {name} is taken", hint="give another, or none")
    return show(address)


def _with_gateway(line: str, gateway: str) -> str:
    return f"{gateway}\t{line.removeprefix(HOST_GATEWAY).lstrip()}" if line.startswith(HOST_GATEWAY) else line
