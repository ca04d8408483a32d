"""The HTTP client against a server that misbehaves in every way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError
from wherry.core.http import HttpClient

_DATA = bytes(range(256)) * 16


class Handler(BaseHTTPRequestHandler):
    """Answers by the path."""

    protocol_version = "HTTP/1.1"
    failures = 0
    seen_tokens: list[str | None] = []  # noqa: RUF012 reset by the fixture

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        pass

    def do_GET(self) -> None:
        Handler.seen_tokens.append(self.headers.get("Authorization"))
        if self.path == "/flaky":
            Handler.failures += 1
            if Handler.failures < 3:
                return self._answer(503, b"")
            return self._answer(200, b'{"ok":true}')
        if self.path == "/range":
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            return self._answer(
                206 if start else 200, _DATA[start:], {"Content-Range": f"bytes {start}-{len(_DATA) - 1}/{len(_DATA)}"}
            )
        if self.path == "/norange":
            return self._answer(200, _DATA)
        if self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
            return None
        if self.path == "/moved":
            return self._answer(302, b"", {"Location": "http://127.0.0.1:1/"})
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b": hello\n\nevent: desired\nid: 7\ndata: {\ndata: }\n\ndata: two\r\n\r\n")
            self.close_connection = True
            return None
        if self.path == "/endless-event":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"data: " + b"x" * 4096)
            except OSError:
                self.close_connection = True
                return None
        return self._answer(404, b'{"detail":"no such thing"}')

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def client() -> Iterator[HttpClient]:
    Handler.failures = 0
    Handler.seen_tokens = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    client = HttpClient(f"http://127.0.0.1:{server.server_port}/", token="secret", timeout_s=5)
    yield client
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_json_retries_what_may_pass(client: HttpClient) -> None:
    assert client.json("GET", "/flaky") == {"ok": True}
    assert Handler.failures == 3
    assert Handler.seen_tokens == ["Bearer secret"] * 3


def test_4xx_is_final_and_tells_the_detail(client: HttpClient) -> None:
    with pytest.raises(HttpError, match="404: no such thing") as caught:
        client.json("GET", "/nothing")
    assert caught.value.status == 404
    assert len(Handler.seen_tokens) == 1


def test_get_resumes(client: HttpClient) -> None:
    with client.get("/range", offset=100) as response:
        assert b"".join(response.chunks()) == _DATA[100:]
    with client.get("/range") as response:
        assert response.read_all() == _DATA


def test_a_server_that_ignores_the_range_is_found_out(client: HttpClient) -> None:
    with pytest.raises(IntegrityError, match="does not resume"), client.get("/norange", offset=5):
        pass


def test_a_body_cut_short_is_an_error(client: HttpClient) -> None:
    with pytest.raises(NetworkError, match="broke off"), client.get("/short") as response:
        response.read_all()


def test_the_limit_on_an_answer(client: HttpClient) -> None:
    with pytest.raises(InvalidInput, match="longer than 10 bytes"), client.get("/range") as response:
        response.read_all(max_bytes=10)


def test_redirects_are_not_followed(client: HttpClient) -> None:
    with pytest.raises(HttpError) as caught, client.get("/moved"):
        pass
    assert caught.value.status == 302


def test_events(client: HttpClient) -> None:
    first, second = list(client.events("/events"))
    assert (first.event, first.id, first.data) == ("desired", "7", "{\n}")
    assert (second.event, second.data) == ("message", "two")


def test_an_endless_event_is_cut(client: HttpClient) -> None:
    with pytest.raises(InvalidInput, match="event is longer"):
        list(client.events("/endless-event"))


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = HttpClient(f"http://127.0.0.1:{port}", tries=1)
    with pytest.raises(NetworkError, match=r"no answer: .*refused: http://127.0.0.1.*; check that it runs"):
        client.json("GET", "/")


@pytest.mark.parametrize("address", ["", "hub", "ftp://x", "http://", "file:///etc/passwd"])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InvalidInput, match="http"):
        HttpClient(address)
