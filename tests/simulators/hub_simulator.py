"""A hub that fits in a test: the routes below ``/api/v1`` that push and clone need, and ``/repo`` as static files.

It keeps docs/reference/hub-api.md to the letter where objects are concerned (each is checked as it arrives, a ref moves
only to a complete revision and only from where it is expected), and can be told to misbehave: to drop the connection
in the middle of a pack, to answer with an error, to be slow on nothing. Everything that it is asked is written down.
"""

from __future__ import annotations

import io
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.revision.load import component_commits, load_revision
from wherry.store.format.objects import Mode, ObjectType, parse_object_name
from wherry.store.repository import Repository
from wherry.store.tree.walk import gaps

USER = "admin"
PASSWORD = "swordfish"
TOKEN = "token-of-the-simulator"


@dataclass
class Faults:
    """What goes wrong next; each is used up when it has happened."""

    cut_pack_after_bytes: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Answers to the next packs."""


class HubSimulator:
    """The hub: its repository, its address, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repository.init(folder / "repo", Mode.ARCHIVE)
        self.faults = Faults()
        self.requests: list[str] = []
        self.pack_bytes = 0
        self.packs = 0
        self.stored: list[str] = []
        self.lock = threading.Lock()
        self.before_ref: list[tuple[Ref, Checksum]] = []
        """Refs that somebody else moves just before the next ref update."""
        self.url = ""

    def ref(self, ref: str) -> Checksum | None:
        """Returns where a ref stands."""
        return self.repo.refs().get(Ref(ref))


@contextmanager
def hub_simulator(folder: Path) -> Iterator[HubSimulator]:
    """Runs a hub for as long as the block runs."""
    hub = HubSimulator(folder)

    class Handler(_Handler):
        simulator = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class _Handler(BaseHTTPRequestHandler):
    simulator: HubSimulator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name there
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        hub = self.simulator
        hub.requests.append(f"{self.command} {self.path}")
        try:
            if self.path != "/api/v1/login" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise _Refused(401, "log in first")
            self._route(hub)
        except _Refused as error:
            self.close_connection = True
            self._answer({"detail": error.detail}, error.status)
        except (InvalidInput, IntegrityError) as error:
            self.close_connection = True
            self._answer({"detail": str(error)}, 422)

    def _route(self, hub: HubSimulator) -> None:
        if self.path.startswith("/repo/"):
            self._static(hub.repo.path, self.path.removeprefix("/repo/"))
        elif self.path == "/api/v1/login":
            asked = self._json()
            if (asked["user"], asked["password"]) != (USER, PASSWORD):
                raise _Refused(401, "no")
            self._answer({"token": TOKEN, "user": USER, "expires_in_s": 3600})
        elif self.path == "/api/v1/repo/refs":
            self._answer({"refs": dict(hub.repo.refs())})
        elif self.path == "/api/v1/repo/missing":
            names = self._json()["objects"]
            if len(names) > 10_000:
                raise _Refused(422, "too many names")
            lacking = [name for name in names if not hub.repo.has(*parse_object_name(name))]
            self._answer({"objects": lacking})
        elif self.path == "/api/v1/repo/pack":
            self._pack(hub)
        elif self.path.startswith("/api/v1/repo/refs/"):
            self._ref(hub, Ref(self.path.removeprefix("/api/v1/repo/refs/")))
        else:
            raise _Refused(404, "no such route")

    def _static(self, root: Path, name: str) -> None:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise _Refused(404, "no such file")
        data = path.read_bytes()
        start = 0
        if (asked := self.headers.get("Range")) is not None:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def _pack(self, hub: HubSimulator) -> None:
        length = int(self.headers["Content-Length"])
        with hub.lock:
            hub.packs += 1
            cut = hub.faults.cut_pack_after_bytes.pop(0) if hub.faults.cut_pack_after_bytes else None
            status = hub.faults.statuses.pop(0) if hub.faults.statuses else None
        data = self.rfile.read(length if cut is None else min(cut, length))
        if status is not None:
            raise _Refused(status, "told to")
        hub.pack_bytes += len(data)
        count = 0
        for name, body in read_pack(io.BytesIO(data), cut_short=cut is not None):
            kind, checksum = parse_object_name(name)
            hub.repo.write_object(kind, body, checksum)
            hub.stored.append(name)
            count += 1
        if cut is not None:
            self.close_connection = True
            self.connection.close()
            return
        self._answer({"stored": count, "present": 0, "bytes": len(data)})

    def _ref(self, hub: HubSimulator, ref: Ref) -> None:
        asked = self._json()
        with hub.lock:
            for moved, commit in hub.before_ref:
                hub.repo.set_ref(moved, commit)
            hub.before_ref.clear()
            if hub.ref(ref) != asked.get("expected"):
                raise _Refused(409, f"{ref} stands at {hub.ref(ref)}")
            commit = Checksum(asked["commit"])
            try:
                for wanted in (commit, *component_commits(load_revision(hub.repo, commit))):
                    lacking = next(gaps(hub.repo, wanted), None)
                    if lacking is not None:
                        raise _Refused(409, f"incomplete: lacks {lacking}")
            except NotFound as error:
                raise _Refused(409, f"incomplete: {error}") from error
            hub.repo.set_ref(ref, commit)
        self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def read_pack(stream: BinaryIO, *, cut_short: bool = False) -> Iterator[tuple[str, bytes]]:
    """Gives the objects of a pack; with `cut_short`, those that are whole."""
    while head := stream.read(2):
        name = stream.read(struct.unpack(">H", head)[0]) if len(head) == 2 else b""
        size = stream.read(8)
        data = stream.read(struct.unpack(">Q", size)[0]) if len(size) == 8 else b""
        if len(head) < 2 or len(size) < 8 or len(data) < struct.unpack(">Q", size)[0]:
            if cut_short:
                return
            raise InvalidInput("the pack is cut short")
        yield name.decode(), data


__all__ = ["PASSWORD", "TOKEN", "USER", "HubSimulator", "ObjectType", "hub_simulator", "read_pack"]
