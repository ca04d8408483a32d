"""A device made of simulators in one folder: it can be killed, and taken up again by another process."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.simulators.device_engine import SimContainer, SimEngine
from tests.simulators.device_supply import SimSupply

from wherry.core import trace
from wherry.core.digest import Checksum
from wherry.core.errors import NetworkError
from wherry.device.agent import Agent, HubSide, Timing, device_lock
from wherry.device.attention import Attention
from wherry.device.hub import LinkFile
from wherry.device.journal import Journal
from wherry.device.machine import State
from wherry.device.paths import DevicePaths
from wherry.device.state import load_state
from wherry.device.updater import Updater, World
from wherry.spec.codec import decode, encode
from wherry.spec.container import App
from wherry.spec.revision import HealthPolicy, Revision
from wherry.spec.wire import Desired, Progress, ProgressAnswer

QUICK = Timing(retry_base_s=0.0, retry_most_s=0.0, hub_base_s=0.0, hub_most_s=0.0)


class SimHub:
    """A hub in a folder: what it wants, and what it was told."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def assign(self, assignment: int, revision: Checksum | None) -> None:
        (self._root / "desired").write_text(json.dumps([assignment, revision]))

    def go_down(self) -> None:
        (self._root / "down").touch()

    def come_up(self) -> None:
        (self._root / "down").unlink(missing_ok=True)

    def lost_from(self, container_name_part: str) -> None:
        """Has the hub not be reached as long as such a container runs."""
        (self._root / "lost-from").write_text(container_name_part)

    def desired(self) -> Desired:
        self._refuse_when_down()
        try:
            assignment, revision = json.loads((self._root / "desired").read_text())
        except FileNotFoundError:
            assignment, revision = 0, None
        return Desired(
            assignment=assignment, revision=revision, poll_interval_s=1, poll_jitter_percent=0, time_s=1_800_000_000
        )

    def report(self, progress: Progress) -> ProgressAnswer:
        self._refuse_when_down()
        with (self._root / "reports").open("a") as file:
            file.write(json.dumps(encode(progress)) + "\n")
        return ProgressAnswer(accepted=True, assignment=progress.assignment)

    def prove(self, timeout_s: float) -> None:
        self._refuse_when_down()
        lost = self._root / "lost-from"
        if lost.exists():
            engine = SimEngine(self._root.parent / "device" / "engine")
            if any(lost.read_text() in each.name and each.status == "running" for each in engine.list()):
                raise NetworkError("no answer: Connection refused", where="http://hub.example")

    def reports(self) -> list[Progress]:
        path = self._root / "reports"
        lines = path.read_text().splitlines() if path.exists() else []
        return [decode(Progress, json.loads(line)) for line in lines]

    def _refuse_when_down(self) -> None:
        if (self._root / "down").exists():
            raise NetworkError("no answer: Connection refused", where="http://hub.example")


class Rig:
    """One device with its hub, all simulated."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = DevicePaths(root / "device")
        self.paths.root.mkdir(parents=True, exist_ok=True)
        self.engine = SimEngine(self.paths.engine)
        self.supply = SimSupply(root / "offers", self.paths.store)
        self.hub = SimHub(root / "hub")
        self.journal = Journal(self.paths.log)

    def offer(self, name: str, apps: Mapping[str, App], **settings: Any) -> Checksum:
        health = HealthPolicy(**{"timeout_ms": 300, "stable_ms": 0, **settings.pop("health", {})})
        document = Revision(format=1, name=name, apps=apps, health=health, **settings)
        return self.supply.offer(document)

    def agent(self) -> Agent:
        world = World(
            paths=self.paths,
            supply=self.supply,
            containers=self.engine,
            hub=self.hub,
            waiter=(attention := Attention(self.paths.wake)),
            journal=self.journal,
            target="amd64",
        )
        return Agent(
            self.paths,
            attention,
            self.journal,
            LinkFile(self.paths.link),
            HubSide(hub=self.hub, send=self._send, flush=lambda _: True),
            lambda report: Updater(world, report),
            QUICK,
        )

    def once(self) -> Agent:
        """Runs the agent for one cycle, in this process."""
        with device_lock(self.paths):
            agent = self.agent()
            agent.run_once()
        return agent

    def deploy(self, assignment: int, revision: Checksum) -> Agent:
        self.hub.assign(assignment, revision)
        return self.once()

    def in_child(self, work: Callable[[], object]) -> int:
        """Does `work` in a child process and returns its exit status, negative for a signal."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def once_until(self, count: int) -> int:
        """Runs one cycle in a child that is killed when it reaches its `count`-th trace point."""

        def work() -> None:
            left = count

            def observe(_: str) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            trace.observe(observe)
            self.once()

        return self.in_child(work)

    def points_of_once(self) -> list[str]:
        """Returns the trace points that one cycle reaches, in order."""
        file = self.root / "points"

        def work() -> None:
            with file.open("w") as out:
                trace.observe(lambda point: print(point, file=out, flush=True))
                self.once()

        assert self.in_child(work) == 0
        return file.read_text().split()

    @property
    def state(self) -> State:
        return load_state(self.paths.state)

    def running(self) -> dict[str, SimContainer]:
        """Returns app -> its running container; more than one for an app is a failure."""
        found: dict[str, SimContainer] = {}
        for container in self.engine.list():
            if container.status == "running":
                name = container.labels["io.wherry.device.app"]
                assert name not in found, f"two containers of {name} run"
                found[name] = container
        return found

    def _send(self, progress: Progress) -> None:
        try:
            self.hub.report(progress)
        except NetworkError:
            return
