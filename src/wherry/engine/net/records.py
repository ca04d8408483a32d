"""Networks and leases as values; both are kept as JSON (`spec.values`)."""

from __future__ import annotations

from wherry.core.value import EMPTY, Value
from wherry.spec.container import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Lease(Value):
    """What one container holds of one network."""

    network: str = ""
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    interface: str = "eth0"
    """Its name in the container."""
    link: str = ""
    """The name of the host's end; "" when there is none."""
    names: tuple[str, ...] = ()
    """What others find it by; the first is the container's name."""
    hostname: str = ""
    hosts: tuple[str, ...] = ()
    """Further lines of the container's ``/etc/hosts``."""
    ports: tuple[PortMapping, ...] = ()
    default_route: bool = True
    default_route6: bool = True


class Definition(Value):
    """A network as it was asked for: ``<root>/networks/<name>.json``."""

    name: str = ""
    id: str = ""
    driver: str = "bridge"
    number: int = 0
    """Tells its interfaces from those of the root's other networks; 0 is the default network."""
    bridge: str = ""
    """The name of the bridge's interface."""
    subnet: str = ""
    """"" for the default network: chosen when it is made."""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    mtu: int = 0
    """0 takes that of the interface with the default route."""
    parent: str = ""
    """The host's interface that a macvlan stands on."""
    mode: str = ""
    """Of the macvlan."""
    labels: Mapping[str, str] = EMPTY
    created_s: int = 0


class Live(Value):
    """A network that containers are on: ``<run>/networks/<name>.json``."""

    name: str = ""
    table: str = ""
    """Of its nftables rules."""
    number: int = 0
    driver: str = "bridge"
    bridge: str = ""
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    mtu: int = 1500
    parent: str = ""
    mode: str = ""
    exceptions: bool = False
    """Whether rules were put into iptables' FORWARD chains."""
    leases: Mapping[str, Lease] = EMPTY
    """Container id -> lease."""


class Joined(Value):
    """What a container holds: a lease for each of its networks, in the order in which they were asked for."""

    leases: tuple[Lease, ...] = ()
    ports: tuple[PortMapping, ...] = ()

    @property
    def ip(self) -> str:
        """The address on the first network that has one."""
        return next((lease.ip for lease in self.leases if lease.ip), "")
