"""The pure parts of networking: subnets, addresses, rules, ports, name resolution files."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Network

import pytest

from wherry.core.errors import Conflict, InvalidInput, NoSpace, Unsupported
from wherry.engine import firewall, hosts
from wherry.engine.network import (
    POOL,
    PREFIX,
    Lease,
    NetworkState,
    choose_subnet,
    free_address,
    mac_of,
    veth_name,
)
from wherry.engine.ports import listening_inodes, reserve
from wherry.linux.netlink import IFNAMSIZ
from wherry.spec.codec import decode, encode
from wherry.spec.container import PortMapping


def test_subnet_is_stable_and_free() -> None:
    first = choose_subnet("0000a1b2", [])
    assert first == choose_subnet("0000a1b2", [IPv4Network("192.168.0.0/16"), IPv4Network("0.0.0.0/0")])
    assert first.subnet_of(POOL)
    assert first.prefixlen == PREFIX
    for taken in (first, IPv4Network((int(first.network_address) + 7, 32)), first.supernet(4)):
        other = choose_subnet("0000a1b2", [taken])
        assert not other.overlaps(taken)


def test_no_subnet_left() -> None:
    with pytest.raises(Conflict, match="in use"):
        choose_subnet("0", [IPv4Network("10.0.0.0/8")])


def test_addresses() -> None:
    state = NetworkState(bridge="b", subnet="10.208.1.0/24")
    assert str(state.gateway) == "10.208.1.1"
    assert free_address(state) == "10.208.1.2"
    leases = {str(n): Lease(ip=f"10.208.1.{n}", names=("x",)) for n in range(2, 255)}
    del leases["9"]
    assert free_address(NetworkState(bridge="b", subnet="10.208.1.0/24", leases=leases)) == "10.208.1.9"
    leases["9"] = Lease(ip="10.208.1.9", names=("x",))
    with pytest.raises(NoSpace):
        free_address(NetworkState(bridge="b", subnet="10.208.1.0/24", leases=leases))
    assert mac_of("10.208.1.2").hex() == "02420ad00102"
    assert len(veth_name("f" * 64)) < IFNAMSIZ


def test_state_survives_its_file() -> None:
    lease = Lease(ip="10.208.1.2", names=("a", "b"), ports=(PortMapping(container_port=1, host_port=2),))
    state = NetworkState(bridge="b", subnet="10.208.1.0/24", ip_forward_was_off=True, leases={"id": lease})
    assert decode(NetworkState, encode(state)) == state


def test_table() -> None:
    subnet = IPv4Network("10.208.1.0/24")
    publications = [
        firewall.Publication(port=PortMapping(container_port=80, host_port=8080), ip="10.208.1.2"),
        firewall.Publication(
            port=PortMapping(container_port=53, host_port=53, protocol="udp", host_ip="127.0.0.1"), ip="10.208.1.3"
        ),
        firewall.Publication(port=PortMapping(container_port=1, host_port=2, host_ip="192.0.2.1"), ip="10.208.1.3"),
    ]
    text = firewall.table("wh-0a", subnet, publications)
    assert text.startswith("table ip wherry-0a\ndelete table ip wherry-0a\n"), "replaced in one transaction"
    outside = text.partition("chain prerouting")[2].partition("}")[0]
    local = text.partition("chain output")[2].partition("}")[0]
    for part in (outside, local):
        assert "fib daddr type local tcp dport 8080 dnat to 10.208.1.2:80" in part
        assert "ip daddr 192.0.2.1 tcp dport 2 dnat to 10.208.1.3:1" in part
    assert "ip daddr 127.0.0.1 udp dport 53" in local
    assert "127.0.0.1" not in outside, "the loopback's ports are not for others"
    assert 'iifname "wh-0a" ip daddr 127.0.0.0/8 drop' in text


def test_only_ipv4_is_published() -> None:
    with pytest.raises(Unsupported, match="::1"):
        firewall.table(
            "wh-0a",
            IPv4Network("10.208.1.0/24"),
            [firewall.Publication(port=PortMapping(container_port=1, host_port=1, host_ip="::1"), ip="10.208.1.2")],
        )


def test_forward_exceptions_are_found_again() -> None:
    listing = """table ip filter {
	chain FORWARD { # handle 1
		type filter hook forward priority filter; policy drop;
		oifname "wh-0a" counter packets 0 bytes 0 accept comment "wherry wh-0a" # handle 9
		iifname "wh-0a" counter packets 0 bytes 0 accept comment "wherry wh-0a" # handle 8
		iifname "wh-0b" counter packets 0 bytes 0 accept comment "wherry wh-0b" # handle 7
	}
}
"""
    assert firewall.forward_drops(listing)
    assert firewall.exception_removal("wh-0a", listing) == (
        "delete rule ip filter FORWARD handle 9\ndelete rule ip filter FORWARD handle 8\n"
    )
    assert firewall.exception_removal("wh-0c", listing) == ""
    assert not firewall.forward_drops("")


def test_ports_are_held() -> None:
    port = PortMapping(container_port=80, host_ip="127.0.0.1")
    first = reserve([port], {})
    number = first.ports[0].host_port
    try:
        assert number
        taken = PortMapping(container_port=81, host_port=number, host_ip="127.0.0.1")
        with pytest.raises(Conflict, match=f"port {number}/tcp on 127.0.0.1 is in use by process {os.getpid()}"):
            reserve([taken], {})
        with pytest.raises(Conflict, match="in use by container web"):
            reserve([PortMapping(container_port=1), taken], {"web": [taken]})
        udp = reserve([PortMapping(container_port=1, host_port=number, host_ip="127.0.0.1", protocol="udp")], {})
        udp.close()
    finally:
        first.close()
    reserve([PortMapping(container_port=1, host_port=number, host_ip="127.0.0.1")], {}).close()


def test_ports_elsewhere() -> None:
    with pytest.raises(InvalidInput, match=r"no address 192\.0\.2\.250"):
        reserve([PortMapping(container_port=1, host_ip="192.0.2.250")], {})


def test_port_after_connections_in_time_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", number))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first, and so keeps the port in TIME_WAIT
        client.recv(1)
        client.close()
    reserve([PortMapping(container_port=1, host_port=number, host_ip="127.0.0.1")], {}).close()


def test_listening_inodes() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100\n"
        "   1: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100\n"
        "   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100\n"
    )
    assert listening_inodes(table, 8080, 0x0A) == {"111"}
    assert listening_inodes(table, 81, 0x0A) == set()


def test_hosts_file() -> None:
    text = hosts.hosts_file(
        hosts.HostEntry(ip="10.0.0.2", names=("host", "web", "web")),
        [hosts.HostEntry(ip="10.0.0.3", names=("", "db")), hosts.HostEntry(ip="10.0.0.4", names=("",))],
    )
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.0.0.2\thost web\n10.0.0.3\tdb\n")


def test_resolv_conf() -> None:
    host = "search x\nnameserver 127.0.0.53\noptions edns0\n"
    assert hosts.resolv_conf(host, own_network=False) == host
    assert hosts.resolv_conf(host, upstream="nameserver 9.9.9.9\n") == "nameserver 9.9.9.9\n"
    assert hosts.resolv_conf(host) == "search x\noptions edns0\n"
    mixed = "nameserver 127.0.0.1\nnameserver 1.1.1.1\n"
    assert hosts.resolv_conf(mixed, upstream="nameserver 9.9.9.9\n") == "nameserver 1.1.1.1\n"
    assert hosts.resolv_conf("") == ""
