"""A real hub, a maker of revisions, and a device that is driven by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fixtures.busybox import make_tree
from tests.simulators.device_proxy import Road

from wherry.core.digest import Checksum, Ref
from wherry.image.importing import import_image
from wherry.revision.hubclient import HubClient
from wherry.revision.sign import sign_commit
from wherry.spec.container import App, AppImage, Healthcheck, PortMapping
from wherry.spec.revision import HealthPolicy, Revision, serialize_revision
from wherry.spec.wire import DeviceInfo, UpdateState
from wherry.store.format.objects import DirMeta, FileHeader, Mode
from wherry.store.pull.local import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.trust.keys import PrivateKey

PASSWORD = "a long enough password"
TIMEOUT_S = 60.0
WHERRY = (sys.executable, "-m", "wherry")
_DIR = DirMeta(uid=0, gid=0, mode=0o40755, xattrs=())
_FILE = FileHeader(uid=0, gid=0, mode=0o100644, symlink_target="", xattrs=())
# the first process of a pid namespace ignores SIGTERM unless it says otherwise
SERVE = ("sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /etc/site & wait")
TICK = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait; done")
QUICK = HealthPolicy(timeout_ms=20_000, stable_ms=500)


def busybox_tree(folder: Path) -> Path:
    """Makes a root tree of busybox alone."""
    return make_tree(folder, "sh httpd wget sleep echo cat true false kill", folders="tmp root")


class Maker:
    """The owner: makes images and signed revisions."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repository.init(folder / "repo", Mode.ARCHIVE)
        self.key = PrivateKey.generate()
        self.public = folder / "owner.pub"
        self.key.public.save(self.public)
        self._count = 0

    def image(self, tree: Path, name: str) -> AppImage:
        record = import_image(self.repo, str(tree), name=name)
        return AppImage(reference=name, commit=record.commit, digest=record.digest)

    def revision(
        self,
        apps: Mapping[str, App],
        *,
        config: Mapping[str, Mapping[str, bytes]] | None = None,
        health: HealthPolicy = QUICK,
        key: PrivateKey | None = None,
        target: str = "",
    ) -> Checksum:
        """Makes a signed revision; `config` is app -> path below /etc -> content."""
        self._count += 1
        trees: dict[str, Checksum] = {}
        with self.repo.transaction():
            builder = TreeBuilder(self.repo, _DIR)
            for app, files in (config or {}).items():
                own = TreeBuilder(self.repo, _DIR)
                for target_tree, prefix in ((builder, f"config/{app}/"), (own, "")):
                    for path, content in files.items():
                        folder = f"{prefix}{path}".rpartition("/")[0]
                        if folder:
                            target_tree.mkdir(folder, _DIR, parents=True)
                        target_tree.add_file(f"{prefix}{path}", _FILE, content)
                trees[app] = own.write()[0]
            pinned = {name: _with_config(app, trees.get(name)) for name, app in apps.items()}
            document = Revision(format=1, name="kiosk", target=target, apps=pinned, health=health)
            builder.add_file("revision.json", _FILE, serialize_revision(document))
            tree, meta = builder.write()
            made = commit_tree(self.repo, tree, meta, subject=f"number {self._count}", timestamp_s=self._count)
            sign_commit(self.repo, made, key or self.key)
        return made


def _with_config(app: App, tree: Checksum | None) -> App:
    from wherry.core.value import replace

    return replace(app, config=tree)


def web(image: AppImage, port: int, *, command: tuple[str, ...] = SERVE, **settings: Any) -> App:
    """Returns a web server that serves /etc/site."""
    check = Healthcheck(
        test=("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:80/"),
        interval_ms=200,
        timeout_ms=2000,
        retries=5,
    )
    ports = (PortMapping(container_port=80, host_port=port, host_ip="127.0.0.1"),)
    return App(image=image, command=command, ports=ports, healthcheck=check, **settings)


def site(text: str) -> dict[str, bytes]:
    """Returns the configuration of a web server that serves one page."""
    return {"site/index.html": text.encode()}


class HubProcess:
    """A hub that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {**os.environ, "WHERRY_HUB_PASSWORD": PASSWORD}
        subprocess.run([*WHERRY, "hub", "init", str(folder)], env=self._env, check=True, capture_output=True)
        self.log = folder.parent / "hub.log"
        ready = folder.parent / "hub.ready"
        command = ["hub", "serve", "--dir", str(folder), "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*WHERRY, *command, "--poll-interval", "2s"], env=self._env, stdout=log, stderr=log
            )
        deadline = time.monotonic() + TIMEOUT_S
        while not ready.exists():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.url = ready.read_text().strip()
        self.client = HubClient(self.url)
        self.client = HubClient(self.url, self.client.login("admin", PASSWORD).token)
        self._repo = Repository.open(folder / "repo")

    def publish(self, maker: Maker, revision: Checksum) -> None:
        """Brings a revision and its components to the hub, as a push does."""
        from wherry.revision.load import component_commits, load_revision

        components = component_commits(load_revision(maker.repo, revision))
        pull_local(self._repo, maker.repo, [*components, revision])
        ref = Ref(f"revision/kiosk-{revision[:8]}")
        self.client.move_ref(ref, revision, expected=None)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


class Device:
    """One device: its folder, its road to the hub, and the command line."""

    def __init__(self, base: Path, hub: HubProcess, road: Road, maker: Maker, *, folder: Path | None = None) -> None:
        self.base = base
        self.folder = folder or base / "device"
        self.hub = hub
        self.road = road
        self.maker = maker
        self.env = {**os.environ, "WHERRY_RUN_ROOT": str(base / "run")}
        self.id = ""
        self._agent: subprocess.Popen[bytes] | None = None

    def wherry(self, *args: str, expect: int = 0, **env: str) -> str:
        """Runs one device command; an error is one line, which is returned."""
        done = subprocess.run(
            [*WHERRY, "device", *args, "--dir", str(self.folder)],
            capture_output=True,
            text=True,
            env={**self.env, **env},
            check=False,
            timeout=120,
        )
        assert done.returncode == expect, f"device {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        if expect > 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("wherry: ")]
            assert len(errors) == 1, done.stderr
            assert "Traceback" not in done.stderr
            return errors[0]
        return done.stdout

    def enrol(self, *options: str) -> None:
        """Enrols the device and has it accepted."""
        token = self.hub.client.make_enrolment_token().token
        name = f"device-{os.urandom(4).hex()}"
        trust = ("--trust", str(self.maker.public), "--name", name)
        self.id = self.wherry(
            "enroll", "--hub", self.road.url, "--token-env", "TOKEN", *trust, *options, TOKEN=token
        ).strip()
        self.hub.client.accept(self.id)

    def assign(self, revision: Checksum) -> None:
        """Publishes a revision and orders it."""
        if revision not in {info.commit for info in self.hub.client.revisions()}:
            self.hub.publish(self.maker, revision)
        self.hub.client.assign(self.id, revision)

    def deploy(self, revision: Checksum, *, expect: int = 0) -> str:
        """Orders a revision and has the device look once."""
        self.assign(revision)
        return self.wherry("run", "--once", expect=expect)

    def start(self, **env: str) -> None:
        """Starts the agent."""
        with (self.base / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                [*WHERRY, "device", "run", "--dir", str(self.folder)], env={**self.env, **env}, stdout=log, stderr=log
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the agent, and returns its status."""
        assert self._agent is not None
        self._agent.send_signal(number)
        status = self._agent.wait(30)
        self._agent = None
        return status

    def died(self) -> int:
        """Waits for the agent's end."""
        assert self._agent is not None
        status = self._agent.wait(TIMEOUT_S)
        self._agent = None
        return status

    def close(self) -> None:
        """Ends all, and removes every container."""
        if self._agent is not None:
            self.stop()
        if (self.folder / "identity.json").exists():
            self.wherry("down")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.wherry("status", "--json"))
        return found

    def apps(self) -> dict[str, dict[str, Any]]:
        return {app["name"]: app for app in self.status()["apps"]}

    def on_hub(self) -> DeviceInfo:
        return self.hub.client.device(self.id)

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            log = self.base / "agent.log"
            assert time.monotonic() < deadline, (
                f"waited for {what}: {self.on_hub()}\n{log.read_text()[-3000:] if log.exists() else ''}"
            )
            time.sleep(0.05)

    def settled(self, revision: Checksum | None, state: UpdateState) -> Callable[[], bool]:
        def ask() -> bool:
            found = self.on_hub()
            return found.current == revision and found.update_state is state

        return ask
