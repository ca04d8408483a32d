"""The networks of one engine root, and how a container's life uses them.

::

    join ──▶ plug ──▶ (the container runs) ──▶ unplug ──▶ leave
              ▲                                  │
              └───────────── restart ────────────┘

`join` gives addresses and publishes ports; `plug` connects the network namespace of a process, once for every run, in
the process that keeps the container; `unplug` ends a run, while the namespace is still there or after; `leave` gives
everything back. `leave` may be called at any time and by any process, also for a container whose keeper was killed:
what a container holds is on disk under its id. A container without networks of its own (``none``) needs `plug` alone,
for its loopback; one with the host's or another's network needs nothing.

What was asked for lies in ``<root>/networks`` (net/registry.py), what the kernel has in ``<run>/networks``
(net/state.py) and can always be made again from that; a file there whose bridge is gone is from before a reboot.
"""

from __future__ import annotations

import os

from wherry.core import trace
from wherry.core.errors import Conflict, InvalidInput
from wherry.core.value import replace
from wherry.engine import hosts
from wherry.engine.net import bridge, leasing, names, plug, registry, request, subnets
from wherry.engine.net.records import Definition, Joined, Lease, Live
from wherry.engine.net.state import LiveNetworks, NetworkLock
from wherry.engine.net.subnets import parse_subnet, show
from wherry.linux import addresses, links
from wherry.linux.netlink import NetfilterSocket, RouteSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.engine.net.request import NetworkAttachment
    from wherry.engine.state import Paths
    from wherry.spec.container import PortMapping

_moved_in: dict[str, int] = {}
"""Container id -> its network namespace, kept open by its keeper while interfaces of the host are in it: the kernel
gives hardware back by itself, but removes what is virtual with the namespace."""
_removers: set[int] = set()
"""Children of this process that remove bridges."""


class Network:
    """The networks of one engine root."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._live = LiveNetworks(paths)

    # --- looking

    def live(self) -> list[Live]:
        """Returns every network that containers are on, or that is being removed."""
        return self._live.every()

    def published(self) -> dict[str, tuple[PortMapping, ...]]:
        """Returns what each container of this root publishes, by name."""
        return {
            lease.names[0]: lease.ports
            for live in self.live()
            for lease in live.leases.values()
            if lease.ports and lease.names
        }

    def leases_of(self, container_id: str) -> list[tuple[Live, Lease]]:
        """Returns what a container holds, in the order of its interfaces."""
        found = [(live, live.leases[container_id]) for live in self.live() if container_id in live.leases]
        return sorted(found, key=lambda item: (len(item[1].interface), item[1].interface))

    def publishes_ipv6(self, attachments: Sequence[NetworkAttachment]) -> bool:
        """Tells whether ports that are published on every address are reached by IPv6, too."""
        for item in attachments:
            definition = self._definition(item.network)
            if definition.driver == "bridge" and not definition.internal:
                return _has_ipv6(definition)
        return False

    def _definition(self, name: str) -> Definition:
        if name.startswith(request.INTERFACE):
            links.check_name(name.removeprefix(request.INTERFACE))
            return Definition(name=name, driver="interface")
        return registry.find(self._paths, name)

    # --- a container's life

    def join(
        self,
        container_id: str,
        *,
        attachments: Sequence[NetworkAttachment],
        names: tuple[str, ...],
        hostname: str = "",
        ports: tuple[PortMapping, ...] = (),
        add_hosts: tuple[str, ...] = (),
    ) -> Joined:
        """Gives a container its addresses and publishes its ports; makes what it is the first to need.

        Args:
            container_id: whose.
            attachments: the networks; none of them twice.
            names: the container's name, then further names to be found by on all of them.
            hostname: its host name.
            ports: reserved before (``ports.reserve``), with real numbers; published by the first bridge that has a
                way out.
            add_hosts: lines for its ``/etc/hosts``; the address ``host-gateway`` stands for the host's.

        Raises:
            NotFound: there is no such network.
            Conflict: an address is taken, or no subnet is free.
            NoSpace: no address is free.
            InvalidInput: an address is not of its network, or no network can publish the ports.
        """
        definitions = [self._definition(item.network) for item in attachments]
        if len({item.name for item in definitions}) < len(definitions):
            raise InvalidInput("a network is named twice")
        outlets = [item for item in definitions if item.driver == "bridge" and not item.internal]
        if ports and not outlets:
            raise InvalidInput(
                "ports cannot be published by the container's networks", hint="add a bridge that is not --internal"
            )
        routers = [item for item in definitions if not item.internal and item.driver != "interface"]
        interfaces = leasing.interface_names([item.name for item in definitions])
        leases: list[Lease] = []
        with NetworkLock(self._paths) as lock:
            try:
                for item, definition, interface in zip(attachments, definitions, interfaces, strict=True):
                    wanted = Lease(
                        network=definition.name,
                        mac=item.mac,
                        ip=item.ip,
                        ip6=item.ip6,
                        interface=interface,
                        names=(*names, *item.aliases),
                        hostname=hostname,
                        hosts=add_hosts,
                        ports=ports if outlets[:1] == [definition] else (),
                        default_route=routers[:1] == [definition],
                        default_route6=[item for item in routers if _has_ipv6(item)][:1] == [definition],
                    )
                    leases.append(self._join_one(container_id, definition, wanted))
                self._write_hosts({definition.name for definition in definitions})
            except BaseException:
                self._leave(container_id, lock)
                raise
        return Joined(leases=tuple(leases), ports=ports)

    def _join_one(self, container_id: str, definition: Definition, wanted: Lease) -> Lease:
        live = self._live.read(definition.name)
        fresh = live is None or not _stands(live)
        if live is None or fresh:
            live = self._fresh(definition)
        if live.driver == "interface" and live.leases.keys() - {container_id}:
            raise Conflict(f"the interface {wanted.interface} is in another container")
        lease = leasing.lease(container_id, live, wanted)
        live = replace(live, leases={**live.leases, container_id: lease})
        self._live.write(live)
        trace.reach("engine.network.leased")
        if live.driver != "bridge":
            return lease
        if fresh:
            if bridge.make(live):
                self._live.write(replace(live, exceptions=True))
        elif not bridge.repair(live) and lease.ports:
            bridge.publish(live, lease)
        return lease

    def _fresh(self, definition: Definition) -> Live:
        """Returns a network as it is about to be made; finds free addresses for the default one."""
        made = Live(
            name=definition.name,
            driver=definition.driver,
            number=definition.number,
            table=f"wherry-{self._paths.tag}" + (f"-{definition.number:03x}" if definition.number else ""),
            bridge=definition.bridge,
            subnet=definition.subnet,
            gateway=definition.gateway,
            ip_range=definition.ip_range,
            subnet6=definition.subnet6,
            gateway6=definition.gateway6,
            internal=definition.internal,
            parent=definition.parent,
            mode=definition.mode,
        )
        if definition.driver != "bridge":
            return made
        with RouteSocket() as route:
            made = replace(made, mtu=definition.mtu or addresses.default_mtu(route))
            if definition.subnet:
                return made
            taken = addresses.list_networks(route, 2)
        for item in registry.every(self._paths):
            if item.subnet:
                other = parse_subnet(item.subnet)
                taken.append((other.base, other.prefix))
        subnet = subnets.choose_subnet(self._paths.tag, taken)
        made = replace(made, subnet=str(subnet), gateway=show(subnet.address(1)))
        if bridge.has_ipv6():
            subnet6 = subnets.unique_local(self._paths.tag)
            made = replace(made, subnet6=str(subnet6), gateway6=show(subnet6.address(1)))
        return made

    def plug(self, container_id: str, pid: int) -> None:
        """Connects a container's network namespace to all that it joined; brings its loopback up in any case.

        Args:
            container_id: whose.
            pid: a process in the namespace.
        """
        joined = self.leases_of(container_id)
        netns_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if any(live.driver == "interface" for live, _ in joined):
                _moved_in[container_id] = os.dup(netns_fd)
            plug.plug(netns_fd, joined)
        finally:
            os.close(netns_fd)

    def unplug(self, container_id: str) -> None:
        """Ends a run: what is the host's moves back there. The rest goes with the container's namespace."""
        netns_fd = _moved_in.pop(container_id, None)
        if netns_fd is None:
            return
        try:
            for live, lease in self.leases_of(container_id):
                if live.driver == "interface":
                    plug.take_back(netns_fd, lease)
        finally:
            os.close(netns_fd)

    def leave(self, container_id: str) -> None:
        """Takes everything away that a container holds; bridges that it was the last on, too."""
        if not self.live():
            return
        self.unplug(container_id)
        with NetworkLock(self._paths) as lock:
            self._leave(container_id, lock)

    def _leave(self, container_id: str, lock: NetworkLock) -> None:
        held = [live for live in self.live() if container_id in live.leases or not live.leases]
        self._part(container_id, held, lock)
        self._write_hosts({live.name for live in held})

    def _part(self, container_id: str, held: Sequence[Live], lock: NetworkLock) -> None:
        """Takes a container off some networks, and removes those of them that nobody is on any more."""
        empty: list[Live] = []
        with NetfilterSocket() as netfilter:
            changed = False
            for live in held:
                lease = live.leases.get(container_id)
                if lease is not None:
                    others = {key: item for key, item in live.leases.items() if key != container_id}
                    live = replace(live, leases=others)
                    self._live.write(live)
                    if lease.link:
                        plug.cut_off((lease.link,))
                    if lease.ports and others:
                        bridge.unpublish(live, lease, netfilter)
                        changed = True
                if live.leases:
                    continue
                if live.driver == "bridge":
                    bridge.unmake(live, netfilter)
                    empty.append(live)
                else:
                    self._live.remove(live.name)
            if empty or changed:
                self._remove(empty, (lock.fd, netfilter.fileno()) if empty else (netfilter.fileno(),))

    def _remove(self, bridges: Sequence[Live], keep: tuple[int, ...]) -> None:
        """Waits for the kernel in a child: for what was taken out of the rules to go, and for bridges.

        Args:
            bridges: networks whose bridges are to go.
            keep: descriptors that the child is the last to close: of the lock, and of the socket for the rules.
        """
        for pid in tuple(_removers):
            try:
                ended = os.waitpid(pid, os.WNOHANG)[0]
            except ChildProcessError:
                ended = pid
            if ended:
                _removers.discard(pid)
        pid = os.fork()
        if pid:
            _removers.add(pid)
            return
        try:
            os.setsid()
            first = 0
            for fd in sorted(keep):
                os.closerange(first, fd)
                first = fd + 1
            os.closerange(first, os.sysconf("SC_OPEN_MAX"))
            bridge.remove_bridges(tuple(live.bridge for live in bridges))
            for live in bridges:
                self._live.remove(live.name)
        finally:
            os._exit(0)

    # --- while it runs

    def connect(
        self, container_id: str, pid: int, attachment: NetworkAttachment, *, names: tuple[str, ...], hostname: str
    ) -> Lease:
        """Puts a container that runs on one more network.

        Raises:
            Conflict: it is on it already.
            NotFound: there is no such network.
        """
        definition = self._definition(attachment.network)
        with NetworkLock(self._paths) as lock:
            held = self.leases_of(container_id)
            if any(live.name == definition.name for live, _ in held):
                raise Conflict(f"the container is on network {definition.name} already")
            taken = [lease.interface for _, lease in held]
            first = held[0][1] if held else Lease()
            outward = not definition.internal and definition.driver != "interface"
            wanted = Lease(
                network=definition.name,
                mac=attachment.mac,
                ip=attachment.ip,
                ip6=attachment.ip6,
                interface=leasing.interface_names([definition.name], taken)[0],
                names=(*names, *attachment.aliases),
                hostname=hostname,
                hosts=first.hosts,
                default_route=outward and not any(lease.default_route for _, lease in held),
                default_route6=outward and not any(lease.default_route6 for _, lease in held),
            )
            lease = self._join_one(container_id, definition, wanted)
            try:
                netns_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    live = self._live.read(definition.name)
                    if live is not None:
                        plug.plug(netns_fd, [(live, lease)])
                finally:
                    os.close(netns_fd)
            except BaseException:
                self._part(container_id, [live for live in self.live() if live.name == definition.name], lock)
                raise
            self._write_hosts({live.name for live, _ in held} | {definition.name})
        return lease

    def disconnect(self, container_id: str, pid: int | None, name: str) -> None:
        """Takes a container off a network.

        Args:
            container_id: whose.
            pid: a process in its namespace; None when it does not run.
            name: the network.

        Raises:
            Conflict: it is not on it.
        """
        with NetworkLock(self._paths) as lock:
            live = self._live.read(name)
            lease = live.leases.get(container_id) if live is not None else None
            if live is None or lease is None:
                raise Conflict(f"the container is not on network {name}")
            touched = {item.name for item, _ in self.leases_of(container_id)}
            if pid is not None:
                netns_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    (plug.take_back if live.driver == "interface" else plug.take_out)(netns_fd, lease)
                finally:
                    os.close(netns_fd)
            self._part(container_id, [live], lock)
            self._write_hosts(touched)

    # --- names

    def rename(self, container_id: str, old: str, new: str) -> None:
        """Has others find a container by its new name, and no longer by the old one."""
        with NetworkLock(self._paths):
            held = self.leases_of(container_id)
            for live, lease in held:
                known = tuple(dict.fromkeys((new, *(lease.names[1:] if lease.names[:1] == (old,) else lease.names))))
                self._live.write(replace(live, leases={**live.leases, container_id: replace(lease, names=known)}))
            self._write_hosts({live.name for live, _ in held})

    def _write_hosts(self, networks: set[str]) -> None:
        """Rewrites the ``/etc/hosts`` of everybody on some networks."""
        if not networks:
            return
        every = self.live()
        members = {key for live in every if live.name in networks for key in live.leases}
        for container_id in members:
            folder = f"{self._paths.run_dir(container_id)}/etc"
            try:
                hosts.write_in_place(f"{folder}/hosts", names.hosts_of(container_id, every))
            except (FileNotFoundError, NotADirectoryError):
                continue  # it is not being started any more


def _has_ipv6(definition: Definition) -> bool:
    return bridge.has_ipv6() if definition.name == registry.DEFAULT else bool(definition.subnet6)


def _stands(live: Live) -> bool:
    """Tells whether the kernel still has what a network's file says; a reboot, or a person, may have taken it."""
    if live.driver != "bridge":
        return True
    if not live.leases:
        return False
    with RouteSocket() as route:
        return links.look_up(route, live.bridge) is not None
