"""Network interfaces by rtnetlink(7): bridges, veth pairs, macvlans; made, changed, moved, removed.

Source: include/uapi/linux/if_link.h and rtnetlink.h of Linux 6.12.
"""

from __future__ import annotations

import os
import struct

from wherry.core.errors import InvalidInput, NotFound
from wherry.core.value import Value
from wherry.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Request,
    RouteSocket,
    attribute,
    attributes,
    nested,
    number,
    text,
    u32,
)

IFNAMSIZ = 16
IFALIASZ = 256
ETHERNET_MTU = 1500
MIN_MTU = 68
MAX_MTU = 65535
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 19, 20, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_IFLA_MACVLAN_MODE = 1
_IFLA_BRPORT_MODE = 4
_IFF_UP = 1
_IFINFOMSG = struct.Struct("=BxHiII")


class Link(Value):
    """A network interface."""

    index: int
    name: str
    up: bool
    mtu: int
    kind: str
    """``bridge``, ``veth`` ...; "" for hardware."""
    master: int
    """The index of the bridge that it belongs to, or 0."""
    alias: str = ""
    mac: bytes = b""


def _name(name: str) -> bytes:
    check_name(name)
    return text(_IFLA_IFNAME, name)


def check_name(name: str) -> None:
    """Refuses what the kernel would not take as an interface's name.

    Raises:
        InvalidInput: it is too long, or has a character that no name may have.
    """
    data = os.fsencode(name)
    if not 0 < len(data) < IFNAMSIZ or name in (".", "..") or any(c in b"/:\0" or c <= 0x20 for c in data):
        raise InvalidInput(f"not a name of an interface: {name!r}", hint=f"give 1 to {IFNAMSIZ - 1} letters and digits")


def _info(*, index: int = 0, up: bool | None = None) -> bytes:
    flags, change = (_IFF_UP if up else 0), (0 if up is None else _IFF_UP)
    return _IFINFOMSG.pack(0, 0, index, flags, change)


def new_bridge(name: str, *, mtu: int, mac: bytes) -> Request:
    """Asks for a bridge that is up.

    Args:
        name: its name.
        mtu: its MTU.
        mac: given, so that it does not change with the interfaces that come and go.
    """
    parts = (
        _name(name),
        attribute(_IFLA_ADDRESS, mac),
        u32(_IFLA_MTU, mtu),
        nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge")),
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _info(up=True) + b"".join(parts), f"make the bridge {name}")


def new_veth(name: str, *, master: int, peer: str, peer_netns_fd: int, peer_mac: bytes, mtu: int) -> Request:
    """Asks for a veth pair: one end up on a bridge here, the other in another namespace.

    Args:
        name: of the end here.
        master: the bridge's index; 0 puts it on none.
        peer: name of the end there.
        peer_netns_fd: the other namespace.
        peer_mac: six bytes; none takes a random one.
        mtu: of both ends.
    """
    other = (
        _info(),  # not up: it has no other end yet
        _name(peer),
        u32(_IFLA_NET_NS_FD, peer_netns_fd),
        attribute(_IFLA_ADDRESS, peer_mac) if peer_mac else b"",
        u32(_IFLA_MTU, mtu),
    )
    parts = (
        _name(name),
        u32(_IFLA_MASTER, master) if master else b"",
        u32(_IFLA_MTU, mtu),
        nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "veth"),
            nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, *other)),
        ),
    )
    return Request(
        _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _info(up=True) + b"".join(parts), f"make the veth pair {name}"
    )


def new_macvlan(name: str, *, parent: int, mode: str, netns_fd: int, mac: bytes, mtu: int = 0) -> Request:
    """Asks for a macvlan in another namespace, on an interface here.

    Args:
        name: its name there.
        parent: the index of the interface here.
        mode: one of `MACVLAN_MODES`.
        netns_fd: the other namespace.
        mac: six bytes.
        mtu: 0 takes the parent's.
    """
    parts = (
        _name(name),
        attribute(_IFLA_ADDRESS, mac) if mac else b"",
        u32(_IFLA_MTU, mtu) if mtu else b"",
        u32(_IFLA_LINK, parent),
        u32(_IFLA_NET_NS_FD, netns_fd),
        nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "macvlan"),
            nested(_IFLA_INFO_DATA, u32(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])),
        ),
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _info() + b"".join(parts), f"make the macvlan {name}")


def set_up(index: int) -> Request:
    """Asks for an interface to be up."""
    return Request(_RTM_NEWLINK, 0, _info(index=index, up=True), "bring an interface up")


def set_alias(name: str, alias: str) -> Request:
    """Asks for a note on an interface, which ``ip link`` shows."""
    data = os.fsencode(alias)[: IFALIASZ - 1]
    return Request(_RTM_NEWLINK, 0, _info() + _name(name) + attribute(_IFLA_IFALIAS, data), f"put a note on {name}")


def set_master(name: str, index: int) -> Request:
    """Asks for an interface to belong to a bridge, or with 0 to none; that it is gone is no error."""
    body = _info() + _name(name) + u32(_IFLA_MASTER, index)
    return Request(_RTM_NEWLINK, 0, body, f"change the bridge of {name}", missing_ok=True)


def set_hairpin(name: str) -> Request:
    """Asks a bridge to send packets back through the port that they came in by, if that is where they belong."""
    data = nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(_IFLA_INFO_SLAVE_DATA, attribute(_IFLA_BRPORT_MODE, b"\x01")),
    )
    return Request(_RTM_NEWLINK, 0, _info() + _name(name) + data, f"set hairpin mode on {name}")


def move(index: int, netns_fd: int, *, name: str = "") -> Request:
    """Asks for an interface to go to another namespace, which takes its addresses and routes off.

    Args:
        index: the interface.
        netns_fd: the other namespace.
        name: its name there; "" keeps it.
    """
    renamed = _name(name) if name else b""
    body = _info(index=index, up=False) + renamed + u32(_IFLA_NET_NS_FD, netns_fd)
    return Request(_RTM_NEWLINK, 0, body, f"move the interface {name or index} to another namespace")


def delete(name: str) -> Request:
    """Asks for an interface to go, of a veth pair both ends; that it is gone already is no error."""
    return Request(_RTM_DELLINK, 0, _info() + _name(name), f"remove the interface {name}", missing_ok=True)


def get(name: str) -> Request:
    """Asks what an interface is; see `parse`."""
    return Request(_RTM_GETLINK, 0, _info() + _name(name), f"look up the interface {name}")


def look_up(route: RouteSocket, name: str) -> Link | None:
    """Returns the interface of that name, or None."""
    try:
        return parse(route.do(get(name))[0][0][1])
    except NotFound:
        return None


def get_by_index(route: RouteSocket, index: int) -> Link | None:
    """Returns the interface of that number, or None."""
    try:
        return parse(route.do(Request(_RTM_GETLINK, 0, _info(index=index), f"look up interface {index}"))[0][0][1])
    except NotFound:
        return None


def list_all(route: RouteSocket, *, kind: str = "") -> tuple[Link, ...]:
    """Returns every interface of the socket's namespace, or those of one kind."""
    # the kernel filters, too, where it can
    filtered = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind)) if kind else b""
    replies = route.dump(Request(_RTM_GETLINK, 0, _info() + filtered, "list interfaces", missing_ok=True))
    found = tuple(parse(body) for message, body in replies if message == _RTM_NEWLINK)
    return tuple(link for link in found if not kind or link.kind == kind)


def parse(body: bytes) -> Link:
    """Returns the interface that a message of the kernel describes."""
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    found = dict(attributes(body[_IFINFOMSG.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=os.fsdecode(found.get(_IFLA_IFNAME, b"").rstrip(b"\0")),
        up=bool(flags & _IFF_UP),
        mtu=number(found.get(_IFLA_MTU)),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        master=number(found.get(_IFLA_MASTER)),
        alias=os.fsdecode(found.get(_IFLA_IFALIAS, b"").rstrip(b"\0")),
        mac=found.get(_IFLA_ADDRESS, b""),
    )
