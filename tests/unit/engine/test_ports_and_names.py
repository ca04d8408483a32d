"""Published ports and name resolution files."""

from __future__ import annotations

import os
import socket

import pytest

from wherry.core.errors import Conflict, InvalidInput, Unsupported
from wherry.engine import hosts
from wherry.engine.ports import listening_inodes, reserve
from wherry.spec.container import PortMapping


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


def test_ports_of_both_families() -> None:
    both = reserve([PortMapping(container_port=80)], {}, ipv6=True)
    number = both.ports[0].host_port
    try:
        with pytest.raises(Conflict, match=f"port {number}/tcp on :: is in use"):
            reserve([PortMapping(container_port=80, host_port=number, host_ip="::")], {})
    finally:
        both.close()
    reserve([PortMapping(container_port=80, host_port=number, host_ip="::")], {}).close()


def test_ports_elsewhere() -> None:
    with pytest.raises(Unsupported, match="::1"):
        reserve([PortMapping(container_port=1, host_ip="::1")], {})
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
        [hosts.HostEntry(ip="10.0.0.2", names=("host", "web", "web"))],
        [hosts.HostEntry(ip="10.0.0.3", names=("", "db")), hosts.HostEntry(ip="10.0.0.4", names=("",))],
        ["192.0.2.1\tfar"],
    )
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("10.0.0.2\thost web\n10.0.0.3\tdb\n192.0.2.1\tfar\n")


def test_resolv_conf_as_asked_for() -> None:
    host = "search x\nnameserver 192.0.2.53\noptions edns0\n"
    assert hosts.with_options(host, servers=(), search=(), options=()) == host
    changed = hosts.with_options(host, servers=("1.1.1.1", "::1"), search=("a", "b"), options=())
    assert changed == "options edns0\nsearch a b\nnameserver 1.1.1.1\nnameserver ::1\n"
    assert hosts.with_options(host, servers=(), search=(".",), options=("ndots:2",)) == (
        "nameserver 192.0.2.53\noptions ndots:2\n"
    )


def test_resolv_conf() -> None:
    host = "search x\nnameserver 127.0.0.53\noptions edns0\n"
    assert hosts.resolv_conf(host, own_network=False) == host
    assert hosts.resolv_conf(host, upstream="nameserver 9.9.9.9\n") == "nameserver 9.9.9.9\n"
    assert hosts.resolv_conf(host) == "search x\noptions edns0\n"
    mixed = "nameserver 127.0.0.1\nnameserver 1.1.1.1\n"
    assert hosts.resolv_conf(mixed, upstream="nameserver 9.9.9.9\n") == "nameserver 1.1.1.1\n"
    assert hosts.resolv_conf("") == ""
