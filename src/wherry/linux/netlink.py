"""A little of rtnetlink(7): links, addresses and routes, spoken straight over the socket.

Only what a container's network needs: bridges and veth pairs, addresses, up and down, IPv4 routes, and lists of
all three. No name resolution, no rules, no traffic control. It is here because the well-known library costs more
to import than a whole container takes to start.

Source: rtnetlink(7), netlink(7), linux/if_link.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType

from wherry.core.errors import Conflict, NotFound, NotPermitted, Unsupported, WherryError

IFNAMSIZ = 16
MAX_REPLY_BYTES = 1 << 18
ETHERNET_MTU = 1500

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_IFF_UP = 1
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_HEADER = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBi")
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTATTR = struct.Struct("=HH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface."""

    index: int
    name: str
    up: bool
    mtu: int
    kind: str
    """``bridge``, ``veth`` ...; "" for hardware."""
    master: int
    """The index of the bridge that it belongs to, or 0."""


class RouteSocket:
    """A netlink socket in one network namespace, used as a context manager.

    Args:
        netns_fd: an open ``/proc/PID/ns/net``; None means this process's own. The socket stays in the
            namespace that it was made in, so that only its making has to enter there.
    """

    def __init__(self, netns_fd: int | None = None) -> None:
        self._sequence = 0
        if netns_fd is None:
            self._socket = _open()
            return
        from wherry.linux.namespaces import CLONE_NEWNET, setns

        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(netns_fd, CLONE_NEWNET)
            try:
                self._socket = _open()
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def links(self) -> tuple[Link, ...]:
        """Returns every interface of the namespace."""
        replies = self._talk(_RTM_GETLINK, _NLM_F_DUMP, _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0), "list links")
        return tuple(_parse_link(body) for kind, body in replies if kind == _RTM_NEWLINK)

    def link(self, name: str) -> Link | None:
        """Returns the interface of that name, or None."""
        request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _name(name))
        try:
            replies = self._talk(_RTM_GETLINK, 0, request, f"look up {name}")
        except NotFound:
            return None
        return _parse_link(replies[0][1])

    def add_bridge(self, name: str) -> None:
        """Makes a bridge.

        Raises:
            Conflict: there is an interface of that name.
        """
        info = _attribute(_IFLA_INFO_KIND, b"bridge")
        self._new_link(_attribute(_IFLA_IFNAME, _name(name)) + _attribute(_IFLA_LINKINFO, info), f"add bridge {name}")

    def add_veth(
        self, name: str, *, master: int, peer: str, peer_netns_fd: int, peer_mac: bytes, mtu: int | None = None
    ) -> None:
        """Makes a veth pair: one end up on a bridge here, the other in another namespace.

        Args:
            name: of the end here.
            master: the bridge's index.
            peer: name of the end there.
            peer_netns_fd: the other namespace.
            peer_mac: six bytes.
            mtu: of both ends; None leaves it to the kernel.

        Raises:
            Conflict: there is an interface of that name.
        """
        size = _attribute(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
        other = (
            _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            + _attribute(_IFLA_IFNAME, _name(peer))
            + _attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_netns_fd))
            + _attribute(_IFLA_ADDRESS, peer_mac)
            + size
        )
        info = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
        self._new_link(
            _attribute(_IFLA_IFNAME, _name(name))
            + _attribute(_IFLA_MASTER, struct.pack("=I", master))
            + size
            + _attribute(_IFLA_LINKINFO, info),
            f"add veth {name}",
        )
        link = self.link(name)
        if link is not None:
            self.set_up(link.index)

    def set_up(self, index: int) -> None:
        """Brings an interface up."""
        self._talk(
            _RTM_NEWLINK, _NLM_F_ACK, _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP), "bring a link up"
        )

    def delete_link(self, name: str) -> bool:
        """Deletes an interface; of a veth pair, both ends.

        Returns:
            False when there was none of that name.
        """
        request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _name(name))
        try:
            self._talk(_RTM_DELLINK, _NLM_F_ACK, request, f"delete link {name}")
        except NotFound:
            return False
        return True

    def add_address(self, index: int, address: IPv4Interface) -> None:
        """Gives an interface an address.

        Raises:
            Conflict: it has it already.
        """
        packed = address.ip.packed
        self._talk(
            _RTM_NEWADDR,
            _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL,
            _IFADDRMSG.pack(socket.AF_INET, address.network.prefixlen, 0, 0, index)
            + _attribute(_IFA_LOCAL, packed)
            + _attribute(_IFA_ADDRESS, packed)
            + _attribute(_IFA_BROADCAST, address.network.broadcast_address.packed),
            f"add address {address}",
        )

    def add_default_route(self, gateway: IPv4Address, index: int) -> None:
        """Sends all that has no route of its own to a gateway."""
        self._talk(
            _RTM_NEWROUTE,
            _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL,
            _RTMSG.pack(socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, _RTN_UNICAST, 0)
            + _attribute(_RTA_GATEWAY, gateway.packed)
            + _attribute(_RTA_OIF, struct.pack("=i", index)),
            f"add default route by {gateway}",
        )

    def networks(self) -> tuple[IPv4Network, ...]:
        """Returns every IPv4 network that this namespace has an address in or a route to, but the default route."""
        found: list[IPv4Network] = []
        request = _IFADDRMSG.pack(socket.AF_INET, 0, 0, 0, 0)
        for kind, body in self._talk(_RTM_GETADDR, _NLM_F_DUMP, request, "list addresses"):
            if kind == _RTM_NEWADDR:
                _, prefix, _, _, _ = _IFADDRMSG.unpack_from(body)
                attributes = dict(_attributes(body[_IFADDRMSG.size :]))
                packed = attributes.get(_IFA_ADDRESS) or attributes.get(_IFA_LOCAL)
                if packed:
                    found.append(IPv4Network((packed, prefix), strict=False))
        request = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for kind, body in self._talk(_RTM_GETROUTE, _NLM_F_DUMP, request, "list routes"):
            if kind == _RTM_NEWROUTE:
                _, prefix, *_ = _RTMSG.unpack_from(body)
                packed = dict(_attributes(body[_RTMSG.size :])).get(_RTA_DST)
                if prefix and packed:
                    found.append(IPv4Network((packed, prefix), strict=False))
        return tuple(found)

    def default_mtu(self) -> int:
        """Returns the MTU of the interface that the default route goes out by; Ethernet's 1500 without one."""
        request = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        for kind, body in self._talk(_RTM_GETROUTE, _NLM_F_DUMP, request, "list routes"):
            attributes = dict(_attributes(body[_RTMSG.size :]))
            if kind == _RTM_NEWROUTE and body[1] == 0 and _RTA_OIF in attributes:
                out = _number(attributes[_RTA_OIF])
                return next((link.mtu for link in self.links() if link.index == out), ETHERNET_MTU)
        return ETHERNET_MTU

    def _new_link(self, attributes: bytes, what: str) -> None:
        self._talk(
            _RTM_NEWLINK,
            _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL,
            _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attributes,
            what,
        )

    def _talk(self, kind: int, flags: int, body: bytes, what: str) -> list[tuple[int, bytes]]:
        """Sends one request and returns the messages of its answer."""
        self._sequence += 1
        sequence = self._sequence
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | _NLM_F_REQUEST, sequence, 0)
        self._socket.send(header + body)
        replies: list[tuple[int, bytes]] = []
        while True:
            for number, reply_kind, payload in _messages(self._socket.recv(MAX_REPLY_BYTES)):
                if number != sequence:
                    continue  # what is left of an answer that an error cut short
                if reply_kind == _NLMSG_DONE:
                    return replies
                if reply_kind == _NLMSG_ERROR:
                    code = -int(struct.unpack_from("=i", payload)[0])
                    if code:
                        raise _error(code, what)
                    return replies
                replies.append((reply_kind, payload))
                if not flags & (_NLM_F_DUMP | _NLM_F_ACK):
                    return replies


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def _error(code: int, what: str) -> WherryError:
    reason = f"cannot {what}: {os.strerror(code)}"
    if code in (errno.ENODEV, errno.ENXIO):
        return NotFound(reason)
    if code == errno.EEXIST:
        return Conflict(reason)
    if code in (errno.EPERM, errno.EACCES):
        return NotPermitted(reason, hint="CAP_NET_ADMIN is needed")
    if code in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        return Unsupported(reason, hint="the kernel lacks bridge or veth; see `wherry doctor`")
    return WherryError(reason)


def _name(name: str) -> bytes:
    data = os.fsencode(name)
    if not 0 < len(data) < IFNAMSIZ:
        raise ValueError(f"an interface's name has 1 to {IFNAMSIZ - 1} bytes: {name!r}")
    return data + b"\0"


def _attribute(kind: int, data: bytes) -> bytes:
    size = _RTATTR.size + len(data)
    return _RTATTR.pack(size, kind) + data + bytes(-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _RTATTR.size:
        size, kind = _RTATTR.unpack_from(data)
        if size < _RTATTR.size or size > len(data):
            return
        yield kind & 0x3FFF, data[_RTATTR.size : size]  # the two upper bits are flags
        data = data[size + -size % 4 :]


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(data) >= _HEADER.size:
        size, kind, _, sequence, _ = _HEADER.unpack_from(data)
        if size < _HEADER.size or size > len(data):
            return
        yield sequence, kind, data[_HEADER.size : size]
        data = data[size + -size % 4 :]


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    attributes = dict(_attributes(body[_IFINFOMSG.size :]))
    info = dict(_attributes(attributes.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=os.fsdecode(attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0")),
        up=bool(flags & _IFF_UP),
        mtu=_number(attributes.get(_IFLA_MTU)),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        master=_number(attributes.get(_IFLA_MASTER)),
    )


def _number(data: bytes | None) -> int:
    return int(struct.unpack("=I", data)[0]) if data else 0
