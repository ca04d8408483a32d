"""The bridge network of one engine root: made with its first container, gone with its last.

::

    <run>/network.lock     guards all below, and every change of bridge and table
    <run>/network.json     NetworkState: bridge, subnet, leases; replaced in one step

A lease is an address, the names that lead to it, and its published ports. The kernel's side of a lease (veth pair,
rules) can always be rebuilt from it; a state whose bridge is gone is from before a reboot and is thrown away.
``ip_forward`` is turned on with the first bridge; it is turned off again with the last one if it was off before
and no other bridge of Wherry is there. IPv6 is not set up: containers have IPv4 and a loopback of both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from wherry.core import jsonio, trace
from wherry.core.errors import Conflict, InvalidInput, NoSpace, NotPermitted
from wherry.core.lock import file_lock
from wherry.core.proc import run
from wherry.engine import firewall, hosts
from wherry.engine.state import LOCK_TIMEOUT_S, MAX_STATE_BYTES, Paths, write_lazily
from wherry.linux.netlink import RouteSocket
from wherry.spec.codec import decode, encode
from wherry.spec.container import PortMapping

POOL = IPv4Network("10.208.0.0/12")
"""Where the /24 networks of engine roots come from: private (RFC 1918), and apart from docker's and podman's."""
PREFIX = 24
NFT_TIMEOUT_S = 30.0
_NFT_HINT = "install nftables, or run with --network none or host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What one container holds of the network."""

    ip: str
    names: tuple[str, ...]
    """The first is the container's name."""
    hostname: str = ""
    ports: tuple[PortMapping, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkState:
    """The bridge and who is on it."""

    bridge: str
    subnet: str
    mtu: int = 1500
    ip_forward_was_off: bool = False
    forward_exceptions: bool = False
    """Whether rules were put into iptables' FORWARD chain."""
    leases: Mapping[str, Lease] = field(default_factory=dict)
    """Container id -> lease."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> IPv4Network:
        """The subnet as a value."""
        return IPv4Network(self.subnet)

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's own address."""
        return self.network[1]


def choose_subnet(tag: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """Returns a /24 of the pool that overlaps with nothing that is there.

    Args:
        tag: hex digits; where the search begins, so that two engine roots seldom meet and one stays where it was.
        taken: networks of the host's addresses and routes.

    Raises:
        Conflict: none is free.
    """
    used = [network for network in taken if network.prefixlen > 0 and network.overlaps(POOL)]
    count = 1 << (PREFIX - POOL.prefixlen)
    base = int(POOL.network_address)
    start = int(tag, 16) % count
    for step in range(count):
        candidate = IPv4Network((base + ((start + step) % count << (32 - PREFIX)), PREFIX))
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise Conflict(f"every network of {POOL} is in use on this machine", hint="use --network host or none")


def free_address(state: NetworkState) -> str:
    """Returns the lowest address that nobody has.

    Raises:
        NoSpace: the subnet is full.
    """
    taken = {lease.ip for lease in state.leases.values()}
    for address in list(state.network.hosts())[1:]:
        if str(address) not in taken:
            return str(address)
    raise NoSpace(f"the network {state.subnet} has no free address", hint="remove containers that are not needed")


def mac_of(ip: str) -> bytes:
    """Returns a locally administered MAC address made of an IPv4 address, as docker does."""
    return b"\x02\x42" + IPv4Address(ip).packed


def veth_name(container_id: str) -> str:
    """Returns the name of the host's end of a container's veth pair."""
    return f"whv{container_id[:11]}"


class Network:
    """The bridge network of one engine root."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._file = paths.run / "network.json"
        self.bridge = f"wh-{paths.tag}"

    def state(self) -> NetworkState | None:
        """Returns the network as it is recorded; None when there is none."""
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode(
                NetworkState, jsonio.loads(data, where=self._file, max_bytes=MAX_STATE_BYTES), where=self._file
            )
        except InvalidInput:
            return None  # half a file after a power cut: the bridge is gone as well

    def published(self) -> dict[str, tuple[PortMapping, ...]]:
        """Returns what each container of this root publishes, by name."""
        state = self.state()
        return {lease.names[0]: lease.ports for lease in state.leases.values()} if state else {}

    def join(
        self, container_id: str, *, names: tuple[str, ...], hostname: str, ports: tuple[PortMapping, ...]
    ) -> tuple[NetworkState, Lease]:
        """Gives a container an address and publishes its ports; makes the bridge when it is the first.

        Args:
            container_id: whose.
            names: the container's name, then further names to be found by.
            hostname: its host name.
            ports: reserved before (``ports.reserve``), with real numbers.

        Raises:
            Conflict: no subnet is free.
            NoSpace: no address is free.
        """
        with self._lock(), RouteSocket() as route:
            state = self.state()
            if state is None or route.link(self.bridge) is None:
                state = self._make(route)
                new = True
            else:
                new = False
            lease = Lease(ip=free_address(state), names=names, hostname=hostname, ports=ports)
            state = replace(state, leases={**state.leases, container_id: lease})
            self._write(state)
            trace.reach("engine.network.leased")
            if new or ports:
                self._apply(state)
            self._write_hosts(state)
            return state, lease

    def plug(self, container_id: str, pid: int, state: NetworkState, lease: Lease) -> None:
        """Connects a container's network namespace to the bridge; its loopback is brought up too.

        Args:
            container_id: whose.
            pid: a process in the namespace.
            state: from ``join``.
            lease: from ``join``.
        """
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with RouteSocket() as here, RouteSocket(netns) as there:
                bridge = here.link(state.bridge)
                if bridge is None:
                    raise Conflict(f"the bridge {state.bridge} was removed from outside", hint="start it again")
                here.delete_link(veth_name(container_id))
                here.add_veth(
                    veth_name(container_id),
                    master=bridge.index,
                    peer="eth0",
                    peer_netns_fd=netns,
                    peer_mac=mac_of(lease.ip),
                    mtu=state.mtu,
                )
                there.set_up(1)
                inside = there.link("eth0")
                if inside is None:
                    raise Conflict("the container's eth0 is gone already")
                there.add_address(inside.index, IPv4Interface(f"{lease.ip}/{PREFIX}"))
                there.set_up(inside.index)
                there.add_default_route(state.gateway, inside.index)
        finally:
            os.close(netns)

    def bring_loopback_up(self, pid: int) -> None:
        """Brings the loopback up in the network namespace of a process."""
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with RouteSocket(netns) as there:
                there.set_up(1)
        finally:
            os.close(netns)

    def unplug(self, container_id: str) -> None:
        """Removes a container's veth pair; nothing happens when it is gone."""
        with RouteSocket() as route:
            route.delete_link(veth_name(container_id))

    def leave(self, container_id: str) -> None:
        """Takes a container's lease, rules and veth pair away; bridge and table too when it was the last."""
        if self.state() is None:
            return
        with self._lock(), RouteSocket() as route:
            route.delete_link(veth_name(container_id))
            state = self.state()
            if state is None or container_id not in state.leases:
                return
            leases = {key: lease for key, lease in state.leases.items() if key != container_id}
            gone = state.leases[container_id]
            state = replace(state, leases=leases)
            if leases:
                self._write(state)
                if gone.ports:
                    self._apply(state)
                self._write_hosts(state)
            else:
                self._unmake(route, state)

    def _lock(self) -> Any:
        return file_lock(self._paths.run / "network.lock", timeout_s=LOCK_TIMEOUT_S, what="the network")

    def _write(self, state: NetworkState) -> None:
        write_lazily(self._file, jsonio.pretty(encode(state)).encode())

    def _make(self, route: RouteSocket) -> NetworkState:
        subnet = choose_subnet(self._paths.tag, route.networks())
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        was_off = forward.read_text().strip() == "0"
        old = self.state()
        state = NetworkState(
            bridge=self.bridge,
            subnet=str(subnet),
            mtu=route.default_mtu(),
            ip_forward_was_off=was_off or (old is not None and old.ip_forward_was_off),
        )
        self._write(state)
        route.add_bridge(self.bridge)
        try:
            link = route.link(self.bridge)
            if link is None:
                raise Conflict(f"the bridge {self.bridge} vanished while it was made")
            route.add_address(link.index, IPv4Interface(f"{state.gateway}/{PREFIX}"))
            _write_sysctl(Path(f"/proc/sys/net/ipv4/conf/{self.bridge}/route_localnet"), "1")
            if was_off:
                _write_sysctl(forward, "1")
            route.set_up(link.index)
            listing = self._forward_chain()
            if firewall.forward_drops(listing) and f'"{self.bridge}"' not in listing:
                self._nft(firewall.forward_exceptions(self.bridge))
                state = replace(state, forward_exceptions=True)
        except BaseException:
            self._unmake(route, state)
            raise
        return state

    def _unmake(self, route: RouteSocket, state: NetworkState) -> None:
        # what needs no program comes first: without nft there is no table either
        route.delete_link(self.bridge)
        if state.ip_forward_was_off and not any(link.name.startswith("wh-") for link in route.links()):
            _write_sysctl(Path("/proc/sys/net/ipv4/ip_forward"), "0")
        self._file.unlink(missing_ok=True)
        script = firewall.table_removal(self.bridge)
        if state.forward_exceptions:
            script += firewall.exception_removal(self.bridge, self._forward_chain())
        self._nft(script)

    def _apply(self, state: NetworkState) -> None:
        publications = [
            firewall.Publication(port=port, ip=lease.ip) for lease in state.leases.values() for port in lease.ports
        ]
        self._nft(firewall.table(self.bridge, state.network, publications))

    def _nft(self, script: str) -> None:
        run(["nft", "-f", "-"], stdin=script.encode(), timeout_s=NFT_TIMEOUT_S, hint=_NFT_HINT)

    def _forward_chain(self) -> str:
        done = run(
            ["nft", "-a", "list", "chain", "ip", "filter", "FORWARD"],
            timeout_s=NFT_TIMEOUT_S,
            check=False,
            hint=_NFT_HINT,
        )
        return done.stdout.decode(errors="replace") if done.returncode == 0 else ""

    def _write_hosts(self, state: NetworkState) -> None:
        entries = {key: _entry(lease) for key, lease in state.leases.items()}
        for container_id, own in entries.items():
            folder = self._paths.run_dir(container_id) / "etc"
            if folder.is_dir():
                others = [entry for key, entry in entries.items() if key != container_id]
                hosts.write_in_place(folder / "hosts", hosts.hosts_file(own, others))


def _entry(lease: Lease) -> hosts.HostEntry:
    return hosts.HostEntry(ip=lease.ip, names=(lease.hostname, *lease.names))


def _write_sysctl(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise NotPermitted(f"cannot set a network parameter: {os.strerror(error.errno or 0)}", where=path) from error
