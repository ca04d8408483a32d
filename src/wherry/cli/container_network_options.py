"""What people write after docker's flags of networks, and the values that it means; pure."""

from __future__ import annotations

from wherry.core.errors import InvalidInput, UsageError
from wherry.core.value import replace
from wherry.engine.net.request import (
    BRIDGE,
    CONTAINER,
    HOST,
    HOST_GATEWAY,
    INTERFACE,
    NAMESPACE,
    NONE,
    USERSPACE,
    DnsSettings,
    NetworkAttachment,
    exposed,
)
from wherry.spec.container import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

EVERYWHERE = "0.0.0.0"  # noqa: S104 docker's default for a published port
RAW = "raw,"
_KEYS = {"alias": "aliases", "ip": "ip", "ip6": "ip6", "mac": "mac", "mac-address": "mac"}


def parse_publish(text: str) -> tuple[PortMapping, ...]:
    """Returns what ``-p [[IP:]HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]`` means.

    Raises:
        UsageError: it is not of that form, or its ranges differ in length.
    """
    head, _, protocol = text.partition("/")
    rest, _, container = head.rpartition(":")
    address, colon, host = rest.rpartition(":")
    try:
        inside = exposed(f"{container}/{protocol}" if protocol else container)
        outside = _host_ports(host, len(inside))
        ip = _host_address(address, colon)
    except InvalidInput as error:
        raise UsageError(f"-p: {error.what}: {text!r}", hint=error.hint or "write it as 8080:80 or 80/udp") from None
    return tuple(replace(port, host_port=number, host_ip=ip) for port, number in zip(inside, outside, strict=True))


def _host_ports(text: str, count: int) -> list[int]:
    if not text or text == "0":
        return [0] * count
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
        raise InvalidInput("not a port of the host")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 65536:
        raise InvalidInput("not a port of the host", hint="ports are 1 to 65535")
    if high - low + 1 != count:
        raise InvalidInput("the ranges of the host and the container differ in length")
    return list(range(low, high + 1))


def _host_address(text: str, colon: str) -> str:
    if not colon or not text:
        return EVERYWHERE
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    elif ":" in text:
        raise InvalidInput("an IPv6 address stands in brackets", hint="write it as [::1]:8080:80")
    from wherry.engine.net.subnets import parse_address, show

    return show(parse_address(text, what="an address of the host"))


def parse_network(text: str) -> tuple[str, NetworkAttachment | None]:
    """Returns what ``--network`` means: the mode, and the network with the mode ``bridge``.

    Understood are docker's ``NAME`` and ``name=NAME,alias=...,ip=...``, podman's ``NAME:alias=...,ip=...``, ``bridge``,
    ``none``, ``host``, ``slirp4netns``, ``container:NAME``, ``ns:PATH``, and ``interface:IF``, which MINCS writes
    ``raw,IF``.

    Raises:
        UsageError: a key is unknown.
    """
    if text in (NONE, HOST, USERSPACE) or text.startswith((CONTAINER, NAMESPACE)):
        return text, None
    if text.startswith((RAW, INTERFACE)):
        name = text.removeprefix(RAW).removeprefix(INTERFACE)
        if not name:
            raise UsageError(f"--network: no interface in {text!r}", hint="write it as interface:eth1")
        return BRIDGE, NetworkAttachment(network=f"{INTERFACE}{name}")
    if "=" in text.split(",")[0] and ":" not in text.split("=")[0]:
        items = text.split(",")
    else:
        head, _, tail = text.partition(":")
        items = [f"name={head}", *filter(None, tail.split(","))]
    values: dict[str, str] = {}
    aliases: list[str] = []
    name = ""
    for item in items:
        key, _, value = item.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            aliases.append(value)
        elif key in _KEYS:
            values[_KEYS[key]] = value
        else:
            raise UsageError(f"--network: key {key!r} is not supported", hint="known are name, alias, ip, ip6 and mac")
    if not name:
        raise UsageError(f"--network: no network in {text!r}", hint="write it as NAME or name=NAME,alias=...")
    name = BRIDGE if name == "default" else name
    return BRIDGE, NetworkAttachment(network=name, aliases=tuple(aliases), **values)


def parse_add_host(text: str) -> str:
    """Returns the line of ``/etc/hosts`` that ``--add-host NAME:IP`` means; ``NAME=IP`` is the same.

    Raises:
        UsageError: it is not of that form.
    """
    equals, colon = text.find("="), text.find(":")
    separator = "=" if equals >= 0 and (colon < 0 or equals < colon) else ":"
    name, _, address = text.partition(separator)
    address = address.strip("[]")
    if not name or not address or any(c.isspace() for c in name):
        raise UsageError(f"--add-host: not a host: {text!r}", hint="write it as NAME:192.0.2.1 or NAME:host-gateway")
    if address != HOST_GATEWAY:
        from wherry.engine.net.subnets import parse_address, show

        try:
            address = show(parse_address(address))
        except InvalidInput as error:
            raise UsageError(f"--add-host: {error.what}", hint=error.hint) from None
    return f"{address}\t{name}"


def network_request(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a ``ContainerSpec`` that the flags of networks make.

    Args:
        given: the flags by their keys (``container_flags``).

    Raises:
        UsageError: a flag is malformed, or two contradict each other.
    """
    found = [parse_network(text) for text in given["network"]]
    modes = list(dict.fromkeys(mode for mode, _ in found)) or [BRIDGE]
    if len(modes) > 1 or (modes != [BRIDGE] and len(found) > 1):
        raise UsageError(f"--network: {' and '.join(modes)} do not go together", hint="name bridges alone, or one mode")
    networks = [item for _, item in found if item is not None]
    first = {key: given[flag] for key, flag in (("ip", "ip"), ("ip6", "ip6"), ("mac", "mac_address")) if given[flag]}
    if first:
        if modes != [BRIDGE]:
            raise UsageError(f"an address cannot be given with --network {modes[0]}")
        networks = [replace(networks[0] if networks else NetworkAttachment(network=BRIDGE), **first), *networks[1:]]
    return {
        "network": modes[0],
        "networks": tuple(networks),
        "aliases": tuple(given["network_alias"]),
        "ports": tuple(_all(parse_publish(text) for text in given["publish"])),
        "expose": tuple(given["expose"]),
        "publish_all": given["publish_all"],
        "dns": DnsSettings(
            servers=tuple(given["dns"]), search=tuple(given["dns_search"]), options=tuple(given["dns_option"])
        ),
        "add_hosts": tuple(map(parse_add_host, given["add_host"])),
    }


def _all(groups: Iterable[tuple[PortMapping, ...]]) -> Iterable[PortMapping]:
    return (port for group in groups for port in group)
