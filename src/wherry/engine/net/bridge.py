"""The kernel's side of one bridge network: its interface, its rules, and the forwarding that it needs.

``ip_forward`` and IPv6's ``forwarding`` are turned on with the first bridge of a machine. As a host that forwards no
longer listens to router advertisements, interfaces that did are told to go on (``accept_ra`` 2). What was so before is
noted on every bridge of Wherry, in its alias, which all engine roots of the machine see; it is put back with the last
of them::

    wherry [4] [6] [ra=INTERFACE ...]      ip_forward was off, forwarding was off, accept_ra was 1

The kernel takes 20 to 60 ms to remove a bridge, and some 13 to close a socket by which rules were removed: it waits
for every reader of its tables. So nobody waits for that: a forked process does both (`Network._remove`).
"""

from __future__ import annotations

import os

from wherry.core.errors import Conflict, NotFound, NotPermitted, WherryError
from wherry.engine.net import rules
from wherry.engine.net.subnets import parse_address, parse_subnet
from wherry.linux import addresses, links
from wherry.linux import nftables as nft
from wherry.linux.netlink import NetfilterSocket, RouteSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.net.records import Lease, Live
    from wherry.linux.netlink import Request

ALIAS, GONE = "wherry", "wherry-gone"
"""Begins the note on each bridge of Wherry, by which they are told from others; the note of one that goes."""
_FORWARD = "net/ipv4/ip_forward"
_FORWARD6 = "net/ipv6/conf/all/forwarding"


def has_ipv6() -> bool:
    """Tells whether this machine has IPv6, and has it turned on."""
    return read_sysctl("net/ipv6/conf/all/disable_ipv6") == "0" == read_sysctl("net/ipv6/conf/default/disable_ipv6")


def make(live: Live) -> bool:
    """Makes bridge and table; what is left of an earlier one of that name is replaced.

    Args:
        live: the network, with its subnets.

    Returns:
        Whether exceptions were put into iptables' chains.

    Raises:
        WherryError: the kernel refuses; nothing is left.
    """
    gateway = parse_address(live.gateway)
    with RouteSocket() as route, NetfilterSocket() as netfilter:
        old = links.look_up(route, live.bridge)
        if old is not None and not is_ours(old.alias) and old.alias != GONE:
            raise Conflict(f"there is an interface {live.bridge} that is not Wherry's", hint="choose another name")
        if old is not None:
            route.do(links.delete(live.bridge))
        before = old.alias if old is not None and is_ours(old.alias) else ""
        try:
            replies = route.do(
                links.new_bridge(live.bridge, mtu=live.mtu, mac=b"\x02\x42" + gateway),
                links.set_alias(live.bridge, _forward(route, before, ipv6=bool(live.subnet6))),
                links.get(live.bridge),
            )
            index = links.parse(replies[2][0][1]).index
            wanted = [addresses.new_address(index, gateway, parse_subnet(live.subnet).prefix)]
            if live.subnet6:
                write_sysctl(f"net/ipv6/conf/{live.bridge}/accept_ra", "0")
                prefix = parse_subnet(live.subnet6).prefix
                wanted.append(addresses.new_address(index, parse_address(live.gateway6), prefix))
            route.do(*wanted)
            write_sysctl(f"net/ipv4/conf/{live.bridge}/route_localnet", "1")
            anew = nft.has_table(netfilter, nft.NFPROTO_INET, rules.table_name(live))
            netfilter.commit(rules.table(live, anew=anew))
            return _add_exceptions(netfilter, live)
        except BaseException:
            unmake(live, netfilter)
            remove_bridges((live.bridge,))
            raise


def unmake(live: Live, netfilter: NetfilterSocket) -> None:
    """Removes a network's rules, and puts the machine's forwarding back if no other network is there."""
    with RouteSocket() as route:
        _commit_if_there(netfilter, rules.remove(live))
        if live.exceptions:
            _remove_exceptions(netfilter, live)
        _put_back(route, live.bridge)


def remove_bridges(names: tuple[str, ...]) -> None:
    """Removes bridges, but none that is not Wherry's, and waits for the kernel."""
    with RouteSocket() as route:
        for name in names:
            link = links.look_up(route, name)
            if link is not None and (is_ours(link.alias) or link.alias == GONE):
                route.do(links.delete(name))


def repair(live: Live) -> bool:
    """Makes a network's table anew if somebody removed it (``nft flush ruleset``).

    Returns:
        Whether it did, with the ports of all leases.
    """
    with NetfilterSocket() as netfilter:
        if nft.has_table(netfilter, nft.NFPROTO_INET, rules.table_name(live)):
            return False
        netfilter.commit(rules.table(live))
        return True


def publish(live: Live, lease: Lease) -> None:
    """Publishes the ports of a new lease."""
    with NetfilterSocket() as netfilter:
        netfilter.commit(rules.publish(live, (lease,)))


def unpublish(live: Live, lease: Lease, netfilter: NetfilterSocket) -> None:
    """Takes the ports of a lease back; nothing happens when they, or the table, are gone."""
    for request in rules.unpublish(live, lease):
        _commit_if_there(netfilter, [request])


def _commit_if_there(netfilter: NetfilterSocket, requests: list[Request]) -> None:
    try:
        netfilter.commit(requests)
    except NotFound:
        pass


def _add_exceptions(netfilter: NetfilterSocket, live: Live) -> bool:
    added = False
    for family in (nft.NFPROTO_IPV4, nft.NFPROTO_IPV6):
        if nft.chain_drops(netfilter, family, rules.FILTER, rules.FORWARD):
            _remove_exceptions(netfilter, live, (family,))
            netfilter.commit(rules.exceptions(live, family))
            added = True
    return added


def _remove_exceptions(
    netfilter: NetfilterSocket, live: Live, families: tuple[int, ...] = (nft.NFPROTO_IPV4, nft.NFPROTO_IPV6)
) -> None:
    for family in families:
        found = nft.rules_with_comment(netfilter, family, rules.FILTER, rules.FORWARD, rules.comment(live))
        for handle in found:
            _commit_if_there(netfilter, [nft.delete_rule(family, rules.FILTER, rules.FORWARD, handle)])


# --- the machine's forwarding


def is_ours(alias: str) -> bool:
    """Tells by its alias whether a bridge is one of Wherry's."""
    return alias.split(" ")[0] == ALIAS


def _forward(route: RouteSocket, old: str, *, ipv6: bool) -> str:
    """Turns forwarding on, and returns the alias that says what was before.

    Args:
        route: where the bridges are.
        old: the alias of the bridge that is replaced.
        ipv6: whether IPv6 is forwarded, too.
    """
    words = old.split(" ")[1:]
    for link in links.list_all(route, kind="bridge"):
        if is_ours(link.alias):
            words += link.alias.split(" ")[1:]
    if read_sysctl(_FORWARD) == "0":
        words.append("4")
        write_sysctl(_FORWARD, "1")
    if ipv6 and read_sysctl(_FORWARD6) == "0":
        words.append("6")
        for name in os.listdir("/proc/sys/net/ipv6/conf"):
            path = f"net/ipv6/conf/{name}/accept_ra"
            if name not in ("all", "default", "lo") and read_sysctl(path) == "1":
                words.append(f"ra={name}")
                write_sysctl(path, "2")
        write_sysctl(_FORWARD6, "1")
    return " ".join((ALIAS, *dict.fromkeys(words)))


def _put_back(route: RouteSocket, bridge: str) -> None:
    """Puts back what forwarding was, unless another bridge still needs it."""
    found = {link.name: link.alias for link in links.list_all(route, kind="bridge") if is_ours(link.alias)}
    alias = found.pop(bridge, "")
    if not alias:
        return
    # of two that go at once, the second must not wait for the first
    route.do(links.set_alias(bridge, GONE))
    if found and any(is_ours(link.alias) for link in links.list_all(route, kind="bridge")):
        return
    for word in alias.split(" ")[1:]:
        path = {"4": _FORWARD, "6": _FORWARD6}.get(word) or f"net/ipv6/conf/{word.removeprefix('ra=')}/accept_ra"
        try:
            write_sysctl(path, "1" if word.startswith("ra=") else "0")
        except WherryError:
            pass  # the interface is gone


def read_sysctl(path: str) -> str:
    """Returns a network parameter; "" when this kernel has none of that name."""
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode().strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def write_sysctl(path: str, value: str) -> None:
    """Sets a network parameter.

    Raises:
        NotPermitted: the kernel refuses, or has none of that name.
    """
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise NotPermitted(f"cannot set a network parameter: {os.strerror(error.errno or 0)}", where=path) from error
