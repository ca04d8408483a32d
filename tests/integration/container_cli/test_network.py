"""Networks of containers: ports from the host, each other, the host's, none; and bad ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, until

PORT = 18080
HTTPD = ("sh", "-c", "mkdir /www; echo hello > /www/index.html; httpd -f -h /www")

ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7))
while True:
    data, sender = server.recvfrom(100)
    server.sendto(data, sender)
"""


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        return str(probe.getsockname()[0])


@contextmanager
def greeter(address: str) -> Iterator[int]:
    """Serves "hi" on a port of the host, again and again."""
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hi\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def answers(url: str) -> bool:
    try:
        return fetch(url) == "hello\n"
    except OSError:
        return False


def test_published_port(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "web", "-p", f"{PORT}:80", IMAGE, *HTTPD)
    until(lambda: answers(f"http://127.0.0.1:{PORT}/"))
    assert fetch(f"http://{own_address()}:{PORT}/") == "hello\n"
    assert f"{PORT}->80/tcp" in cli.run("ps").stdout
    # another container: by name, by the published port of the host, and by its address
    info = cli.inspect("web")
    for url in ("http://web/", f"http://{own_address()}:{PORT}/", f"http://{info['ip']}/"):
        assert cli.run("run", "--rm", IMAGE, "wget", "-qO-", url).stdout == "hello\n"


def test_port_on_one_address_and_any_free_port(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "web", "-p", f"127.0.0.1:{PORT}:80", "-p", "80", IMAGE, *HTTPD)
    until(lambda: answers(f"http://127.0.0.1:{PORT}/"))
    free = cli.inspect("web")["ports"][1]["host_port"]
    assert free not in (0, PORT)
    assert fetch(f"http://{own_address()}:{free}/") == "hello\n"
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://{own_address()}:{PORT}/")


def test_udp_port(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "echo", "-p", f"{PORT}:7/udp", IMAGE, "sleep", "100")
    server = subprocess.Popen(
        ["nsenter", f"--net=/proc/{cli.inspect('echo')['pid']}/ns/net", sys.executable, "-c", ECHO],
    )
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)

        def echoes() -> bool:
            sock.sendto(b"ping", ("127.0.0.1", PORT))
            try:
                return sock.recv(16) == b"ping"
            except TimeoutError:
                return False

        until(echoes)
        server.kill()


def test_port_in_use(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "web", "-p", f"{PORT}:80", IMAGE, *HTTPD)
    refused = cli.run("run", "-d", "--name", "second", "-p", f"{PORT}:81", IMAGE, "true", status=125)
    assert f"port {PORT}/tcp on 0.0.0.0 is in use by container web" in refused.stderr
    assert cli.inspect("second")["status"] == "created"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = cli.run("run", "--rm", "-p", f"{port}:80", IMAGE, "true", status=125)
        assert f"port {port}/tcp on 0.0.0.0 is in use by process {os.getpid()}" in refused.stderr
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("0.0.0.0", PORT))
    cli.run("stop", "-t", "0", "web")
    cli.run("container", "start", "second")


def test_none_and_host(cli: Cli) -> None:
    shown = cli.run("run", "--rm", "--network", "none", IMAGE, "ip", "-o", "addr").stdout
    assert "127.0.0.1" in shown
    assert "eth0" not in shown
    with greeter("127.0.0.1") as port:
        assert cli.run("run", "--rm", "--network", "host", IMAGE, "nc", "127.0.0.1", str(port)).stdout == "hi\n"
    assert "cannot be published" in cli.run("run", "--network", "none", "-p", "1:1", IMAGE, "true", status=125).stderr


def test_world_and_host_loopback(cli: Cli) -> None:
    with greeter(own_address()) as open_port, greeter("127.0.0.1") as hidden_port:
        assert cli.run("run", "--rm", IMAGE, "nc", own_address(), str(open_port)).stdout == "hi\n"
        # 127.0.0.1 of the host, by way of the bridge, which takes packets for it (route_localnet)
        script = (
            "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via $(ip route | awk '/default/{print $3}'); "
            f"nc -w 2 127.0.0.1 {hidden_port} || echo refused"
        )
        result = cli.run("run", "--rm", "--cap-add", "NET_ADMIN", IMAGE, "sh", "-c", script, status=None)
        assert "hi" not in result.stdout


def test_two_containers_and_aliases(cli: Cli) -> None:
    cli.run("run", "-d", "--name", "one", "--network-alias", "db", IMAGE, "sleep", "100")
    cli.run("run", "-d", "--name", "two", IMAGE, "sleep", "100")
    for name in ("one", "db"):
        cli.run("exec", "two", "ping", "-c", "1", "-W", "2", name)
    cli.run("exec", "one", "ping", "-c", "1", "-W", "2", "two")
    cli.run("rm", "-f", "two")
    assert "two" not in cli.run("exec", "one", "cat", "/etc/hosts").stdout
    own = [line for line in cli.run("exec", "one", "cat", "/etc/hosts").stdout.splitlines() if "db" in line]
    assert [line.split()[1:] for line in own] == [own[0].split()[1:]] * len(own)


def test_resolv_conf_and_user_mounts(cli: Cli, tmp_path: Path) -> None:
    servers = [line for line in Path("/etc/resolv.conf").read_text().splitlines() if "127." not in line]
    assert cli.run("run", "--rm", IMAGE, "cat", "/etc/resolv.conf").stdout.splitlines() == servers
    (tmp_path / "hosts").write_text("mine\n")
    assert cli.run("run", "--rm", "-v", f"{tmp_path}/hosts:/etc/hosts", IMAGE, "cat", "/etc/hosts").stdout == "mine\n"


def test_forward_policy_drop(cli: Cli) -> None:
    """Docker sets iptables' FORWARD policy to drop; containers must still reach out and be reached."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    if "table ip filter\n" in tables:
        pytest.skip("this machine has an iptables filter table of its own")
    script = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"
    subprocess.run(["nft", script], check=True)
    try:
        cli.run("run", "-d", "--name", "web", "-p", f"{PORT}:80", IMAGE, *HTTPD)
        until(lambda: answers(f"http://127.0.0.1:{PORT}/"))
        chain = subprocess.run(
            ["nft", "list", "chain", "ip", "filter", "FORWARD"], capture_output=True, text=True, check=True
        )
        assert chain.stdout.count("wherry wh-") == 2
        cli.run("rm", "-f", "web")
        chain = subprocess.run(
            ["nft", "list", "chain", "ip", "filter", "FORWARD"], capture_output=True, text=True, check=True
        )
        assert "wherry" not in chain.stdout
    finally:
        subprocess.run(["nft", "delete table ip filter"], check=True)


def test_many_at_once_get_their_own_addresses(cli: Cli) -> None:
    starters = [cli.start("run", "-d", IMAGE, "sleep", "100") for _ in range(6)]
    for process in starters:
        process.communicate(timeout=60)
        assert process.returncode == 0
    from wherry.core.jsonio import loads

    listed = loads(cli.run("ps", "--json").stdout)
    assert len({item["ip"] for item in listed}) == 6
