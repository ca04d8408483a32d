"""The flags of networks: what people write, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from wherry.cli import container_flags
from wherry.cli.container_network_options import network_request, parse_add_host, parse_network, parse_publish
from wherry.core.errors import UsageError
from wherry.engine.net.request import DnsSettings, NetworkAttachment
from wherry.spec.container import PortMapping


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", PortMapping(container_port=80)),
        ("8080:80", PortMapping(container_port=80, host_port=8080)),
        (":80", PortMapping(container_port=80)),
        ("127.0.0.1:8080:80/udp", PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1", protocol="udp")),
        ("127.0.0.1::80", PortMapping(container_port=80, host_ip="127.0.0.1")),
        ("[::1]:1:2", PortMapping(container_port=2, host_port=1, host_ip="::1")),
        ("[fd00:0::1]::2/TCP", PortMapping(container_port=2, host_ip="fd00::1")),
    ],
)
def test_ports(text: str, port: PortMapping) -> None:
    assert parse_publish(text) == (port,)


def test_ranges_of_ports() -> None:
    found = parse_publish("8000-8002:80-82/udp")
    assert [(item.host_port, item.container_port, item.protocol) for item in found] == [
        (8000, 80, "udp"),
        (8001, 81, "udp"),
        (8002, 82, "udp"),
    ]
    assert [item.host_port for item in parse_publish("80-81")] == [0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "80/sctp",
        "8000-8010:80",
        "1:2:3:4",
        "80:",
        "::1:1:2",
        "70000:1",
        "0-3:1-4",
        "9-8:1-2",
        "[::1]:1",
        "x:1:2",
    ],
)
def test_bad_ports(text: str) -> None:
    with pytest.raises(UsageError, match="-p"):
        parse_publish(text)


@pytest.mark.parametrize(
    ("text", "mode", "attachment"),
    [
        ("host", "host", None),
        ("none", "none", None),
        ("container:web", "container:web", None),
        ("ns:/run/netns/a", "ns:/run/netns/a", None),
        ("default", "bridge", NetworkAttachment(network="bridge")),
        ("back", "bridge", NetworkAttachment(network="back")),
        ("raw,eth1", "bridge", NetworkAttachment(network="interface:eth1")),
        ("interface:eth1", "bridge", NetworkAttachment(network="interface:eth1")),
        (
            "back:ip=10.0.0.9,alias=a,alias=b",
            "bridge",
            NetworkAttachment(network="back", ip="10.0.0.9", aliases=("a", "b")),
        ),
        ("back:ip6=fd00::9", "bridge", NetworkAttachment(network="back", ip6="fd00::9")),
        (
            "name=back,mac-address=02:00:00:00:00:01",
            "bridge",
            NetworkAttachment(network="back", mac="02:00:00:00:00:01"),
        ),
    ],
)
def test_networks(text: str, mode: str, attachment: NetworkAttachment | None) -> None:
    assert parse_network(text) == (mode, attachment)


@pytest.mark.parametrize("text", ["back:speed=1", "name=,ip=1", "raw,", "alias=x"])
def test_bad_networks(text: str) -> None:
    with pytest.raises(UsageError, match="--network"):
        parse_network(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("far:192.0.2.1", "192.0.2.1\tfar"),
        ("far=192.0.2.1", "192.0.2.1\tfar"),
        ("far:fd00::1", "fd00::1\tfar"),
        ("far:[fd00::1]", "fd00::1\tfar"),
        ("here:host-gateway", "host-gateway\there"),
    ],
)
def test_add_host(text: str, line: str) -> None:
    assert parse_add_host(text) == line


@pytest.mark.parametrize("text", ["far", "far:", ":192.0.2.1", "far:x", "a b:192.0.2.1"])
def test_bad_add_host(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        parse_add_host(text)


def request(**given: Any) -> dict[str, Any]:
    return network_request({**container_flags.defaults(), **given})


def test_request() -> None:
    found = request(network=("a", "b"), ip="10.0.0.9", dns=("1.1.1.1",), publish=("1-2:1-2", "9"), publish_all=True)
    assert found["networks"] == (NetworkAttachment(network="a", ip="10.0.0.9"), NetworkAttachment(network="b"))
    assert found["dns"] == DnsSettings(servers=("1.1.1.1",))
    assert len(found["ports"]) == 3
    assert request()["networks"] == ()
    assert request(mac_address="02:00:00:00:00:01")["networks"][0].network == "bridge"


@pytest.mark.parametrize(
    "given",
    [{"network": ("host", "a")}, {"network": ("none", "none", "host")}, {"network": ("host",), "ip": "10.0.0.1"}],
)
def test_contradictions(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        request(**given)
