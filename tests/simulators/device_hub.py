"""A small hub over HTTP: the device's half of ``spec.wire``, one device, and faults on demand."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wherry.device.hub import SESSION_PREFIX
from wherry.spec.wire import DEVICE_API
from wherry.trust.keys import PublicKey


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.devices: dict[str, PublicKey] = {}
        self.accepted = True
        self.enrolment_token = "let-me-in"
        self.challenges: set[str] = set()
        self.tokens: set[str] = set()
        self.assignment = 0
        self.revision: str | None = None
        self.reports: list[dict[str, Any]] = []
        self.questions: list[int] = []
        self.calls: list[tuple[str, int]] = []
        self.nonsense: set[str] = set()
        self.changed = threading.Event()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def assign(self, revision: str) -> None:
        self.assignment += 1
        self.revision = revision
        self.changed.set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing."""


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    hub = HubServer()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        hub.changed.set()
        hub.shutdown()
        hub.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_GET(self) -> None:
        name = self.path.removeprefix(f"{DEVICE_API}/")
        if not self._known():
            self._say(401, {"detail": "log in"})
        elif name == "desired":
            hub = self.server
            etag = f'"{hub.assignment}"'
            if self.headers.get("If-None-Match") == etag and "desired" not in hub.nonsense:
                self._say(304, None)
                return
            message = {
                "assignment": hub.assignment,
                "revision": hub.revision,
                "poll_interval_s": 60,
                "poll_jitter_percent": 10,
                "time_s": 1_800_000_000,
            }
            self._say(200, message, etag=etag)
        elif name == "events":
            self._events()
        else:
            self._say(404, {"detail": "no"})

    def do_POST(self) -> None:
        name = self.path.removeprefix(f"{DEVICE_API}/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if name in ("enroll", "challenge", "session"):
            getattr(self, f"_{name}")(body)
        elif not self._known():
            self._say(401, {"detail": "log in"})
        elif name == "progress":
            self.server.reports.append(body)
            self._say(200, {"accepted": True, "assignment": self.server.assignment})
        elif name == "sizes":
            count = len(body["objects"])
            self.server.questions.append(count)
            self._say(200, {"transfer_bytes": 10 * count, "disk_bytes": 20 * count})
        else:
            self._say(404, {"detail": "no"})

    def _enroll(self, body: dict[str, Any]) -> None:
        if body["token"] != self.server.enrolment_token:
            self._say(403, {"detail": "unknown token"})
            return
        key = PublicKey.from_base64(body["public_key"])
        self.server.devices[key.key_id[:32]] = key
        self._say(200, {"device_id": key.key_id[:32], "state": "accepted" if self.server.accepted else "pending"})

    def _challenge(self, body: dict[str, Any]) -> None:
        if body["device_id"] not in self.server.devices:
            self._say(404, {"detail": "no such device"})
            return
        challenge = base64.b64encode(os.urandom(32)).decode()
        self.server.challenges.add(challenge)
        self._say(200, {"challenge": challenge})

    def _session(self, body: dict[str, Any]) -> None:
        self.server.challenges.remove(body["challenge"])
        data = SESSION_PREFIX + base64.b64decode(body["challenge"])
        self.server.devices[body["device_id"]].verify(data, base64.b64decode(body["signature"]))
        if not self.server.accepted:
            self._say(403, {"detail": "pending"})
            return
        token = os.urandom(8).hex()
        self.server.tokens.add(token)
        self._say(200, {"token": token, "expires_in_s": 3600})

    def _events(self) -> None:
        hub = self.server
        self.close_connection = True
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        while not hub.ended.is_set():
            data = json.dumps({"assignment": hub.assignment})
            self.wfile.write(f"event: desired\ndata: {data}\n\n".encode())
            self.wfile.flush()
            hub.changed.wait()
            hub.changed.clear()

    def _known(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.server.tokens

    def _say(self, status: int, message: Any, *, etag: str = "") -> None:
        name = self.path.removeprefix(f"{DEVICE_API}/")
        self.server.calls.append((name, status))
        data = b"" if message is None else json.dumps(message).encode()
        if name in self.server.nonsense:
            data = b"<html>log in to the hotel's network</html>"
        self.send_response_only(status)
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name that http.server uses
        """Says nothing."""
