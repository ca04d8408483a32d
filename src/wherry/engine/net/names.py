"""Who finds whom by name: every container's ``/etc/hosts``, made of the leases of the networks that it is on."""

from __future__ import annotations

from wherry.engine import hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.net.records import Lease, Live

SHORT_ID = 12


def entries(container_id: str, lease: Lease) -> tuple[hosts.HostEntry, ...]:
    """Returns the lines by which a lease's container is found."""
    words = (lease.hostname, *lease.names, container_id[:SHORT_ID])
    return tuple(hosts.HostEntry(ip=ip, names=words) for ip in (lease.ip, lease.ip6) if ip)


def hosts_of(container_id: str, networks: Iterable[Live]) -> str:
    """Returns the ``/etc/hosts`` of a container.

    Args:
        container_id: whose.
        networks: all that there are.
    """
    own: list[hosts.HostEntry] = []
    others: list[hosts.HostEntry] = []
    further: tuple[str, ...] = ()
    for live in networks:
        lease = live.leases.get(container_id)
        if lease is None:
            continue
        own += entries(container_id, lease)
        further = further or lease.hosts
        for key, other in live.leases.items():
            if key != container_id:
                others += entries(key, other)
    return hosts.hosts_file(own, others, further)
