"""The nftables rules of one network, as requests: a table of its own, made and removed in one transaction each.

::

    table inet wherry-<tag>[-<nnn>]
      map any4    protocol . port           : address . port      published on every IPv4 address
      map ports4  protocol . address . port : address . port      published on one
      map any6, ports6                                            the same for IPv6
      chain guard        raw          nobody reaches 127.0.0.0/8 of the host by the bridge, which ``route_localnet``
                                      would else allow (CVE-2020-8558)
      chain prerouting   dstnat       packets from outside to a published port go to its container
      chain output       dstnat       the host's own, too: that is how 127.0.0.1:PORT works
      chain postrouting  srcnat       containers reach the world, and themselves, by the host's address
      chain forward      filter       nobody outside reaches a container by its own address; from and to an internal
                                      network nothing is forwarded
      chain loopback     filter       a published port at ::1 is refused, as the kernel forwards nothing from there: who
                                      tries both families goes on to 127.0.0.1 at once
      chain redirects    filter       a container that reaches another by a published port is not told to go to it
                                      directly, which would lose it

A container with ports adds elements to the maps; nothing else is touched. As every network drops what comes from
outside to its bridge, networks are closed to each other, whoever else has rules. No rule of others is changed, but
for docker's: an accept in one table does not help against a drop in another, and docker (and ufw) set the policy of
iptables' FORWARD chains to drop; two rules with a comment are put there then, and taken out with the bridge.

Pure: nothing here speaks to the kernel.
"""

from __future__ import annotations

from wherry.engine.net.subnets import parse_address, parse_subnet
from wherry.linux import nftables as nft
from wherry.linux.nftables import NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.net.records import Lease, Live
    from wherry.linux.netlink import Request

FILTER, FORWARD = "filter", "FORWARD"
_IPPROTO = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58}
_ICMP_REDIRECT, _ICMPV6_REDIRECT = 5, 137
_LOOPBACK, _LOOPBACK6 = bytes((127, 0, 0, 0)), bytes(15) + b"\1"
_FAMILIES = (
    ("4", NFPROTO_IPV4, nft.TYPE_IPV4, 1),
    ("6", NFPROTO_IPV6, nft.TYPE_IPV6, 4),
)
ANY = ("", "0.0.0.0")  # noqa: S104 docker's word for all addresses
ANY6 = "::"


def table_name(live: Live) -> str:
    """Returns the name of a network's table."""
    return live.table


def table(live: Live, *, anew: bool = False) -> list[Request]:
    """Returns what makes a network's table, with the published ports of all its leases.

    Args:
        live: the network.
        anew: whether there is one already, to be replaced.
    """
    name, bridge = table_name(live), live.bridge
    requests = [nft.delete_table(NFPROTO_INET, name)] if anew else []
    requests.append(nft.new_table(NFPROTO_INET, name))
    number = 0
    for suffix, _, kind, _ in _FAMILIES:
        value = (kind, nft.TYPE_SERVICE)
        for prefix, key in (("any", ()), ("ports", (kind,))):
            number += 1
            fields = (nft.TYPE_PROTOCOL, *key, nft.TYPE_SERVICE)
            requests.append(
                nft.new_map(NFPROTO_INET, name, f"{prefix}{suffix}", key=fields, value=value, number=number)
            )
    for chain, kind_of_chain, hook, priority in (
        ("guard", "filter", nft.NF_INET_PRE_ROUTING, nft.PRIORITY_RAW),
        ("prerouting", "nat", nft.NF_INET_PRE_ROUTING, nft.PRIORITY_DSTNAT),
        ("output", "nat", nft.NF_INET_LOCAL_OUT, nft.PRIORITY_DSTNAT),
        ("postrouting", "nat", nft.NF_INET_POST_ROUTING, nft.PRIORITY_SRCNAT),
        ("forward", "filter", nft.NF_INET_FORWARD, nft.PRIORITY_FILTER),
        ("loopback", "filter", nft.NF_INET_LOCAL_OUT, nft.PRIORITY_FILTER),
        ("redirects", "filter", nft.NF_INET_LOCAL_OUT, nft.PRIORITY_FILTER),
    ):
        requests.append(nft.new_chain(NFPROTO_INET, name, chain, kind=kind_of_chain, hook=hook, priority=priority))
    for chain_name, *expressions in _rules(live, bridge):
        requests.append(nft.new_rule(NFPROTO_INET, name, str(chain_name), *expressions))  # type: ignore[arg-type]
    return requests + publish(live, live.leases.values())


def _rules(live: Live, bridge: str) -> list[tuple[str | nft.Expressions, ...]]:
    accept, drop = nft.verdict(nft.NF_ACCEPT), nft.verdict(nft.NF_DROP)
    inward, outward, elsewhere = (
        nft.in_interface(bridge),
        nft.out_interface(bridge),
        nft.out_interface(bridge, equal=False),
    )
    rules: list[tuple[str | nft.Expressions, ...]] = [
        ("guard", inward, nft.in_network(_LOOPBACK, 8, source=False), drop),
        # what is published on the host's loopback is not for others
        ("prerouting", nft.in_network(_LOOPBACK, 8, source=False), nft.verdict(nft.NFT_RETURN)),
    ]
    for chain in ("prerouting", "output"):
        for suffix, family, _, words in _FAMILIES:
            one = (nft.load_protocol(0), nft.address(family, source=False, register=1), nft.load_port(1 + words))
            every = (nft.is_local(), nft.load_protocol(0), nft.load_port(1))
            for name, loads in ((f"ports{suffix}", one), (f"any{suffix}", every)):
                rules.append((chain, nft.is_family(family), *loads, nft.look_up(name), nft.dnat(family)))
    for chain in ("output", "loopback"):
        there = nft.in_network(_LOOPBACK6, 128, source=False)
        if chain == "output":
            rules.insert(2, (chain, there, nft.verdict(nft.NFT_RETURN)))
        else:
            key = (nft.is_protocol(_IPPROTO["tcp"]), nft.load_protocol(0), nft.load_port(1), nft.look_up("any6"))
            rules.append((chain, there, *key, nft.reset()))
    for text in filter(None, (live.subnet, live.subnet6)):
        subnet = parse_subnet(text)
        source = nft.in_network(subnet.address(0), subnet.prefix, source=True)
        if not live.internal:
            rules.append(("postrouting", source, elsewhere, nft.masquerade()))
        rules.append(("postrouting", source, outward, nft.ct_status(nft.IPS_DST_NAT), nft.masquerade()))
    rules += [
        ("postrouting", nft.in_network(_LOOPBACK, 8, source=True), outward, nft.masquerade()),
        # seen here where the kernel shows bridged packets to the rules (br_netfilter)
        ("forward", inward, outward, accept),
        *([("forward", inward, drop)] if live.internal else [("forward", inward, accept)]),
        *(
            []
            if live.internal
            else [
                ("forward", outward, nft.ct_state(nft.CT_ESTABLISHED | nft.CT_RELATED), accept),
                ("forward", outward, nft.ct_status(nft.IPS_DST_NAT), accept),
            ]
        ),
        ("forward", outward, drop),
    ]
    for protocol, kind in (("icmp", _ICMP_REDIRECT), ("ipv6-icmp", _ICMPV6_REDIRECT)):
        is_kind = (nft.is_protocol(_IPPROTO[protocol]), nft.payload(2, 0, 1), nft.compare(bytes((kind,))))
        rules.append(("redirects", outward, *is_kind, drop))
    return rules


def remove(live: Live) -> list[Request]:
    """Returns what removes a network's table."""
    return [nft.delete_table(NFPROTO_INET, table_name(live))]


def publish(live: Live, leases: Iterable[Lease]) -> list[Request]:
    """Returns what publishes the ports of some leases."""
    return [
        nft.new_elements(NFPROTO_INET, table_name(live), name, elements) for name, elements in _elements(leases).items()
    ]


def unpublish(live: Live, lease: Lease) -> list[Request]:
    """Returns what takes the ports of a lease back."""
    return [
        nft.delete_elements(NFPROTO_INET, table_name(live), name, tuple(elements))
        for name, elements in _elements((lease,)).items()
    ]


def _elements(leases: Iterable[Lease]) -> dict[str, dict[bytes, bytes]]:
    found: dict[str, dict[bytes, bytes]] = {}
    for lease in leases:
        for port in lease.ports:
            protocol = bytes((_IPPROTO[port.protocol],))
            number = port.host_port.to_bytes(2, "big")
            for target in filter(None, (lease.ip, lease.ip6)):
                goal = parse_address(target)
                suffix = "4" if len(goal) == 4 else "6"
                if port.host_ip in ANY or (port.host_ip == ANY6 and suffix == "6"):
                    name, key = f"any{suffix}", nft.fields(protocol, number)
                elif port.host_ip == ANY6 or len(parse_address(port.host_ip)) != len(goal):
                    continue
                else:
                    name, key = f"ports{suffix}", nft.fields(protocol, parse_address(port.host_ip), number)
                found.setdefault(name, {})[key] = nft.fields(goal, port.container_port.to_bytes(2, "big"))
    return found


def comment(live: Live) -> str:
    """Returns the comment by which the exceptions in iptables' chains are found again."""
    return f"wherry {live.bridge}"


def exceptions(live: Live, family: int) -> list[Request]:
    """Returns what lets the bridge through the FORWARD chain of iptables (nft flavour) of one family."""
    accept, note = nft.verdict(nft.NF_ACCEPT), comment(live)
    return [
        nft.new_rule(family, FILTER, FORWARD, match, nft.counter(), accept, comment=note, first=True)
        for match in (nft.in_interface(live.bridge), nft.out_interface(live.bridge))
    ]
