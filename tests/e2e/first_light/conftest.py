"""A whole Wherry on one machine, by its command line alone: images, a project, a hub, a device."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import leftovers
from tests.fixtures.busybox import make_tree
from tests.fixtures.ports import free_port

WHERRY = str(Path(sys.executable).with_name("wherry"))
PASSWORD = "first-light-password"
_TIMEOUT_S = 60.0


class World:
    """One person's machine, one hub and one device, all below one folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.project = base / "kiosk"
        self.device_dir = base / "device"
        self.hub_dir = base / "hub"
        self.port = free_port()
        self.page = f"http://127.0.0.1:{self.port}/"
        self.hub_url = ""
        self.hub_port = free_port()
        self.env = {
            **os.environ,
            "WHERRY_ROOT": str(base / "machine"),
            "WHERRY_RUN_ROOT": str(base / "run"),
            "WHERRY_HUB_PASSWORD": PASSWORD,
            "XDG_CONFIG_HOME": str(base / "config"),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def wherry(self, *args: str, expect: int = 0, cwd: Path | None = None, **env: str) -> str:
        """Runs one command and returns what it printed on standard output (and on error, both)."""
        done = subprocess.run(
            [WHERRY, *args], capture_output=True, text=True, cwd=cwd or self.base, env={**self.env, **env}, check=False
        )
        assert done.returncode == expect, f"wherry {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        if expect != 0:
            assert len(done.stderr.strip().splitlines()) == 1, f"an error is one line, not:\n{done.stderr}"
            assert "Traceback" not in done.stderr
            return done.stderr
        return done.stdout

    def json(self, *args: str, cwd: Path | None = None) -> Any:
        """Runs a command with ``--json``."""
        return json.loads(self.wherry(*args, "--json", cwd=cwd))

    def start(self, name: str, *args: str, **env: str) -> None:
        """Starts a long-lived command."""
        with (self.base / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [WHERRY, *args], env={**self.env, **env}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ends one."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(30)

    def wait(self, what: str, ready: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert time.monotonic() < deadline, f"waited for {what}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """Returns the ends of all logs, for the message of a failed test."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2500:]}" for path in sorted(self.base.glob("*.log")))

    # --- hub and device

    def serve(self) -> None:
        """Starts the hub, the first time after making it."""
        if not self.hub_dir.exists():
            self.wherry("hub", "init", str(self.hub_dir))
        ready = self.base / "hub.url"
        ready.unlink(missing_ok=True)
        listen = f"127.0.0.1:{self.hub_port}"
        self.start("hub", "hub", "serve", "--dir", str(self.hub_dir), "--listen", listen, "--ready-file", str(ready))
        self.wait("the hub", ready.exists)
        self.hub_url = ready.read_text().strip()

    def run_device(self, **env: str) -> None:
        """Starts the device's agent."""
        self.start("device", "device", "run", "--dir", str(self.device_dir), **env)

    def enrol(self) -> None:
        """Enrols and accepts the device, and starts its agent."""
        token = self.base / "token"
        token.write_text(self.json("fleet", "token", "create")["token"])
        token.chmod(0o600)
        owner = self.base / "owner.pub"
        owner.write_text(self.wherry("key", "public", str(self.project / ".wherry/key")))
        self.wherry(
            "device", "enroll", "--dir", str(self.device_dir), "--hub", self.hub_url, "--token-file", str(token),
            "--trust", str(owner), "--name", "kiosk-1",
        )  # fmt: skip
        self.run_device()
        self.wherry("fleet", "accept", "kiosk-1")

    def device(self) -> dict[str, Any]:
        """Returns the device, as the hub knows it."""
        found: dict[str, Any] = self.json("fleet", "devices")[0]
        return found

    def settled(self, revision: str | None, state: str) -> Callable[[], bool]:
        """Returns a question: does the device run `revision`, and report `state`?"""

        def ask() -> bool:
            device = self.device()
            return bool(device.get("current") == revision and device.get("update_state") == state)

        return ask

    def apps(self) -> dict[str, Any]:
        """Returns app name -> what the device says of it."""
        return {app["name"]: app for app in self.json("device", "status", "--dir", str(self.device_dir))["apps"]}

    # --- the project

    def write(self, path: str, text: str) -> None:
        """Writes one file of the project."""
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def compose(self, *, web_command: str = "httpd -f -p 80 -h /etc/site & wait", extra: str = "") -> None:
        """Writes a Compose file with a web server and an app beside it; both end at once when they are told to."""
        self.write(
            "compose.yaml",
            f"""services:
  web:
    image: demo/busybox:1
    command: [sh, -c, "trap 'exit 0' TERM; {web_command}"]
    ports: ["127.0.0.1:{self.port}:80"]
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:80/"]
      interval: 500ms
      timeout: 2s
      retries: 2
{extra}
  side:
    image: demo/busybox:1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do echo tick; sleep 1 & wait; done"]
""",
        )

    def headline(self, text: str) -> None:
        """Writes the web server's page."""
        self.write("config/web/site/index.html", f"<h1>{text}</h1>\n")

    def commit(self, message: str = "a change") -> str:
        """Commits everything, and returns the revision."""
        self.wherry("commit", "-a", "-m", message, cwd=self.project)
        revision: str = self.json("log", "-n", "1", cwd=self.project)[0]["commit"]
        return revision

    def deploy(self, message: str = "a change") -> str:
        """Commits, pushes and assigns."""
        revision = self.commit(message)
        self.wherry("push", cwd=self.project)
        self.wherry("fleet", "assign", "kiosk-1", revision)
        return revision

    def shown(self) -> str:
        """Returns the headline that the device serves; "" while nothing answers."""
        try:
            with urllib.request.urlopen(self.page, timeout=5) as answer:
                match = re.search(r"<h1>(.*)</h1>", answer.read().decode())
        except OSError:
            return ""
        assert match
        return match.group(1)


@pytest.fixture(scope="session")
def busybox_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root tree of busybox alone."""
    applets = "sh httpd wget sleep echo cat true false ps"
    tree = make_tree(tmp_path_factory.mktemp("tree"), applets, folders="tmp root usr/share")
    (tree / "usr/share/big").write_bytes(bytes(range(256)) * 4096 * 4)
    return tree


@pytest.fixture
def bare_world(tmp_path: Path, busybox_tree: Path) -> Iterator[World]:
    """A machine with an image and a project; no hub, no device. Nothing may be left behind."""
    before = leftovers.snapshot()
    world = World(tmp_path)
    world.wherry("image", "import", str(busybox_tree), "--name", "demo/busybox:1")
    world.wherry("init", "--name", "kiosk", str(world.project))
    world.write("wherry.yaml", "name: kiosk\nhealth:\n  timeout: 20s\n  stable: 1s\n")
    world.compose()
    world.headline("one")
    try:
        yield world
    finally:
        for name in list(world.processes):
            world.stop(name)
        if world.device_dir.exists():
            world.wherry("device", "down", "--dir", str(world.device_dir))
    after = leftovers.snapshot()
    after["processes"] = [line for line in after["processes"] if str(tmp_path) in line]
    left = [f"{kind}: {item}" for kind, items in after.items() for item in items if item not in before[kind]]
    assert left == []


@pytest.fixture
def world(bare_world: World) -> World:
    """A machine, a hub that serves, and a device that is enrolled and accepted."""
    bare_world.serve()
    bare_world.wherry("fleet", "login", bare_world.hub_url, "--user", "admin")
    bare_world.wherry("remote", "add", "origin", bare_world.hub_url, cwd=bare_world.project)
    bare_world.enrol()
    return bare_world
