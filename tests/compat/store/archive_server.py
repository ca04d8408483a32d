"""A threaded web server for an archive repository, with Range, that tests can make fail in chosen ways."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[["Request", bytes], bytes | None]


@dataclass
class Request:
    path: str
    offset: int
    number: int
    """How often this path has been asked for, from 1."""


@dataclass
class ArchiveServer:
    """What is served, what was asked for, and what goes wrong.

    ``fault`` is called with every answer: it returns the bytes to send in place of the body (while the header still
    declares the right length), or None to break the connection off.
    """

    root: Path
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    fault: Fault | None = None
    ranges: bool = True

    def objects(self) -> Counter[str]:
        return Counter({path: count for path, count in self.requests.items() if "/objects/" in path})


@contextmanager
def serving(root: Path) -> Iterator[ArchiveServer]:
    state = ArchiveServer(root=root)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = root / self.path.removeprefix("/repo").lstrip("/")
            with lock:
                state.requests[self.path] += 1
                number = state.requests[self.path]
            try:
                body = path.read_bytes()
            except OSError:
                self._send(404, b"not here")
                return
            header = self.headers.get("Range", "")
            offset = int(header.removeprefix("bytes=").rstrip("-")) if header and state.ranges else 0
            with lock:
                state.offsets.setdefault(self.path, []).append(offset)
            if offset and offset >= len(body):
                self._send(416, b"")
                return
            extra = {"Content-Range": f"bytes {offset}-{len(body) - 1}/{len(body)}"} if offset else {}
            self._send(206 if offset else 200, body[offset:], extra, Request(self.path, offset, number))

        def _send(
            self, status: int, body: bytes, extra: dict[str, str] | None = None, request: Request | None = None
        ) -> None:
            sent: bytes | None = body
            if request is not None and state.fault is not None:
                sent = state.fault(request, body)
            if sent is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for key, value in (extra or {}).items():
                self.send_header(key, value)
            self.end_headers()
            try:
                self.wfile.write(sent)
            except OSError:
                self.close_connection = True
            if len(sent) < len(body):
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
