"""Published ports, reserved: a port that anything on the host listens on is refused, by name of its holder.

Who keeps a container holds sockets bound to each of its published ports for as long as it lives, though no packet
ever reaches them (the rules rewrite them before). A port without an address, or on 0.0.0.0, is published on every
address of both families. So the kernel itself decides who has the port, between containers,
engine roots and foreign programs alike, and a program that comes later gets EADDRINUSE and not a silent theft.
"""

from __future__ import annotations

import errno
import os
import socket

from wherry.core.errors import Conflict, InvalidInput, NotPermitted, Unsupported, WherryError
from wherry.core.value import replace
from wherry.engine.net.subnets import parse_address, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.spec.container import PortMapping

EVERYWHERE = "0.0.0.0"  # noqa: S104 docker's word for all addresses
EPHEMERAL_TRIES = 16

_TCP_LISTEN = 0x0A
_UDP_UNCONNECTED = 0x07


class Reservation:
    """Ports that are held until ``close``."""

    def __init__(self, ports: tuple[PortMapping, ...], sockets: tuple[socket.socket, ...]) -> None:
        self.ports = ports
        """As asked for, with the real number where any free port was asked for."""
        self._sockets = sockets

    @property
    def fds(self) -> tuple[int, ...]:
        """What holds the ports; a duplicate in another process holds them too."""
        return tuple(item.fileno() for item in self._sockets)

    def close(self) -> None:
        """Lets the ports go."""
        for item in self._sockets:
            item.close()


def reserve(
    ports: Sequence[PortMapping], published: Mapping[str, Sequence[PortMapping]], *, ipv6: bool = False
) -> Reservation:
    """Takes every port, or none.

    Args:
        ports: to be published.
        published: name of a container -> what it has published, for the message only.
        ipv6: whether ports on every address are published by IPv6, too.

    Raises:
        Conflict: a port is in use; names the port and who holds it.
        InvalidInput: the host has no such address.
    """
    taken: list[PortMapping] = []
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            found = _take(port, published, ipv6=ipv6)
            sockets += found
            taken.append(replace(port, host_port=found[0].getsockname()[1]))
    except BaseException:
        for item in sockets:
            item.close()
        raise
    return Reservation(tuple(taken), tuple(sockets))


def _take(port: PortMapping, published: Mapping[str, Sequence[PortMapping]], *, ipv6: bool) -> list[socket.socket]:
    address = host_address(port.host_ip)
    if address != EVERYWHERE:
        return [_bind(port, address, published)]
    for _ in range(EPHEMERAL_TRIES):
        first = _bind(port, EVERYWHERE, published)
        if not ipv6:
            return [first]
        number = first.getsockname()[1]
        try:
            return [first, _bind(replace(port, host_port=number), "::", published)]
        except Conflict:
            first.close()
            if port.host_port:
                raise
        except BaseException:
            first.close()
            raise
    raise Conflict("no port is free by IPv4 and IPv6 alike", hint="publish a certain one")


def host_address(text: str) -> str:
    """Returns the address that a port is published on, checked; `EVERYWHERE` without one.

    Raises:
        InvalidInput: it is none.
        Unsupported: it is ``::1``.
    """
    address = show(parse_address(text, what="an address to publish a port on")) if text else EVERYWHERE
    if address == "::1":
        raise Unsupported("the kernel forwards nothing from ::1, so no port is published there", hint="use 127.0.0.1")
    return address


def _bind(port: PortMapping, address: str, published: Mapping[str, Sequence[PortMapping]]) -> socket.socket:
    tcp = port.protocol == "tcp"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    item = socket.socket(family, (socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            item.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if tcp:
            # connections of an earlier holder that are in TIME_WAIT do not matter; a listener does
            item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        item.bind((address, port.host_port))
        if tcp:
            item.listen(1)
    except OSError as error:
        item.close()
        name = f"port {port.host_port}/{port.protocol}"
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"{name} on {address} is in use by {_holder(port, published)}",
                hint="stop the holder, or publish another host port",
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(f"cannot publish {name}: this machine has no address {address}") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "low ports need root, or as root: sysctl net.ipv4.ip_unprivileged_port_start=PORT"
            raise NotPermitted(f"cannot publish {name}: {os.strerror(error.errno)}", hint=hint) from error
        raise WherryError(f"cannot publish {name}: {error.strerror}") from error
    return item


def _holder(port: PortMapping, published: Mapping[str, Sequence[PortMapping]]) -> str:
    for name, items in published.items():
        for item in items:
            if item.host_port == port.host_port and item.protocol == port.protocol:
                return f"container {name}"
    found = listener(port.host_port, port.protocol)
    return f"process {found[0]} ({found[1]})" if found else "another process"


def listener(port: int, protocol: str) -> tuple[int, str] | None:
    """Returns the process id and the name of who listens on a port of this machine; None when it cannot be told."""
    inodes: set[str] = set()
    state = _TCP_LISTEN if protocol == "tcp" else _UDP_UNCONNECTED
    for suffix in ("", "6"):
        try:
            with open(f"/proc/net/{protocol}{suffix}", encoding="ascii") as table:
                inodes |= listening_inodes(table.read(), port, state)
        except OSError:
            continue
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in wanted:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                        return int(pid), comm.read().strip()
        except OSError:
            continue  # it ended while we looked
    return None


def listening_inodes(table: str, port: int, state: int) -> set[str]:
    """Returns the inodes of the sockets on a port, from the text of ``/proc/net/tcp`` or a file like it (proc(5))."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and int(fields[1].rpartition(":")[2], 16) == port and int(fields[3], 16) == state:
            found.add(fields[9])
    return found
