"""The main job: deploy, update, break and roll back, lose power, over the command line and a real hub."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.first_light.conftest import World


def test_deploy_update_and_roll_back(world: World) -> None:
    one = world.deploy("one")
    world.wait("revision one", world.settled(one, "done"))
    assert world.shown() == "one"
    before = world.apps()

    world.headline("two")
    assert "config/web/site/index.html" in world.wherry("diff", cwd=world.project)
    two = world.deploy("two")
    world.wait("revision two", world.settled(two, "done"))
    assert world.shown() == "two"
    after = world.apps()
    assert after["side"]["pid"] == before["side"]["pid"], "an app that did not change is not touched"
    assert after["web"]["pid"] != before["web"]["pid"]
    assert world.device()["bytes_total"] < 100_000, "only what changed crosses the wire"

    world.compose(web_command="echo this is broken >&2; exit 3")
    three = world.deploy("three")
    world.wait("the rollback", world.settled(two, "rolled-back"))
    assert world.shown() == "two"
    device = world.device()
    assert device["desired"] == three
    assert "web" in device["detail"]
    assert "this is broken" in device["detail"], "the reason quotes the app"
    assert world.apps()["side"]["pid"] == before["side"]["pid"]

    history = [entry["event"] for entry in world.json("fleet", "history", "kiosk-1")]
    assert "rolled-back" in history
    assert history.count("done") == 2
    done = subprocess.run(["ostree", "fsck", "--repo", str(world.hub_dir / "repo")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_agent_may_stop_and_the_apps_run_on(world: World) -> None:
    one = world.deploy("one")
    world.wait("revision one", world.settled(one, "done"))
    before = world.apps()
    world.stop("device")
    assert world.shown() == "one"
    world.run_device()
    world.wait("the agent", lambda: bool(world.device()["online"]))
    assert {name: app["pid"] for name, app in world.apps().items()} == {
        name: app["pid"] for name, app in before.items()
    }


@pytest.mark.parametrize(
    "point", ["device.stage.done", "device.switch.stopped", "device.switch.started", "device.test.passed"]
)
def test_power_cut_in_an_update(world: World, point: str) -> None:
    one = world.deploy("one")
    world.wait("revision one", world.settled(one, "done"))
    world.stop("device")
    world.headline("two")
    two = world.deploy("two")
    world.run_device(WHERRY_TRACE=f"{point}=kill")
    world.wait("the power cut", lambda: world.processes["device"].poll() is not None)
    assert world.stop("device") == -9
    world.run_device()
    world.wait("revision two", world.settled(two, "done"))
    assert world.shown() == "two"
    names = [entry["name"] for entry in world.json("device", "status", "--dir", str(world.device_dir))["apps"]]
    assert sorted(names) == ["side", "web"]


def test_a_revision_that_loses_the_hub_is_rolled_back(world: World) -> None:
    one = world.deploy("one")
    world.wait("revision one", world.settled(one, "done"))
    world.headline("two")
    # The agent waits at the point before the trial long enough for the hub to go away.
    world.stop("device")
    two = world.deploy("two")
    world.run_device(WHERRY_TRACE="device.switch.begun=sleep:3")
    world.wait("the trial", lambda: world.device()["update_state"] == "trying")
    world.stop("hub")
    world.wait("the old page again", lambda: world.shown() == "one" and _outcome(world) == "rolled-back", 90)
    world.serve()
    world.wait("the report", world.settled(one, "rolled-back"))
    assert "hub" in world.device()["detail"]
    assert world.device()["desired"] == two


def _outcome(world: World) -> str:
    status = world.json("device", "status", "--dir", str(world.device_dir))
    return str(status.get("state", ""))
