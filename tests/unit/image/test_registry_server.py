"""The endpoint's server: real sockets, slow and rude clients, passwords, the end."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.core.errors import Conflict, InvalidInput, NotFound, WherryError
from wherry.image.serving import access, connection
from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.messages import Answer, Refused, Request, Stream
from wherry.image.serving.registry import Registry
from wherry.image.serving.server import ServeOptions, Server
from wherry.image.serving.tokens import Tokens, challenge
from wherry.linux.crypt import crypt
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository


class Echo(Registry):
    """Answers what it was sent; ``/stream`` gives four megabytes, ``/broken`` less than it says."""

    def answer(self, request: Request) -> Answer:
        if request.path == "/stream":
            return Answer(body=Stream(size=4 << 20, open=lambda: open("/dev/zero", "rb")))
        if request.path == "/broken":
            return Answer(body=Stream(size=1 << 20, open=lambda: open("/dev/null", "rb")))
        if request.path == "/refuse":
            return Answer(status=401, body=b"no")
        try:
            body = request.read_body(1 << 20)
        except Refused as refused:
            return refused.answer()
        told = f"{request.method} {request.path} {dict(request.query)} {request.headers.get('accept')} "
        return Answer(body=told.encode() + body)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


@pytest.fixture
def server(repo: Repository, tmp_path: Path) -> Iterator[Server]:
    made = Server(Echo(repo, Door(Accounts())), ServeOptions(port=0, ready_file=tmp_path / "ready"))
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(15)
    assert not thread.is_alive()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=10)


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_requests_one_after_another(server: Server, tmp_path: Path) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    client.request("PUT", "/a%20b?x=1&y=%2F", body=b"hello", headers={"Accept": "one"})
    assert client.getresponse().read() == b"PUT /a b {'x': '1', 'y': '/'} one hello"
    client.request(
        "PATCH", "/", body=iter([b"chunk", b"s"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert client.getresponse().read().endswith(b" chunks")
    client.request("GET", "/stream")
    assert len(client.getresponse().read()) == 4 << 20
    client.request("HEAD", "/stream")
    answer = client.getresponse()
    assert (answer.read(), answer.headers["Content-Length"]) == (b"", str(4 << 20))
    assert (tmp_path / "ready").read_text() == f"{server.url}\n"
    client.close()


def test_headers_that_stand_twice(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\nConnection: close\r\n\r\n")
        assert b" a, b " in everything(sock)


def test_a_client_that_waits_for_a_word(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(b"ok")
        assert sock.recv(1000).endswith(b" ok")
    with connect(server) as sock:
        sock.sendall(b"PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        assert everything(sock).startswith(b"HTTP/1.1 401"), "and the body is not asked for"


def test_an_answer_arrives_though_the_body_was_not_wanted(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + bytes(200_000))
        assert sock.recv(1000).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /?" + b"a=1&" * 30 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + bytes(2_000_000), b"413"),
    ],
)
def test_what_is_refused(server: Server, data: bytes, status: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(data)
        assert sock.recv(1000).split(b" ")[1] == status


def test_a_part_is_not_taken_for_the_whole(server: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    client.request("GET", "/broken")
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()


def test_slow_clients_are_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "IDLE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "PIECE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    for begin in (b"", b"GET / HT", b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nx"):
        with connect(server) as sock:
            sock.sendall(begin)
            started = time.monotonic()
            if begin:
                with pytest.raises(ConnectionResetError):
                    everything(sock)
            else:
                assert everything(sock) == b""
            assert time.monotonic() - started < 5
    with connect(server) as sock:  # one that trickles a head
        started = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                sock.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - started < 4
    with connect(server) as sock:  # one that does not take what it asked for
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1)
        with pytest.raises(ConnectionResetError):
            everything(sock)


def test_more_connections_than_there_may_be_wait(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.serving.server.MAX_CONNECTIONS", 1)
    server = Server(Echo(repo, Door(Accounts())), ServeOptions(port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    with connect(server), connect(server) as second:
        second.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(10)
    server.stop()
    thread.join(15)
    assert not thread.is_alive()


def test_a_request_finishes_before_the_end(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\no")
        time.sleep(0.2)
        server.stop()
        time.sleep(0.2)
        sock.sendall(b"k")
        answer = everything(sock)
        assert answer.endswith(b" ok")
        assert b"Connection: close" in answer.title() or b"close" in answer


def test_a_port_in_use(server: Server, repo: Repository) -> None:
    with pytest.raises(Conflict, match="cannot listen"):
        Server(Echo(repo, Door(Accounts())), ServeOptions(port=port_of(server)))
    with pytest.raises(WherryError):
        Server(Echo(repo, Door(Accounts())), ServeOptions(host="192.0.2.1", port=0))


def test_a_certificate_that_is_none(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(InvalidInput):
        options = ServeOptions(port=0, tls_cert=tmp_path / "x", tls_key=tmp_path / "x")
        Server(Echo(repo, Door(Accounts())), options)


# --- accounts


def test_crypt_is_openssls() -> None:
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", "abcdefgh", "secret"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert crypt("secret", hashed) == hashed
    assert crypt("other", hashed) != hashed
    assert crypt("secret", "$nonsense$") is None


def accounts(tmp_path: Path) -> Accounts:
    lines = [f"{user}:{crypt(password, '$6$saltsalt$')}" for user, password in (("ann", "secret"), ("bob", "other"))]
    (tmp_path / "users").write_text("# who\n\n" + "\n".join(lines) + "\n")
    return Accounts.load(htpasswd=tmp_path / "users")


def basic(user: str, password: str, address: str = "192.0.2.1") -> Request:
    import base64

    sent = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return Request(method="GET", path="/v2/", headers={"authorization": sent}, address=address)


def test_passwords(tmp_path: Path) -> None:
    now = [0.0]
    door = Door(accounts(tmp_path), clock=lambda: now[0])
    assert door.who(basic("ann", "secret")) == "ann"
    assert door.who(basic("bob", "other")) == "bob"
    assert door.who(Request(method="GET", path="/v2/")) is None
    for user, password in (("ann", "other"), ("nobody", "secret"), ("ann", "")):
        with pytest.raises(Refused, match="wrong"):
            door.who(basic(user, password))
    for _ in range(access.MAX_FAILURES):
        with pytest.raises(Refused):
            door.who(basic("ann", "guess"))
    with pytest.raises(Refused, match="too many"):
        door.who(basic("bob", "right or wrong"))
    assert door.who(basic("ann", "secret")) == "ann", "who is known already is let in"
    with pytest.raises(Refused, match="wrong"):
        door.who(basic("ann", "guess", "192.0.2.2"))
    now[0] += access.FAILURES_S + 1
    with pytest.raises(Refused, match="wrong"):
        door.who(basic("ann", "guess"))


@pytest.mark.parametrize(
    "line", ["ann", ":x", "ann:plain", "ann:$apr1$x$y", "ann:{SHA}abc", "ann:$1$salt$hash", "ann:$2y$", "\xff"]
)
def test_accounts_that_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "users").write_bytes(line.encode("latin-1"))
    with pytest.raises(InvalidInput):
        Accounts.load(htpasswd=tmp_path / "users")


def test_tokens_in_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert Accounts.load(token_file=tmp_path / "token").token == "0123456789abcdef"
    for bad in ("short", "0123456789abcdef\nmore", ""):
        (tmp_path / "token").write_text(bad)
        with pytest.raises(InvalidInput):
            Accounts.load(token_file=tmp_path / "token")
    with pytest.raises((NotFound, WherryError)):
        Accounts.load(token_file=tmp_path / "none")


def test_tokens() -> None:
    now = [0.0]
    tokens = Tokens(clock=lambda: now[0])
    token = tokens.issue("ann")
    assert tokens.check(token) == "ann"
    assert tokens.check(tokens.issue("")) == ""
    head, _, tail = token.partition(".")
    other = Tokens().issue("ann")
    for bad in ("", ".", head, f"{head}.", f"{head[:-1]}.{tail}", f"{head}.{tail[:-2]}", other, "x" * 5000, "ä.ö"):
        assert tokens.check(bad) is None
    now[0] = 301
    assert tokens.check(token) is None


def test_challenges() -> None:
    assert challenge("http://[::1]:5000", "a", "pull").startswith('Bearer realm="http://[::1]:5000/v2/token"')
    for origin in ("", "http://", 'http://x"y', "http://x/y", "ftp://x", "http://x\r\n"):
        assert challenge(origin, "a", "pull") == 'Basic realm="wherry"'
