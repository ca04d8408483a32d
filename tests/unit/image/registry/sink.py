"""A registry in a thread that blobs are pushed to, and that breaks off as it is told."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


class Sink:
    """Takes blobs into ``app``; see the fields for what can go wrong."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.elsewhere: dict[str, bytes] = {}
        """Those of the repository ``other``."""
        self.uploads: dict[str, bytearray] = {}
        self.cut_patch_after = -1
        """The first PATCH is read so far; then the connection closes."""
        self.forget_at_cut = False
        self.lose_answer = False
        """The first PUT is done, and not answered."""
        self.refuse_patch = 0
        """The status of every PATCH, if not 0."""
        self.chunk_min = 0
        self.methods: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.scopes: list[str] = []
        self.bearer = False
        handler = type("Handler", (_Handler,), {"sink": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.domain = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    sink: Sink
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def _begin(self) -> tuple[str, dict[str, list[str]]]:
        self.sink.methods[self.command] += 1
        url = urlsplit(self.path)
        return url.path, parse_qs(url.query)

    def _known(self) -> bool:
        if not self.sink.bearer or self.headers.get("Authorization", "").startswith("Bearer "):
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        realm = f'Bearer realm="http://{self.sink.domain}/token",service="sink"'
        self._send(401, {"WWW-Authenticate": realm})
        return False

    def do_HEAD(self) -> None:
        path, _ = self._begin()
        if self._known():
            self._send(200 if path.rpartition("/")[2] in self.sink.blobs else 404)

    def do_GET(self) -> None:
        path, query = self._begin()
        if path == "/token":
            self.sink.scopes = query.get("scope", [])
            self._send(200, body=b'{"token":"t"}')
        elif path == "/v2/":
            self._send(200)
        elif path in self.sink.uploads:
            self._send(204, {"Location": path, "Range": f"0-{max(0, len(self.sink.uploads[path]) - 1)}"})
        else:
            self._send(404)

    def do_POST(self) -> None:
        _, query = self._begin()
        if not self._known():
            return
        mounted = query.get("mount", [""])[0]
        if query.get("from") == ["other"] and mounted in self.sink.elsewhere:
            self.sink.blobs[mounted] = self.sink.elsewhere[mounted]
            self._send(201, {"Location": f"/v2/app/blobs/{mounted}"})
            return
        place = f"/v2/app/blobs/uploads/{self.sink.methods['POST']}"
        self.sink.uploads[place] = bytearray()
        more = {"OCI-Chunk-Min-Length": str(self.sink.chunk_min)} if self.sink.chunk_min else {}
        self._send(202, {"Location": place, **more})

    def do_PATCH(self) -> None:
        sink = self.sink
        path, _ = self._begin()
        length = int(self.headers["Content-Length"])
        sink.ranges.append(self.headers["Content-Range"])
        if sink.cut_patch_after >= 0:
            sink.uploads[path] += self.rfile.read(sink.cut_patch_after)
            sink.cut_patch_after = -1
            if sink.forget_at_cut:
                del sink.uploads[path]
            self.close_connection = True
            return
        data = self.rfile.read(length)
        if sink.refuse_patch:
            self._send(sink.refuse_patch)
            return
        if int(self.headers["Content-Range"].partition("-")[0]) != len(sink.uploads[path]):
            self._send(416)
            return
        sink.uploads[path] += data
        self._send(202, {"Location": path})

    def do_PUT(self) -> None:
        path, query = self._begin()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._known():
            return
        whole = bytes(self.sink.uploads.pop(path) + data)
        digest = "sha256:" + hashlib.sha256(whole).hexdigest()
        if query["digest"] != [digest]:
            self._send(400)
            return
        self.sink.blobs[digest] = whole
        if self.sink.lose_answer:
            self.sink.lose_answer = False
            self.close_connection = True
            return
        self._send(201, {"Location": "/", "Docker-Content-Digest": digest})

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
