"""A real device: engine, store, hub and busybox apps, over the command line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request

import pytest
from tests.integration.device.fleet import QUICK, TICK, WHERRY, Device, HubProcess, Maker, site, web

from wherry.core.errors import Conflict, NetworkError, NoSpace, NotFound, TrustError, Unhealthy
from wherry.device.points import Point
from wherry.spec.container import App, AppImage
from wherry.spec.revision import HealthPolicy
from wherry.spec.wire import UpdateState


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_update_and_rollback(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    side = App(image=image, command=TICK)
    one = maker.revision({"web": web(image, port), "side": side}, config={"web": site("one")})
    device.deploy(one)
    assert page(port) == "one"
    first = device.status()
    assert (first["state"], first["current"], first["last_good"]) == ("done", one, None)
    before = device.apps()
    assert before["web"]["health"] == "healthy"

    two = maker.revision({"web": web(image, port), "side": side}, config={"web": site("two")})
    device.road.asked.clear()
    device.deploy(two)
    assert page(port) == "two"
    after = device.apps()
    assert after["side"] == before["side"], "an app that did not change is not touched"
    assert after["web"]["pid"] != before["web"]["pid"]
    assert len(device.road.objects()) == 2, "revision.json and the page"

    broken = web(image, port, command=("sh", "-c", "echo this is broken >&2; exit 3"))
    three = maker.revision({"web": broken, "side": side}, config={"web": site("three")})
    error = device.deploy(three, expect=Unhealthy.exit_code)
    assert "app web: ended with status 3" in error
    assert page(port) == "two"
    assert device.apps()["web"]["container"] == after["web"]["container"]
    assert device.apps()["side"] == before["side"]
    known = device.on_hub()
    assert (known.update_state, known.current, known.desired) == (UpdateState.ROLLED_BACK, two, three)
    assert "this is broken" in known.detail
    assert "rolled-back" in device.wherry("log")

    assert device.wherry("rollback").strip() == one
    assert page(port) == "one"
    assert device.apps()["side"] == before["side"]


def test_prune_spares_what_runs(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    one = maker.revision({"web": web(image, port)}, config={"web": site("one")})
    two = maker.revision({"web": web(image, port)}, config={"web": site("two")})
    device.deploy(one)
    device.deploy(two)
    command = ["store", "prune", "--refs-only", "--depth=0", f"--repo={device.folder / 'store'}"]
    subprocess.run([*WHERRY, *command], check=True, capture_output=True)
    assert device.wherry("rollback").strip() == one
    assert page(port) == "one"


def test_agent_answers_the_bell(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    one = maker.revision({"web": web(image, port)}, config={"web": site("one")})
    device.start()
    device.wait("the agent", lambda: device.on_hub().online)
    device.assign(one)
    device.wait("revision one", device.settled(one, UpdateState.DONE))
    before = device.apps()
    assert device.stop() == 0
    assert page(port) == "one", "the apps run on"
    device.start()
    device.wait("the agent", lambda: device.status()["agent_runs"])
    error = device.wherry("run", expect=Conflict.exit_code)
    assert "in use by another process" in error
    two = maker.revision({"web": web(image, port)}, config={"web": site("two")})
    device.hub.publish(maker, two)
    assert device.wherry("apply", two).strip() == two, "the agent that runs does it"
    assert page(port) == "two"
    assert device.wherry("rollback").strip() == one
    assert page(port) == "one"
    assert device.apps()["web"]["container"] == before["web"]["container"]
    assert device.stop(signal.SIGKILL) == -9
    assert page(port) == "one"
    device.start()
    device.wait("the agent", lambda: device.on_hub().online)
    assert device.on_hub().current == one, "the hub knows what runs, also by hand"
    assert device.apps() == before | {"web": device.apps()["web"]}


def test_unhealthy(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    side = App(image=image, command=TICK)
    one = maker.revision({"side": side})
    device.deploy(one)
    two = maker.revision({"side": side, "web": web(image, port, command=TICK)})
    error = device.deploy(two, expect=Unhealthy.exit_code)
    assert "app web: its health check fails" in error
    assert "health check: status 1" in device.on_hub().detail
    assert list(device.apps()) == ["side"]


def test_port_in_use(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        revision = maker.revision({"web": web(image, port)}, config={"web": site("one")})
        error = device.deploy(revision, expect=Unhealthy.exit_code)
    assert str(port) in error
    assert "app web" in error
    assert device.status()["current"] is None


def test_hub_lost(device: Device, maker: Maker, image: AppImage) -> None:
    """A revision from which the hub cannot be reached is rolled back, and the hub hears why when it is back."""
    one = maker.revision({"side": App(image=image, command=TICK)})
    device.deploy(one)
    two = maker.revision({"other": App(image=image, command=TICK)}, health=HealthPolicy(timeout_ms=3000, stable_ms=100))
    device.assign(two)
    device.start(WHERRY_TRACE="device.switch.begun=sleep:1")
    device.wait("the trial", lambda: device.on_hub().update_state is UpdateState.TRYING)
    device.road.down = True
    device.wait("the rollback", lambda: device.status()["state"] == "rolled-back")
    assert list(device.apps()) == ["side"]
    device.road.down = False
    device.wait("the report", device.settled(one, UpdateState.ROLLED_BACK))
    assert "the hub cannot be reached from this revision" in device.on_hub().detail


def test_hub_down(device: Device, maker: Maker, image: AppImage) -> None:
    one = maker.revision({"side": App(image=image, command=TICK)})
    device.deploy(one)
    before = device.apps()
    device.road.down = True
    error = device.wherry("run", "--once", expect=NetworkError.exit_code)
    assert device.road.url in error
    assert device.apps() == before
    assert device.status()["hub"]["problem"]
    device.road.down = False
    device.wherry("run", "--once")
    assert not device.status()["hub"]["problem"]


def test_wrong_key(device: Device, maker: Maker, image: AppImage) -> None:
    from wherry.trust.keys import PrivateKey

    bad = maker.revision({"side": App(image=image, command=TICK)}, key=PrivateKey.generate())
    error = device.deploy(bad, expect=TrustError.exit_code)
    assert "not signed by a trusted key" in error
    assert device.on_hub().update_state is UpdateState.REFUSED
    assert device.road.objects() == [], "nothing but the signature was looked at"
    device.wherry("run", "--once")


def test_changed_object(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    one = maker.revision({"web": web(image, port)}, config={"web": site("one")})
    device.deploy(one)
    two = maker.revision({"web": web(image, port)}, config={"web": site("two " * 1000)})
    device.road.spoil = {".filez"}
    error = device.deploy(two, expect=6)
    assert "/objects/" in error
    for _ in range(2):
        device.wherry("run", "--once", expect=6)
    assert device.on_hub().update_state is UpdateState.REFUSED
    assert "given up after 3 tries" in device.on_hub().detail
    assert page(port) == "one"
    device.road.spoil = set()
    device.wherry("run", "--once")
    assert page(port) == "one", "not tried again for the same order"
    device.deploy(two)
    assert page(port).startswith("two")


def test_truncated_download_goes_on(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    import random

    big = random.Random(1).randbytes(6_000_000)
    one = maker.revision({"web": web(image, port)}, config={"web": {**site("one"), "big": big}})
    device.road.cut = {".filez": 700_000}
    device.deploy(one)
    assert page(port) == "one"
    resumed = [asked for asked in device.road.objects() if asked.range]
    assert len(resumed) > 5, "it went on where it stopped, each time"
    assert all(asked.status == 206 for asked in resumed)
    assert sum(asked.sent for asked in device.road.objects()) < 8_500_000, "and fetched little twice"


def test_truncated_download_resumes(device: Device, maker: Maker, image: AppImage, port: int) -> None:
    import random

    big = random.Random(1).randbytes(6_000_000)
    one = maker.revision({"web": web(image, port)}, config={"web": {**site("one"), "big": big}})
    device.road.cut, device.road.cut_in_all = {".filez": 700_000}, 3_000_000
    device.deploy(one, expect=NetworkError.exit_code)
    assert device.on_hub().update_state is UpdateState.FAILED
    came = sum(asked.sent for asked in device.road.objects())
    device.road.cut = {}
    device.road.asked.clear()
    device.wherry("run", "--once")
    assert page(port) == "one"
    resumed = [asked for asked in device.road.objects() if asked.range]
    assert resumed, "it went on where it stopped"
    assert all(asked.status == 206 for asked in resumed)
    assert came + sum(asked.sent for asked in device.road.objects()) < 8_500_000, "and fetched little twice"


def test_full_disk(bare_device: Device, maker: Maker, image: AppImage, port: int) -> None:
    """What does not fit is refused with numbers before it begins; what runs is not touched."""
    import random

    device = bare_device
    small = device.base / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], check=True)
    try:
        device.folder = small / "device"
        device.enrol()
        one = maker.revision({"web": web(image, port)}, config={"web": site("one")})
        device.deploy(one)
        big = random.Random(2).randbytes(20_000_000)
        two = maker.revision({"web": web(image, port)}, config={"web": {**site("two"), "big": big}})
        device.road.asked.clear()
        error = device.deploy(two, expect=NoSpace.exit_code)
        assert "20 MB" in error
        assert "in reserve" in error
        assert sum(asked.sent for asked in device.road.objects()) < 100_000
        assert device.on_hub().update_state is UpdateState.REFUSED
        assert page(port) == "one"

        with (small / "filler").open("wb") as filler:
            try:
                while True:
                    filler.write(bytes(65536))
                    filler.flush()
            except OSError:
                pass
        device.deploy(two, expect=NoSpace.exit_code)
        device.deploy(one)  # nothing is left on the disk, and the state is written all the same
        assert device.status()["state"] == "done"
        assert page(port) == "one"
    finally:
        (small / "filler").unlink(missing_ok=True)
        device.close()
        device.folder = device.base / "gone"
        subprocess.run(["umount", str(small)], check=True)


def test_unknown_component(device: Device, maker: Maker, image: AppImage, hub: HubProcess) -> None:
    one = maker.revision({"side": App(image=image, command=TICK)})
    device.assign(one)
    name = hub.folder / "repo/objects" / image.commit[:2] / f"{image.commit[2:]}.commit"
    hidden = name.with_suffix(".hidden")
    name.rename(hidden)
    try:
        error = device.wherry("run", "--once", expect=NotFound.exit_code)
    finally:
        hidden.rename(name)
    assert image.commit[2:] in error
    assert device.on_hub().update_state is UpdateState.REFUSED
    device.hub.client.assign(device.id, one)
    device.wherry("run", "--once")
    assert device.status()["current"] == one


def test_not_accepted(bare_device: Device) -> None:
    device = bare_device
    token = device.hub.client.make_enrolment_token().token
    options = ("--hub", device.road.url, "--trust", str(device.maker.public), "--token-env", "TOKEN")
    device.id = device.wherry("enroll", *options, TOKEN=token).strip()
    error = device.wherry("run", "--once", expect=10)
    assert f"wherry fleet accept {device.id}" in error
    device.hub.client.accept(device.id)
    device.wherry("run", "--once")


def test_enrolment(bare_device: Device) -> None:
    device = bare_device
    options = ("--hub", device.road.url, "--trust", str(device.maker.public), "--token-env", "TOKEN")
    error = device.wherry("enroll", *options, TOKEN="wrong", expect=TrustError.exit_code)
    assert "token" in error
    assert "no device is enrolled" in device.wherry("status", expect=NotFound.exit_code)
    token = device.hub.client.make_enrolment_token().token
    for point in (Point.KEY_WRITTEN, Point.ENROL_ANSWERED, Point.IDENTITY_WRITTEN):
        assert device.wherry("enroll", *options, TOKEN=token, WHERRY_TRACE=f"{point}=kill", expect=-9) == ""
    device.id = device.wherry("enroll", *options, TOKEN=token).strip()
    assert device.wherry("enroll", *options, TOKEN=token).strip() == device.id, "the same key is the same device"
    assert token not in (device.folder / "identity.json").read_text()
    assert (device.folder / "device.key").stat().st_mode & 0o777 == 0o600
    device.hub.client.accept(device.id)
    status = json.loads(device.wherry("status", "--json"))
    assert status["device_id"] == device.id


_EVERY_POINT = [point.value for point in Point if "enrol" not in point.value and point is not Point.REQUEST_TAKEN]
_ON_THE_WAY_BACK = {Point.RESTORE_BEGUN.value, Point.RESTORE_DONE.value}


@pytest.mark.deep
@pytest.mark.parametrize("point", sorted(set(_EVERY_POINT) - _ON_THE_WAY_BACK))
def test_killed_at_every_point(device: Device, maker: Maker, image: AppImage, port: int, point: str) -> None:
    kill_and_go_on(device, maker, image, port, point)


@pytest.mark.parametrize(
    "point",
    [
        "device.restore.begun",
        pytest.param("device.switch.stopping", marks=pytest.mark.deep),
        pytest.param("device.switch.stopped", marks=pytest.mark.deep),
        pytest.param("device.switch.starting", marks=pytest.mark.deep),
        pytest.param("device.switch.started", marks=pytest.mark.deep),
        pytest.param("device.restore.done", marks=pytest.mark.deep),
        pytest.param("device.clean.containers-removed", marks=pytest.mark.deep),
    ],
)
def test_killed_on_the_way_back(device: Device, maker: Maker, image: AppImage, port: int, point: str) -> None:
    side = App(image=image, command=TICK)
    one = maker.revision({"web": web(image, port), "side": side}, config={"web": site("one")})
    device.deploy(one)
    before = device.apps()
    broken = web(image, port, command=("sh", "-c", "exit 3"))
    two = maker.revision({"web": broken, "side": side}, config={"web": site("two")})
    device.assign(two)
    device.start(WHERRY_TRACE=f"{point}=kill")
    assert device.died() == -9
    device.wherry("run", "--once", expect=Unhealthy.exit_code if "clean" not in point else 0)
    assert device.status()["current"] == one
    assert page(port) == "one"
    assert device.apps()["side"]["pid"] == before["side"]["pid"]
    assert device.apps()["web"]["container"] == before["web"]["container"]
    device.wait("the report", device.settled(one, UpdateState.ROLLED_BACK))


@pytest.mark.parametrize("point", ["device.stage.done", "device.switch.stopped", "device.switch.started"])
def test_killed(device: Device, maker: Maker, image: AppImage, port: int, point: str) -> None:
    """A few points with the real engine; all of them, with the simulated one, in tests/unit/device."""
    kill_and_go_on(device, maker, image, port, point)


def kill_and_go_on(device: Device, maker: Maker, image: AppImage, port: int, point: str) -> None:
    side = App(image=image, command=TICK)
    one = maker.revision({"web": web(image, port), "side": side}, config={"web": site("one")})
    device.deploy(one)
    before = device.apps()
    two = maker.revision({"web": web(image, port), "side": side}, config={"web": site("two")}, health=QUICK)
    device.assign(two)
    device.start(WHERRY_TRACE=f"{point}=kill")
    assert device.died() == -9
    device.wherry("run", "--once")
    assert device.status()["current"] == two
    assert page(port) == "two"
    assert device.apps()["side"]["pid"] == before["side"]["pid"]
    ids = [path.name for path in (device.folder / "engine/containers").iterdir()]
    assert len(ids) == 3, "side, web of one, web of two"
