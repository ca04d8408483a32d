"""A registry in a thread, of one image, that misbehaves as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from tests.unit.image.makers import Layout

USER, PASSWORD = "robot", "s3cret"


class FakeRegistry:
    """Serves a layout's blobs and its first manifest as ``app:1``; see the fields for what can be wrong with it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.auth = ""
        """``basic`` or ``bearer``: what is asked for."""
        self.identity_token = ""
        self.cut_after = 0
        """Blobs break off after so many bytes, once each, unless `cut_always`."""
        self.cut_always = False
        self.busy = 0
        """So many requests are answered with 429 first."""
        self.busy_blobs = 0
        """The same, of blobs alone."""
        self.retry_after = 1
        self.silent_after = 0
        """Blobs stop after so many bytes, until `release` is set."""
        self.release = threading.Event()
        self.redirect_to = ""
        """Where blobs are redirected to."""
        self.wrong_bytes = False
        self.ignore_range = False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._cuts: Counter[str] = Counter()
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.domain = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def blob(self, digest: str) -> bytes | None:
        path = self.layout.path / "blobs/sha256" / digest.removeprefix("sha256:")
        return path.read_bytes() if path.is_file() else None

    def asked_for(self, part: str) -> list[dict[str, str]]:
        """Returns the headers of each request with `part` in its path."""
        return [headers for _, path, headers in self.requests if part in path]

    def cuts(self, path: str) -> bool:
        self._cuts[path] += 1
        return bool(self.cut_after) and (self.cut_always or self._cuts[path] == 1)


class _Handler(BaseHTTPRequestHandler):
    registry: FakeRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_GET(self) -> None:
        registry = self.registry
        registry.requests.append((self.command, self.path, dict(self.headers)))
        url = urlsplit(self.path)
        if url.path == "/token":
            self._token(parse_qs(url.query), self.headers.get("Authorization", ""))
        elif registry.busy or (registry.busy_blobs and "/blobs/" in url.path):
            registry.busy, registry.busy_blobs = max(0, registry.busy - 1), max(0, registry.busy_blobs - 1)
            answer = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
            self._send(429, answer, {"Retry-After": str(registry.retry_after)})
        elif not self._known():
            realm = f'Bearer realm="http://{registry.domain}/token",service="fake",scope="repository:app:pull"'
            header = realm if registry.auth == "bearer" else 'Basic realm="fake"'
            self._send(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": header})
        elif url.path == "/v2/":
            self._send(200, b"{}")
        elif url.path.startswith("/v2/app/manifests/"):
            descriptor = registry.layout.manifests[0]
            raw = registry.blob(descriptor["digest"]) or b""
            self._send(
                200, raw, {"Content-Type": descriptor["mediaType"], "Docker-Content-Digest": descriptor["digest"]}
            )
        elif url.path.startswith("/v2/app/blobs/"):
            self._blob(url.path.rpartition("/")[2])
        elif url.path == "/v2/app/tags/list":
            self._tags(parse_qs(url.query))
        else:
            self._send(404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"no\\u001b[31m such"}]}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.registry.requests.append((self.command, self.path, dict(self.headers)))
        if parse_qs(body.decode()).get("refresh_token") == [self.registry.identity_token]:
            self._send(200, json.dumps({"access_token": "good"}).encode())
        else:
            self._send(401, b"{}")

    def _known(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.registry.auth == "bearer":
            return given == "Bearer good"
        return not self.registry.auth or given == _basic()

    def _token(self, _query: dict[str, list[str]], authorization: str) -> None:
        if authorization == _basic():
            self._send(200, json.dumps({"token": "good", "expires_in": 300}).encode())
        else:
            self._send(401, b"{}")

    def _tags(self, query: dict[str, list[str]]) -> None:
        if "last" in query:
            self._send(200, b'{"name":"app","tags":["3"]}')
        else:
            link = {"Link": '</v2/app/tags/list?n=2&last=2>; rel="next"'}
            self._send(200, b'{"name":"app","tags":["1","2"]}', link)

    def _blob(self, digest: str) -> None:
        registry = self.registry
        if registry.redirect_to:
            self._send(307, b"", {"Location": f"{registry.redirect_to}{self.path}"})
            return
        data = registry.blob(digest)
        if data is None:
            self._send(404, b"{}")
            return
        if registry.wrong_bytes:
            data = bytes(len(data))
        ranged = self.headers.get("Range", "") if not registry.ignore_range else ""
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged else 0
        rest = data[start:]
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if ranged else {}
        if 0 < registry.silent_after < len(rest):
            self._send(200, rest[: registry.silent_after], headers, length=len(rest))
            self.wfile.flush()
            registry.release.wait(30)
            self.close_connection = True
        elif registry.cuts(self.path) and len(rest) > registry.cut_after:
            self._send(206 if ranged else 200, rest[: registry.cut_after], headers, length=len(rest))
            self.close_connection = True
        else:
            self._send(206 if ranged else 200, rest, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, length: int = -1) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
