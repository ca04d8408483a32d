"""The road between a device and its hub: it hands requests on, and can be cut, or lose or spoil bytes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "server", "date"})
_CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that came by."""

    method: str
    path: str
    range: str
    status: int
    sent: int


class Road(ThreadingHTTPServer):
    """A proxy for one server, on a port of its own."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.down = False
        """Every connection is closed without an answer."""
        self.cut: dict[str, int] = {}
        """Answers to paths with this in them end after so many bytes."""
        self.cut_in_all: int | None = None
        """After so many bytes of file objects nothing more comes of what is cut."""
        self.spoil: set[str] = set()
        """Answers to paths with this in them have their last byte changed."""
        self.refuse: set[str] = set()
        """Requests for paths with this in them are answered with 404."""
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def objects(self) -> list[Asked]:
        """Returns the requests for file objects."""
        return [asked for asked in self.asked if asked.path.endswith(".filez")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: connections are broken on purpose."""


@contextmanager
def road_to(upstream: str) -> Iterator[Road]:
    """Serves a road for as long as the block runs."""
    road = Road(upstream)
    thread = threading.Thread(target=road.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield road
    finally:
        road.shutdown()
        road.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Road

    def _pass_on(self) -> None:
        road = self.server
        if road.down:
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if any(text in self.path for text in road.refuse):
            self.send_response_only(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        parts = urlsplit(road.upstream)
        upstream = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in {"host", "connection"}}
            upstream.request(self.command, self.path, body=body, headers=headers)
            self._answer(upstream.getresponse())
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass_on  # noqa: N815 the names that http.server calls

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        road = self.server
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        known = answer.getheader("Content-Length") is not None
        self.close_connection = not known
        if not known:
            self.send_header("Connection", "close")
        self.end_headers()
        limit = next((size for text, size in road.cut.items() if text in self.path), None)
        if limit is not None and road.cut_in_all is not None:
            limit = min(limit, max(0, road.cut_in_all - sum(asked.sent for asked in road.objects())))
        spoil = any(text in self.path for text in road.spoil)
        total = int(answer.getheader("Content-Length") or 0)
        sent = 0
        while piece := answer.read1(_CHUNK):
            if road.down:
                self.close_connection = True
                break
            if limit is not None and sent + len(piece) > limit:
                piece = piece[: limit - sent]
                self.close_connection = True
            if spoil and sent + len(piece) == total and piece:
                piece = piece[:-1] + bytes([piece[-1] ^ 1])
            self.wfile.write(piece)
            self.wfile.flush()
            sent += len(piece)
            if limit is not None and sent >= limit:
                break
        road.asked.append(
            Asked(
                method=self.command,
                path=self.path,
                range=self.headers.get("Range", ""),
                status=answer.status,
                sent=sent,
            )
        )

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name that http.server uses
        """Says nothing."""
