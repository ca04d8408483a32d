"""Addresses and routes by rtnetlink(7), of both families; addresses are their bytes, four or sixteen.

Source: include/uapi/linux/if_addr.h and rtnetlink.h of Linux 6.12.
"""

from __future__ import annotations

import _socket as socket
import struct

from wherry.linux.links import ETHERNET_MTU, get_by_index
from wherry.linux.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, RouteSocket, attribute, attributes, number, u32

IFA_F_NODAD = 0x02
"""Usable at once: nobody else is asked first whether they have it (RFC 4862, 5.4)."""

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")
_SCOPE_LINK = 253


def family_of(address: bytes) -> int:
    """Returns ``AF_INET`` or ``AF_INET6`` by an address's length."""
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def show(address: bytes) -> str:
    """Returns an address as people write it."""
    return socket.inet_ntop(family_of(address), address)


def new_address(index: int, address: bytes, prefix: int) -> Request:
    """Asks for an address on an interface, usable at once.

    Args:
        index: the interface.
        address: its bytes.
        prefix: bits of its network.
    """
    body = attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
    scope = 0
    if len(address) == 4:
        value = int.from_bytes(address, "big") | ((1 << (32 - prefix)) - 1)
        body += attribute(_IFA_BROADCAST, value.to_bytes(4, "big")) if prefix < 31 else b""
    else:
        body += u32(_IFA_FLAGS, IFA_F_NODAD)
        scope = _SCOPE_LINK if address[0] == 0xFE and address[1] & 0xC0 == 0x80 else 0
    head = _IFADDRMSG.pack(family_of(address), prefix, IFA_F_NODAD if len(address) == 16 else 0, scope, index)
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head + body, f"add the address {show(address)}/{prefix}")


def default_route(gateway: bytes, index: int, *, metric: int = 0) -> Request:
    """Asks for all that has no route of its own to go to a gateway."""
    head = _RTMSG.pack(family_of(gateway), 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, _RTN_UNICAST, 0)
    body = attribute(_RTA_GATEWAY, gateway) + u32(_RTA_OIF, index)
    body += u32(_RTA_PRIORITY, metric) if metric else b""
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, head + body, f"add the default route by {show(gateway)}")


def list_networks(route: RouteSocket, family: int) -> list[tuple[int, int]]:
    """Returns every network that this namespace has an address in or a route to, but the default route.

    Returns:
        (first address as a number, bits of the prefix).
    """
    bits = 32 if family == socket.AF_INET else 128
    found: list[tuple[int, int]] = []

    def add(packed: bytes | None, prefix: int) -> None:
        if packed:
            value = int.from_bytes(packed, "big")
            found.append((value >> (bits - prefix) << (bits - prefix), prefix))

    for kind, body in route.dump(Request(_RTM_GETADDR, 0, _IFADDRMSG.pack(family, 0, 0, 0, 0), "list addresses")):
        if kind == _RTM_NEWADDR:
            got = dict(attributes(body[_IFADDRMSG.size :]))
            add(got.get(_IFA_ADDRESS) or got.get(_IFA_LOCAL), body[1])
    for kind, body in _routes(route, family):
        if kind == _RTM_NEWROUTE and body[1]:
            add(dict(attributes(body[_RTMSG.size :])).get(_RTA_DST), body[1])
    return found


def list_addresses(route: RouteSocket, index: int) -> list[tuple[bytes, int]]:
    """Returns the addresses of one interface: (bytes, bits of the prefix)."""
    found = []
    for kind, body in route.dump(Request(_RTM_GETADDR, 0, _IFADDRMSG.pack(0, 0, 0, 0, 0), "list addresses")):
        _, prefix, _, _, where = _IFADDRMSG.unpack_from(body)
        if kind == _RTM_NEWADDR and where == index:
            got = dict(attributes(body[_IFADDRMSG.size :]))
            packed = got.get(_IFA_LOCAL) or got.get(_IFA_ADDRESS)
            if packed:
                found.append((packed, prefix))
    return found


def default_mtu(route: RouteSocket) -> int:
    """Returns the MTU of the interface that the default route goes out by; Ethernet's 1500 without one."""
    for kind, body in _routes(route, socket.AF_INET):
        if kind == _RTM_NEWROUTE and body[1] == 0:
            out = number(dict(attributes(body[_RTMSG.size :])).get(_RTA_OIF))
            if out:
                link = get_by_index(route, out)
                return link.mtu if link else ETHERNET_MTU
    return ETHERNET_MTU


def _routes(route: RouteSocket, family: int) -> list[tuple[int, bytes]]:
    head = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    return route.dump(Request(_RTM_GETROUTE, 0, head, "list routes"))
