"""A network without root: slirp4netns, and published ports."""

from __future__ import annotations

import socket
import time
import urllib.request

from tests.integration.rootless.user import IMAGE, TIMEOUT_S, User

SERVE = ("httpd", "-f", "-h", "/etc")


def test_has_an_address_a_way_out_and_names(user: User) -> None:
    text = user.ok(
        "run", "--rm", "--name", "alone", IMAGE, "sh", "-c", "ip -4 addr show tap0; ip route; cat /etc/hosts"
    )
    assert "10.0.2.100/24" in text
    assert "default via 10.0.2.2" in text
    assert text.splitlines()[-1].split()[0] == "10.0.2.100"
    assert "alone" in text.splitlines()[-1]
    assert "nameserver 10.0.2.3" in user.ok("run", "--rm", IMAGE, "cat", "/etc/resolv.conf")


def test_publishes_ports_and_refuses_those_in_use(user: User) -> None:
    port = _free_port()
    user.ok("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", IMAGE, *SERVE)
    assert _get(port) == "from the image\n"
    assert user.ok("port", "web") == f"80/tcp -> 127.0.0.1:{port}"
    done = user.wherry("run", "--rm", "-p", f"127.0.0.1:{port}:80", IMAGE, "true")
    assert done.returncode == 125
    assert f"port {port}/tcp on 127.0.0.1 is in use" in done.stderr
    user.ok("restart", "web")
    assert _get(port) == "from the image\n"
    user.ok("rm", "-f", "web")
    user.wait_for_nobody()


def test_outlives_a_supervisor_that_is_killed(user: User) -> None:
    port = _free_port()
    user.ok("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", IMAGE, *SERVE)
    user.kill("engine.supervisor")
    assert user.ok("exec", "web", "true") == ""
    assert _get(port) == "from the image\n"


def test_another_container_shares_it(user: User) -> None:
    user.ok("run", "-d", "--name", "web", IMAGE, *SERVE)
    text = user.ok("run", "--rm", "--network", "container:web", IMAGE, "wget", "-qO-", "http://127.0.0.1/motd")
    assert text == "from the image"


def test_a_low_port_is_refused_with_a_way_out(user: User) -> None:
    done = user.wherry("run", "--rm", "-p", "127.0.0.1:81:80", IMAGE, "true")
    assert done.returncode == 125
    assert "net.ipv4.ip_unprivileged_port_start" in done.stderr


def test_networks_that_need_root_are_refused(user: User) -> None:
    done = user.wherry("run", "--rm", "--network", "backend", IMAGE, "true")
    assert done.returncode == 125
    assert "need root" in done.stderr


def _free_port() -> int:
    with socket.socket() as item:
        item.bind(("127.0.0.1", 0))
        return int(item.getsockname()[1])


def _get(port: int) -> str:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/motd", timeout=5) as answer:
                text: bytes = answer.read()
                return text.decode()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
