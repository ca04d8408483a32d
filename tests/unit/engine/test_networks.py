"""The pure parts of networks: subnets, leases, names of interfaces, rules, what is asked for."""

from __future__ import annotations

import pytest

from wherry.core.errors import Conflict, InvalidInput, NoSpace
from wherry.core.value import replace
from wherry.engine.net import leasing, names, request, rules, subnets
from wherry.engine.net.records import Lease, Live
from wherry.engine.net.request import NetworkAttachment
from wherry.engine.net.subnets import POOL, Subnet, parse_address, parse_mac, parse_subnet, show
from wherry.engine.spec import ContainerSpec
from wherry.linux.links import IFNAMSIZ
from wherry.linux.netlink import Request, attributes
from wherry.spec.container import PortMapping
from wherry.spec.values import decode_value, encode

LIVE = Live(
    name="bridge",
    table="wherry-0000a1b2",
    bridge="wh-0000a1b2",
    subnet="10.208.1.0/24",
    gateway="10.208.1.1",
    subnet6="fd00:1::/64",
    gateway6="fd00:1::1",
)


def network(text: str) -> tuple[int, int]:
    subnet = parse_subnet(text)
    return subnet.base, subnet.prefix


def test_subnet_is_stable_and_free() -> None:
    first = subnets.choose_subnet("0000a1b2", [])
    assert first == subnets.choose_subnet("0000a1b2", [network("192.168.0.0/16"), network("0.0.0.0/0")])
    assert POOL.holds(first.address(0))
    assert first.prefix == 24
    for taken in ((first.base, 24), (first.base + 7, 32), (first.base >> 12 << 12, 20)):
        other = subnets.choose_subnet("0000a1b2", [taken])
        assert not other.overlaps(*taken)


def test_no_subnet_left() -> None:
    with pytest.raises(Conflict, match="in use"):
        subnets.choose_subnet("0", [network("10.0.0.0/8")])


def test_unique_local_networks_differ() -> None:
    found = {str(subnets.unique_local(tag, name)) for tag in ("aa", "bb") for name in ("", "x", "y")}
    assert len(found) == 6
    assert all(text.startswith("fd") and text.endswith("/64") for text in found)


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "x/8", "fd00::1/64", "10.0.0.0/-1", "1/1"])
def test_bad_subnets(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_subnet(text)


@pytest.mark.parametrize("text", ["", "02:42", "01:00:00:00:00:00", "00:00:00:00:00:00", "zz:42:0a:d0:00:02"])
def test_bad_mac_addresses(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_mac(text)


def test_leases_are_the_lowest_free_addresses() -> None:
    live = LIVE
    for offset in range(2, 255):
        lease = leasing.lease(f"{offset:064x}", live, Lease(names=("x",)))
        assert (lease.ip, lease.ip6) == (f"10.208.1.{offset}", f"fd00:1::{offset:x}")
        live = replace(live, leases={**live.leases, f"{offset:064x}": lease})
    with pytest.raises(NoSpace):
        leasing.lease("f" * 64, live, Lease())
    del live.leases[f"{9:064x}"]  # type: ignore[attr-defined]
    assert leasing.lease("f" * 64, live, Lease()).ip == "10.208.1.9"
    assert leasing.lease("f" * 64, live, Lease()).mac == "02:42:0a:d0:01:09"


def test_leases_of_what_is_asked_for() -> None:
    lease = leasing.lease("a" * 64, LIVE, Lease(ip="10.208.1.77", ip6="fd00:1::ab", mac="02:00:00:00:00:01"))
    assert (lease.ip, lease.ip6, lease.mac) == ("10.208.1.77", "fd00:1::ab", "02:00:00:00:00:01")
    live = replace(LIVE, leases={"a" * 64: lease})
    with pytest.raises(Conflict, match="taken"):
        leasing.lease("b" * 64, live, Lease(ip="10.208.1.77"))
    with pytest.raises(Conflict, match="taken"):
        leasing.lease("b" * 64, live, Lease(ip="10.208.1.1"))
    with pytest.raises(InvalidInput, match="not one of"):
        leasing.lease("b" * 64, live, Lease(ip="10.209.1.77"))
    # the place of a random IPv4 address may be somebody's in IPv6
    live = replace(LIVE, leases={"a" * 64: replace(lease, ip6="fd00:1::2")})
    assert leasing.lease("b" * 64, live, Lease()).ip6 == "fd00:1::3"
    with pytest.raises(InvalidInput, match="no IPv6"):
        leasing.lease("b" * 64, replace(LIVE, subnet6=""), Lease(ip6="fd00:1::2"))


def test_range_of_addresses() -> None:
    live = replace(LIVE, ip_range="10.208.1.128/31")
    lease = leasing.lease("a" * 64, live, Lease())
    assert lease.ip == "10.208.1.128"
    live = replace(live, leases={"a" * 64: lease, "b" * 64: replace(lease, ip="10.208.1.129")})
    with pytest.raises(NoSpace):
        leasing.lease("c" * 64, live, Lease())


def test_names_of_interfaces() -> None:
    assert leasing.interface_names(["a", "interface:eth0", "b"]) == ["eth1", "eth0", "eth2"]
    assert leasing.interface_names(["a"], taken=["eth0", "eth2"]) == ["eth1"]
    for number in (0, 1, 0xFFF):
        assert len(leasing.link_name("f" * 64, number)) < IFNAMSIZ


def test_a_network_survives_its_file() -> None:
    port = PortMapping(container_port=1, host_port=2)
    lease = leasing.lease("a" * 64, LIVE, Lease(names=("a", "b"), ports=(port,)))
    live = replace(LIVE, leases={"a" * 64: lease}, exceptions=True)
    assert decode_value(Live, encode(live)) == live


def test_hosts_of_shared_networks_only() -> None:
    def on(live: Live, *keys: str) -> Live:
        leases = {}
        for index, key in enumerate(keys):
            wanted = Lease(names=(f"name-{key[0]}",), hostname=key[:12], hosts=("192.0.2.1\tfar",))
            leases[key] = replace(leasing.lease(key, live, wanted), ip=f"{live.subnet[:-5]}.{index + 2}")
        return replace(live, leases=leases)

    one = on(LIVE, "a" * 64, "b" * 64)
    two = on(replace(LIVE, name="two", subnet="10.209.0.0/24", gateway="10.209.0.1", subnet6=""), "b" * 64, "c" * 64)
    text = names.hosts_of("a" * 64, [one, two])
    assert "name-b" in text
    assert "name-c" not in text
    assert text.endswith("192.0.2.1\tfar\n")
    both = names.hosts_of("b" * 64, [one, two])
    assert "name-a" in both
    assert "name-c" in both
    assert both.count("192.0.2.1") == 1
    assert f"fd00:1::2\t{'b' * 12} name-b\n" in both


def elements_of(requests: list[Request]) -> set[str]:
    """Returns the names of the maps that requests put elements into."""
    found = set()
    for item in requests:
        if item.what == "publish ports":
            found.add(dict(attributes(item.body[4:]))[2].rstrip(b"\0").decode())
    return found


@pytest.mark.parametrize(
    ("host_ip", "maps"),
    [
        ("", {"any4", "any6"}),
        ("0.0.0.0", {"any4", "any6"}),
        ("::", {"any6"}),
        ("127.0.0.1", {"ports4"}),
        ("::1", {"ports6"}),
    ],
)
def test_where_ports_are_published(host_ip: str, maps: set[str]) -> None:
    port = PortMapping(container_port=80, host_port=8080, host_ip=host_ip)
    lease = Lease(ip="10.208.1.2", ip6="fd00:1::2", ports=(port,))
    assert elements_of(rules.publish(LIVE, (lease,))) == maps
    assert elements_of(rules.table(replace(LIVE, leases={"a": lease}))) == maps


def test_ports_of_a_container_without_ipv6() -> None:
    lease = Lease(ip="10.208.1.2", ports=(PortMapping(container_port=80, host_port=8080),))
    assert elements_of(rules.publish(LIVE, (lease,))) == {"any4"}


def test_addresses_as_text() -> None:
    assert show(parse_address("fd00:0:0::1")) == "fd00::1"
    with pytest.raises(InvalidInput):
        parse_address("10.0.0")
    assert str(Subnet(bits=128, base=0xFD << 120, prefix=64)) == "fd00::/64"


def spec(**given: object) -> ContainerSpec:
    return ContainerSpec(image="x", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": "weird"}, "not a network"),
        ({"network": "container:"}, "not a network"),
        ({"network": "ns:relative"}, "absolute"),
        ({"network": "none", "ports": (PortMapping(container_port=1),)}, "cannot be published"),
        ({"network": "host", "publish_all": True}, "cannot be published"),
        ({"network": "host", "networks": (NetworkAttachment(network="a"),)}, "has no other"),
        ({"network": "container:x", "hostname": "y"}, "of the other container"),
        ({"networks": (NetworkAttachment(network="a", ip="fd00::1"),)}, "not an IPv4"),
        ({"networks": (NetworkAttachment(network="a", ip6="10.0.0.1"),)}, "not an IPv6"),
        ({"networks": (NetworkAttachment(network="interface:eth1", ip="10.0.0.1"),)}, "keeps its own"),
        ({"add_hosts": ("192.0.2.1 a\n0.0.0.0 b",)}, "not a line"),
        ({"dns": request.DnsSettings(servers=("example.org",))}, "name server"),
        ({"dns": request.DnsSettings(search=("a b",))}, "not a domain"),
        ({"expose": ("80/sctp",)}, "SCTP"),
        ({"expose": ("90-80",)}, "not a port"),
    ],
)
def test_refused_networks(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        request.check(spec(**given))


def test_ports_of_publish_all() -> None:
    asked = PortMapping(container_port=80, host_port=8080)
    given = spec(ports=(asked,), publish_all=True, expose=("9000-9001",))
    found = request.all_ports(given, ("80/tcp", "53/udp", "7/sctp"))
    assert [(port.container_port, port.protocol, port.host_port) for port in found] == [
        (80, "tcp", 8080),
        (53, "udp", 0),
        (9000, "tcp", 0),
        (9001, "tcp", 0),
    ]
    assert request.all_ports(spec(ports=(asked,)), ("53/udp",)) == (asked,)
