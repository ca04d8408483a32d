"""The nftables rules of one engine root, as text: one table of its own, replaced as a whole in one transaction.

What the table does: containers reach the world by masquerade; published ports are rewritten to their container,
for packets from outside (prerouting) and for the host's own (output), which is how ``127.0.0.1:PORT`` works;
nobody outside reaches a container by its own address; no container reaches the host's 127.0.0.0/8, which
``route_localnet`` on the bridge would else allow (CVE-2020-8558).

This module makes text and decides nothing about the machine; ``network.py`` hands it to ``nft -f -``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from wherry.core.errors import Unsupported
from wherry.spec.container import PortMapping

MARK = "wherry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One published port and the container that it leads to."""

    port: PortMapping
    ip: str


def table_name(bridge: str) -> str:
    """Returns the name of the table that belongs to a bridge."""
    return f"wherry-{bridge.removeprefix('wh-')}"


def table(bridge: str, subnet: IPv4Network, publications: Iterable[Publication]) -> str:
    """Returns the nft script that makes or replaces the table.

    Args:
        bridge: the bridge's name.
        subnet: of the containers.
        publications: all of them, not only new ones.
    """
    outside, local = [], []
    for item in publications:
        target = f"{item.port.protocol} dport {item.port.host_port} dnat to {item.ip}:{item.port.container_port}"
        address = _address(item.port.host_ip)
        where = "fib daddr type local" if address.is_unspecified else f"ip daddr {address}"
        if not address.is_loopback:
            outside.append(f"    {where} {target}")
        local.append(f"    {where} {target}")
    name = table_name(bridge)
    lines = [
        f"table ip {name}",
        f"delete table ip {name}",
        f"table ip {name} {{",
        "  chain guard {",
        "    type filter hook prerouting priority raw; policy accept;",
        f'    iifname "{bridge}" ip daddr 127.0.0.0/8 drop',
        "  }",
        "  chain prerouting {",
        "    type nat hook prerouting priority dstnat; policy accept;",
        *outside,
        "  }",
        "  chain output {",
        "    type nat hook output priority -100; policy accept;",
        *local,
        "  }",
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        f'    ip saddr {subnet} oifname != "{bridge}" masquerade',
        f'    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade',
        f'    ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade',
        "  }",
        # a container that reaches another by a published port would be told to go to it directly, and then get lost
        "  chain redirects {",
        "    type filter hook output priority filter; policy accept;",
        f'    oifname "{bridge}" icmp type redirect drop',
        "  }",
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        f'    iifname "{bridge}" accept',
        f'    oifname "{bridge}" ct state established,related accept',
        f'    oifname "{bridge}" ct status dnat accept',
        f'    oifname "{bridge}" drop',
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def table_removal(bridge: str) -> str:
    """Returns the nft script that removes the table, whether it is there or not."""
    name = table_name(bridge)
    return f"table ip {name}\ndelete table ip {name}\n"


def forward_exceptions(bridge: str) -> str:
    """Returns the script that lets the bridge through the ``FORWARD`` chain of iptables (nft flavour).

    An accept in one table does not help against a drop in another, and docker sets that chain's policy to drop.
    """
    return (
        f'insert rule ip filter FORWARD iifname "{bridge}" counter accept comment "{MARK} {bridge}"\n'
        f'insert rule ip filter FORWARD oifname "{bridge}" counter accept comment "{MARK} {bridge}"\n'
    )


def forward_drops(listing: str) -> bool:
    """Tells from ``nft -a list chain ip filter FORWARD`` whether packets would be dropped at its end."""
    return "policy drop" in listing


def exception_removal(bridge: str, listing: str) -> str:
    """Returns the script that takes the exceptions out again, from the chain's listing with handles."""
    lines = []
    for line in listing.splitlines():
        rule, _, handle = line.rpartition("# handle ")
        if f'"{bridge}"' in rule and handle.strip().isdigit():
            lines.append(f"delete rule ip filter FORWARD handle {handle.strip()}")
    return "\n".join(lines) + "\n" if lines else ""


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text or "0.0.0.0")  # noqa: S104 docker's default for a published port
    except ValueError:
        raise Unsupported(f"cannot publish a port on {text!r}", hint="give an IPv4 address of this machine") from None


def host_address(text: str) -> str:
    """Returns the address that a port is published on, checked.

    Raises:
        Unsupported: it is not an IPv4 address.
    """
    return str(_address(text))
