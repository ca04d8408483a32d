"""A real hub process on loopback, and a device and a person who speak to it."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import HttpError
from wherry.core.http import HttpClient, ServerSentEvent
from wherry.spec.codec import encode
from wherry.spec.container import App, AppImage
from wherry.spec.revision import Revision, serialize_revision
from wherry.spec.wire import PACK_TYPE, Progress, UpdateState
from wherry.store.format.objects import DirMeta, FileHeader, Mode, ObjectType, object_name
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import reachable
from wherry.trust.keys import PrivateKey

PASSWORD = "a long enough password"
START_TIMEOUT_S = 30


@dataclass
class HubProcess:
    """A hub that runs, and can be started again."""

    path: Path
    options: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    log_to: Path | None = None

    def command(self, *args: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "wherry", *args]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "WHERRY_HUB_PASSWORD": PASSWORD, **self.env}

    def wherry(self, *args: str) -> str:
        done = subprocess.run(self.command(*args), env=self.environment(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def start(self) -> None:
        ready = self.path.parent / f"{self.path.name}.ready"
        ready.unlink(missing_ok=True)
        listen = self.url.partition("//")[2] or "127.0.0.1:0"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(
                    "--debug", "hub", "serve", f"--dir={self.path}", f"--listen={listen}", f"--ready-file={ready}"
                )
                + list(self.options),
                env=self.environment(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.url = ready.read_text().strip()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    @property
    def log_path(self) -> Path:
        return self.log_to or self.path.parent / f"{self.path.name}.log"

    def log(self) -> str:
        return self.log_path.read_text()

    def token(self, uses: int = 1) -> str:
        body = {"uses": uses, "expires_in_s": 3600}
        return str(self.login().json("POST", "/api/v1/enrolment-tokens", body)["token"])

    def login(self) -> HttpClient:
        client = HttpClient(self.url, tries=1)
        answer = client.json("POST", "/api/v1/login", {"user": "admin", "password": PASSWORD})
        client.token = answer["token"]
        return client


@pytest.fixture(scope="session")
def made_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder, made once by the real command and copied for every test."""
    found = HubProcess(path=tmp_path_factory.mktemp("hub") / "made")
    found.wherry("hub", "init", str(found.path))
    return found.path


@pytest.fixture
def start_hub(tmp_path: Path, made_hub: Path) -> Iterator[Callable[..., HubProcess]]:
    running: list[HubProcess] = []

    def start(name: str = "hub", **kwargs: Any) -> HubProcess:
        found = HubProcess(path=tmp_path / name, **kwargs)
        shutil.copytree(made_hub, found.path)
        running.append(found)
        found.start()
        return found

    yield start
    for one in running:
        if one.process is not None:
            one.stop(signal.SIGKILL)


@pytest.fixture
def hub(start_hub: Callable[..., HubProcess]) -> HubProcess:
    return start_hub()


@dataclass
class Device:
    """A device's side of the protocol, and nothing more."""

    url: str
    key: PrivateKey
    sequence: int = 0
    id: str = ""

    def __post_init__(self) -> None:
        self.client = HttpClient(self.url, tries=1)

    def enrol(self, token: str, name: str = "kiosk") -> dict[str, Any]:
        body = {"token": token, "public_key": self.key.public.base64, "name": name, "facts": {"machine": "x86_64"}}
        answer: dict[str, Any] = self.client.json("POST", "/api/device/v1/enroll", body)
        self.id = answer["device_id"]
        return answer

    def challenge(self) -> str:
        answer = self.client.json("POST", "/api/device/v1/challenge", {"device_id": self.id})
        return str(answer["challenge"])

    def session(self, challenge: str | None = None) -> None:
        challenge = challenge or self.challenge()
        signature = self.key.sign(b"wherry-session-v1\n" + base64.b64decode(challenge))
        body = {
            "device_id": self.id,
            "challenge": challenge,
            "signature": base64.b64encode(signature).decode(),
        }
        self.client.token = self.client.json("POST", "/api/device/v1/session", body)["token"]

    def desired(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.json("GET", "/api/device/v1/desired")
        return found

    def report(self, state: UpdateState, *, assignment: int, running: str | None, **kwargs: Any) -> dict[str, Any]:
        self.sequence += 1
        message = Progress(
            assignment=assignment, state=state, running=running, sequence=self.sequence, **{"revision": None, **kwargs}
        )
        answer: dict[str, Any] = self.client.json("POST", "/api/device/v1/progress", encode(message))
        return answer


@pytest.fixture
def make_device(hub: HubProcess) -> Callable[..., Device]:
    def make(name: str = "kiosk", *, accepted: bool = True) -> Device:
        device = Device(url=hub.url, key=PrivateKey.generate())
        device.enrol(hub.token(), name)
        if accepted:
            hub.login().json("POST", f"/api/v1/devices/{device.id}/accept")
            device.session()
        return device

    return make


class Listener:
    """Collects the events of a stream in a thread, with the time when each came."""

    def __init__(self, client: HttpClient, path: str) -> None:
        self.events: list[tuple[float, ServerSentEvent]] = []
        self.ended = threading.Event()
        self._client, self._path = client, path
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._client.events(self._path):
                self.events.append((time.monotonic(), event))
        except HttpError:
            raise
        except Exception:
            pass
        finally:
            self.ended.set()

    def wait(self, count: int, timeout_s: float = 10.0) -> list[ServerSentEvent]:
        deadline = time.monotonic() + timeout_s
        while len(self.events) < count:
            assert time.monotonic() < deadline, f"{len(self.events)} of {count} events"
            time.sleep(0.002)
        return [event for _, event in self.events]


ROOT = FileHeader(uid=0, gid=0, mode=0o100644)


def make_revision(
    repo: Repository,
    *,
    subject: str = "first",
    page: bytes = b"<h1>hello</h1>",
    parent: Checksum | None = None,
    time_s: int = 1_700_000_000,
) -> tuple[Checksum, Checksum]:
    """Commits an image and a revision that pins it; returns the revision's commit and the image's."""
    with repo.transaction():
        image = TreeBuilder(repo)
        image.mkdir("srv", DirMeta())
        image.add_file("srv/index.html", ROOT, page)
        image.symlink("srv/default", "index.html", FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="index.html"))
        component = commit_tree(repo, *image.write(), subject="web image", timestamp_s=time_s)
        app = App(image=AppImage(reference="web:1", commit=component, digest="sha256:" + component))
        revision = Revision(format=1, name="kiosk", apps={"web": app})
        tree = TreeBuilder(repo)
        tree.add_file("revision.json", ROOT, serialize_revision(revision))
        tree.add_file("compose.yaml", ROOT, b"services: {web: {image: 'web:1'}}\n")
        commit = commit_tree(
            repo, *tree.write(), subject=subject, parent=parent, timestamp_s=time_s, ref=Ref("revision/kiosk")
        )
    return commit, component


def pack_bytes(objects: Iterable[tuple[str, bytes]]) -> bytes:
    return b"".join(
        struct.pack(">H", len(name)) + name.encode() + struct.pack(">Q", len(data)) + data for name, data in objects
    )


def objects_of(repo: Repository, *commits: Checksum) -> list[tuple[str, bytes]]:
    """Returns name and bytes of every object of some commits, of an archive repository."""
    found: set[tuple[ObjectType, Checksum]] = set()
    for commit in commits:
        found |= reachable(repo, commit)
    return [
        (object_name(kind, checksum, Mode.ARCHIVE), repo.object_path(kind, checksum).read_bytes())
        for kind, checksum in sorted(found, key=lambda item: (item[0].value, item[1]))
        if repo.has(kind, checksum)
    ]


def push(
    client: HttpClient, repo: Repository, commit: Checksum, component: Checksum, expected: str | None = None
) -> None:
    objects = objects_of(repo, commit, component)
    names = [name for name, _ in objects]
    missing = set(client.json("POST", "/api/v1/repo/missing", {"objects": names})["objects"])
    body = pack_bytes(item for item in objects if item[0] in missing)
    send_pack(client, body)
    client.json("PUT", "/api/v1/repo/refs/revision/kiosk", {"commit": commit, "expected": expected})


def send_pack(client: HttpClient, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": PACK_TYPE}
    with client.open("POST", "/api/v1/repo/pack", body=iter([body]), headers=headers) as response:
        from wherry.core.http import status_error
        from wherry.core.jsonio import loads

        if response.status != 200:
            raise status_error(response)
        answer: dict[str, Any] = loads(response.read_all())
        return answer


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "source", Mode.ARCHIVE)
