"""Networks with names: made and removed, closed to each other, both families, several at once; and other ways in."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.container_cli.test_network import HTTPD, PORT, answers, fetch, own_address
from tests.integration.engine.support import IMAGE, Cli, kill_both, until

from wherry.core.jsonio import loads
from wherry.engine.state import Paths
from wherry.linux import links
from wherry.linux.netlink import RouteSocket


@pytest.fixture
def user_table() -> Iterator[str]:
    """A table of a user's own; what ``nft`` says of it must never change."""
    subprocess.run(
        ["nft", "add table inet mine; add chain inet mine c; add rule inet mine c counter accept"], check=True
    )
    yield subprocess.run(["nft", "list", "table", "inet", "mine"], capture_output=True, text=True, check=True).stdout
    subprocess.run(["nft", "delete table inet mine"], check=True)


def tables_of(cli: Cli) -> list[str]:
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [line for line in tables.splitlines() if f"wherry-{Paths(cli.root, cli.run_root).tag}" in line]


def links_of(cli: Cli) -> list[str]:
    with RouteSocket() as route:
        return [
            link.name
            for link in links.list_all(route)
            if link.name.startswith(f"wh-{Paths(cli.root, cli.run_root).tag}")
        ]


def web(cli: Cli, name: str, *options: str) -> None:
    cli.run("run", "-d", "--name", name, *options, IMAGE, *HTTPD)
    until(lambda: cli.run("exec", name, "wget", "-qO-", "http://127.0.0.1/", status=None).stdout == "hello\n")


def gets(cli: Cli, container: str, url: str) -> bool:
    result = cli.run("exec", container, "timeout", "3", "wget", "-qO-", url, status=None)
    return result.stdout == "hello\n"


def test_words(cli: Cli) -> None:
    cli.run("network", "create", "--label", "a=b", "--subnet", "10.223.5.0/24", "--ipv6", "back")
    listed = {item["name"]: item for item in loads(cli.run("network", "ls", "--json").stdout)}
    assert listed["back"]["gateway"] == "10.223.5.1"
    assert listed["back"]["subnet6"].startswith("fd")
    assert "bridge" in listed
    assert "already" in cli.run("network", "create", "back", status=4).stderr
    assert "overlaps" in cli.run("network", "create", "--subnet", "10.223.0.0/16", "more", status=4).stderr
    assert "not supported" in cli.run("network", "create", "-d", "overlay", "more", status=11).stderr
    assert links_of(cli) == [], "nothing is made before a container is there"
    cli.run("run", "-d", "--name", "one", "--network", "back:ip=10.223.5.77", IMAGE, "sleep", "100")
    shown = loads(cli.run("network", "inspect", "back").stdout)[0]
    assert [item["ip"] for item in shown["containers"].values()] == ["10.223.5.77"]
    assert (
        "is taken"
        in cli.run("run", "--rm", "--network", "back", "--ip", "10.223.5.77", IMAGE, "true", status=125).stderr
    )
    assert "used by one" in cli.run("network", "rm", "back", status=4).stderr
    cli.run("rm", "-f", "one")
    assert cli.run("network", "prune", "-f", "--filter", "label=a=c").stdout == ""
    assert cli.run("network", "prune", "-f", "--filter", "label=a=b").stdout == "back\n"
    assert "no network 'back'" in cli.run("run", "--rm", "--network", "back", IMAGE, "true", status=125).stderr


def test_networks_are_closed_to_each_other(cli: Cli, user_table: str) -> None:
    cli.run("network", "create", "--ipv6", "a")
    cli.run("network", "create", "--ipv6", "b")
    web(cli, "server", "--network", "a:alias=www", "-p", f"{PORT}:80")
    cli.run("run", "-d", "--name", "near", "--network", "a", IMAGE, "sleep", "100")
    cli.run("run", "-d", "--name", "far", "--network", "b", IMAGE, "sleep", "100")
    cli.run("run", "-d", "--name", "both", "--network", "b", "--network", "a", IMAGE, "sleep", "100")
    held = next(iter(loads(cli.run("network", "inspect", "a").stdout)[0]["containers"].values()))
    for url in ("http://server/", "http://www/", f"http://{held['ip']}/", f"http://[{held['ip6']}]/"):
        assert gets(cli, "near", url), url
        assert gets(cli, "both", url), url
        assert not gets(cli, "far", url), url
    assert "server" not in cli.run("exec", "far", "cat", "/etc/hosts").stdout
    # what is published is published for everybody; the container itself is one of them
    for name in ("near", "far", "both", "server"):
        assert gets(cli, name, f"http://{own_address()}:{PORT}/"), name
    assert "eth1" in cli.run("exec", "both", "ip", "-o", "link").stdout
    now = subprocess.run(["nft", "list", "table", "inet", "mine"], capture_output=True, text=True, check=True).stdout
    assert now == user_table
    cli.run("rm", "-f", "server", "near", "far", "both")
    until(lambda: tables_of(cli) == [] and links_of(cli) == [])


def test_internal_network(cli: Cli) -> None:
    cli.run("network", "create", "--internal", "--ipv6", "in")
    web(cli, "server", "--network", "in")
    cli.run("run", "-d", "--name", "client", "--network", "in", IMAGE, "sleep", "100")
    assert gets(cli, "client", "http://server/")
    assert "default" not in cli.run("exec", "client", "ip", "route").stdout
    # not even with a route of its own: another bridge's container is as far away as the world
    web(cli, "outside", "-p", f"{PORT}:80")
    gateway = loads(cli.run("network", "inspect", "in").stdout)[0]["gateway"]
    options = ("--cap-add", "NET_ADMIN", "--network", "in")
    for address in (cli.inspect("outside")["ip"], f"{own_address()}:{PORT}"):
        # not the last command: timeout would become the first process, which no signal ends
        script = f"ip route add default via {gateway}; timeout 2 wget -qO- http://{address}/; echo end"
        assert "hello" not in cli.run("run", "--rm", *options, IMAGE, "sh", "-c", script, status=None).stdout
    assert "--internal" in cli.run("run", "--rm", "--network", "in", "-p", "1:1", IMAGE, "true", status=125).stderr


def test_both_families_from_everywhere(cli: Cli) -> None:
    web(cli, "server", "-p", f"{PORT}:80")
    until(lambda: answers(f"http://127.0.0.1:{PORT}/"))
    held = next(iter(loads(cli.run("network", "inspect", "bridge").stdout)[0]["containers"].values()))
    shown = loads(cli.run("network", "inspect", "bridge").stdout)[0]
    assert fetch(f"http://[{held['ip6']}]/") == "hello\n", "usable at once, without waiting for DAD"
    assert fetch(f"http://[{shown['gateway6']}]:{PORT}/") == "hello\n"
    cli.run("run", "-d", "--name", "client", IMAGE, "sleep", "100")
    assert gets(cli, "client", "http://server/")
    assert gets(cli, "client", f"http://[{held['ip6']}]/")
    assert gets(cli, "client", f"http://[{shown['gateway6']}]:{PORT}/")
    assert gets(cli, "server", f"http://[{shown['gateway6']}]:{PORT}/"), "hairpin"
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("::", PORT), family=socket.AF_INET6)


def test_loopback_of_ipv6_is_refused_at_once(cli: Cli) -> None:
    """So that who tries ::1 first, as for the name localhost, goes on to 127.0.0.1."""
    web(cli, "server", "-p", f"{PORT}:80")
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://[::1]:{PORT}/")
    assert fetch(f"http://localhost:{PORT}/") == "hello\n"
    assert "127.0.0.1" in cli.run("run", "--rm", "-p", f"[::1]:{PORT + 1}:80", IMAGE, "true", status=125).stderr


def test_range_of_ports_and_all_exposed(cli: Cli) -> None:
    web(cli, "server", "-p", f"{PORT}-{PORT + 2}:79-81", "-P", "--expose", "8080")
    assert fetch(f"http://127.0.0.1:{PORT + 1}/") == "hello\n"
    with pytest.raises(OSError, match=r"refused|reset"):
        fetch(f"http://127.0.0.1:{PORT + 2}/")
    ports = {item["container_port"]: item["host_port"] for item in cli.inspect("server")["ports"]}
    assert ports.keys() == {79, 80, 81, 8080}
    assert ports[8080] > 0


def test_names_and_name_servers(cli: Cli) -> None:
    options = ("--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:2")
    shown = cli.run("run", "--rm", *options, IMAGE, "cat", "/etc/resolv.conf").stdout
    assert "nameserver 192.0.2.53\n" in shown
    assert "search example.org\n" in shown
    shown = cli.run(
        "run", "--rm", "--add-host", "far:192.0.2.1", "--add-host", "here:host-gateway", IMAGE, "cat", "/etc/hosts"
    ).stdout
    assert "192.0.2.1\tfar\n" in shown
    assert ".1\there\n" in shown


def test_network_of_another_container(cli: Cli) -> None:
    web(cli, "server")
    joined = ("run", "--rm", "--network", "container:server", IMAGE)
    assert cli.run(*joined, "wget", "-qO-", "http://127.0.0.1/").stdout == "hello\n"
    assert cli.run(*joined, "cat", "/etc/hosts").stdout == cli.run("exec", "server", "cat", "/etc/hosts").stdout
    assert cli.run(*joined, "hostname").stdout == cli.run("exec", "server", "hostname").stdout
    cli.run("stop", "-t", "0", "server")
    assert "not running" in cli.run(*joined, "true", status=125).stderr


def test_connect_and_disconnect_while_running(cli: Cli) -> None:
    cli.run("network", "create", "a")
    web(cli, "server", "--network", "a")
    cli.run("run", "-d", "--name", "client", IMAGE, "sleep", "100")
    assert not gets(cli, "client", "http://server/")
    cli.run("network", "connect", "--alias", "me", "a", "client")
    assert gets(cli, "client", "http://server/")
    cli.run("exec", "server", "ping", "-c", "1", "-W", "2", "me")
    assert "already" in cli.run("network", "connect", "a", "client", status=4).stderr
    cli.run("container", "restart", "-t", "0", "client")
    assert gets(cli, "client", "http://server/"), "it is remembered"
    cli.run("network", "disconnect", "a", "client")
    assert not gets(cli, "client", "http://server/")
    assert "eth1" not in cli.run("exec", "client", "ip", "-o", "link").stdout


def test_an_owner_that_was_killed_leaves_nothing(cli: Cli) -> None:
    cli.run("network", "create", "a")
    web(cli, "server", "--network", "a", "-p", f"{PORT}:80")
    kill_both(cli)
    until(lambda: cli.inspect("server")["status"] == "exited")
    until(lambda: tables_of(cli) == [] and links_of(cli) == [])


def test_races(cli: Cli) -> None:
    """Twenty processes join and leave at once; each container sees itself alone under its address."""
    starters = [cli.start("run", "--rm", IMAGE, "ip", "-o", "-4", "addr", "show", "eth0") for _ in range(20)]
    outputs = []
    for process in starters:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        outputs.append(out.decode().split()[3])
    assert all(text.endswith("/24") for text in outputs)
    until(lambda: tables_of(cli) == [] and links_of(cli) == [])


def test_flushed_rules_come_back(cli: Cli) -> None:
    web(cli, "server", "-p", f"{PORT}:80")
    table = tables_of(cli)[0]
    subprocess.run(["nft", "delete", *table.split()], check=True)
    assert not gets(cli, "server", f"http://{own_address()}:{PORT}/")
    cli.run("run", "--rm", IMAGE, "true")
    assert gets(cli, "server", f"http://{own_address()}:{PORT}/")


@pytest.fixture
def spare() -> Iterator[str]:
    """An interface that nobody needs: one end of a veth pair, both of them here and up."""
    name, other = f"spare{os.getpid() % 100000}a", f"spare{os.getpid() % 100000}b"
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    with RouteSocket() as route:
        route.do(links.new_veth(name, master=0, peer=other, peer_netns_fd=here, peer_mac=b"", mtu=1500))
        os.close(here)
        for word in (name, other):
            link = links.look_up(route, word)
            assert link is not None
            route.do(links.set_up(link.index))
        yield name
        route.do(links.delete(other))


def test_interface_of_the_host(cli: Cli, spare: str) -> None:
    shown = cli.run("run", "--rm", "--network", f"raw,{spare}", IMAGE, "ip", "-o", "link").stdout
    assert spare in shown
    assert "eth0" not in shown
    with RouteSocket() as route:
        assert links.look_up(route, spare) is not None, "it is back"
    both = ("--network", f"interface:{spare}", "--network", "bridge")
    cli.run("run", "-d", "--name", "holder", *both, IMAGE, "sleep", "100")
    assert "in another" in cli.run("run", "--rm", "--network", f"raw,{spare}", IMAGE, "true", status=125).stderr
    cli.run("rm", "-f", "holder")
    with RouteSocket() as route:
        assert links.look_up(route, spare) is not None


def test_macvlan(cli: Cli, spare: str) -> None:
    cli.run("network", "create", "-d", "macvlan", "-o", f"parent={spare}", "--subnet", "10.223.9.0/24", "lan")
    web(cli, "server", "--network", "lan")
    cli.run("run", "-d", "--name", "client", "--network", "lan", IMAGE, "sleep", "100")
    assert gets(cli, "client", "http://server/")
    assert links_of(cli) == [], "no bridge"
    assert tables_of(cli) == []


def test_hundred_containers(cli: Cli, tmp_path: Path) -> None:
    """A hundred leases on one bridge, by the engine's own calls in namespaces made here."""
    from wherry.engine.net.request import NetworkAttachment
    from wherry.engine.network import Network

    paths = Paths(cli.root, cli.run_root)
    paths.make()
    network = Network(paths)
    holders: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    try:
        for index in range(100):
            holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 100"], stdout=subprocess.PIPE)
            holders.append(holder)
            assert holder.stdout is not None
            holder.stdout.readline()
            key = f"{index:02x}".ljust(64, "e")
            network.join(key, attachments=(NetworkAttachment(network="bridge"),), names=(f"n{index}",))
            network.plug(key, holder.pid)
        print(f"100 containers joined in {time.monotonic() - began:.2f} s")
        addresses = {lease.ip for live in network.live() for lease in live.leases.values()}
        assert len(addresses) == 100
        subprocess.run(
            [
                "nsenter",
                f"--net=/proc/{holders[0].pid}/ns/net",
                "busybox",
                "ping",
                "-c",
                "1",
                "-W",
                "2",
                max(addresses),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    finally:
        for index, holder in enumerate(holders):
            holder.kill()
            holder.wait()
            network.leave(f"{index:02x}".ljust(64, "e"))
    until(lambda: tables_of(cli) == [] and links_of(cli) == [])
