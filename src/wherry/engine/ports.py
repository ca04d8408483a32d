"""Published ports, reserved: a port that anything on the host listens on is refused, by name of its holder.

The monitor keeps a socket bound to each published port for as long as the container lives, though no packet ever
reaches it (the rules rewrite them before). So the kernel itself decides who has the port, between containers,
engine roots and foreign programs alike, and a program that comes later gets EADDRINUSE and not a silent theft.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence

from wherry.core.errors import Conflict, InvalidInput, NotPermitted, WherryError
from wherry.engine.firewall import host_address
from wherry.spec.container import PortMapping

_TCP_LISTEN = 0x0A
_UDP_UNCONNECTED = 0x07


class Reservation:
    """Ports that are held until ``close``."""

    def __init__(self, ports: tuple[PortMapping, ...], sockets: tuple[socket.socket, ...]) -> None:
        self.ports = ports
        """As asked for, with the real number where any free port was asked for."""
        self._sockets = sockets

    def close(self) -> None:
        """Lets the ports go."""
        for item in self._sockets:
            item.close()


def reserve(ports: Sequence[PortMapping], published: Mapping[str, Sequence[PortMapping]]) -> Reservation:
    """Takes every port, or none.

    Args:
        ports: to be published.
        published: name of a container -> what it has published, for the message only.

    Raises:
        Conflict: a port is in use; names the port and who holds it.
        InvalidInput: the host has no such address.
    """
    taken: list[PortMapping] = []
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            item = _bind(port, published)
            sockets.append(item)
            number = item.getsockname()[1]
            taken.append(
                PortMapping(
                    container_port=port.container_port,
                    host_port=number,
                    host_ip=port.host_ip,
                    protocol=port.protocol,
                )
            )
    except BaseException:
        for item in sockets:
            item.close()
        raise
    return Reservation(tuple(taken), tuple(sockets))


def _bind(port: PortMapping, published: Mapping[str, Sequence[PortMapping]]) -> socket.socket:
    address = host_address(port.host_ip)
    tcp = port.protocol == "tcp"
    item = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
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
            raise NotPermitted(f"cannot publish {name}: {os.strerror(error.errno)}") from error
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
