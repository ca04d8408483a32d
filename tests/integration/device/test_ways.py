"""How a revision comes to a device: by a delta, in packs, or object by object; and what of it is bad."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from tests.integration.device.fleet import TICK, Device, HubProcess, Maker, busybox_tree

from wherry.core.digest import Checksum
from wherry.spec.container import App, AppImage

FILES = 300


def _tree(folder: Path, change: int) -> Path:
    """Makes a root tree with a large file, and many small ones; `change` is what differs."""
    busybox_tree(folder)
    noise = random.Random(7)
    data = bytearray(noise.randbytes(3_000_000))
    data[1_000_000 : 1_000_000 + 200 * change] = random.Random(change).randbytes(200 * change)
    (folder / "etc/large").write_bytes(data)
    (folder / "etc/many").mkdir()
    for number in range(FILES):
        (folder / f"etc/many/{number}").write_bytes(noise.randbytes(200 + number * 10))
    (folder / "etc/version").write_text(f"{change}\n")
    return folder


@pytest.fixture(scope="module")
def images(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> list[AppImage]:
    return [maker.image(_tree(tmp_path_factory.mktemp("tree"), change), f"demo/large:{change}") for change in (0, 1)]


@pytest.fixture(scope="module")
def revisions(maker: Maker, images: list[AppImage]) -> list[Checksum]:
    return [maker.revision({"side": App(image=image, command=TICK)}) for image in images]


def delta_file(hub: HubProcess, revisions: list[Checksum]) -> Path:
    return hub.folder / f"repo/extensions/wherry/deltas/{revisions[0]}-{revisions[1]}.wdelta"


def wait_for_delta(hub: HubProcess, revisions: list[Checksum]) -> Path:
    path = delta_file(hub, revisions)
    deadline = time.monotonic() + 120
    while not path.with_suffix(".json").exists():
        assert time.monotonic() < deadline, hub.log.read_text()
        time.sleep(0.1)
    assert path.exists()
    return path


def sent(device: Device, part: str) -> int:
    return sum(asked.sent for asked in device.road.asked if part in asked.path)


def ready(device: Device, revisions: list[Checksum]) -> Path:
    """Brings a device to the first revision, orders the second, and waits for the delta between them."""
    device.deploy(revisions[0])
    device.assign(revisions[1])
    path = wait_for_delta(device.hub, revisions)
    device.road.asked.clear()
    return path


def check(device: Device, revisions: list[Checksum]) -> str:
    device.wherry("run", "--once")
    status = device.status()
    assert (status["state"], status["current"]) == ("done", revisions[1])
    done = subprocess.run(["ostree", "fsck", f"--repo={device.folder / 'store'}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return device.wherry("log")


def test_first_comes_in_packs(device: Device, revisions: list[Checksum]) -> None:
    device.deploy(revisions[0])
    assert len(device.road.objects()) == 3, "revision.json, and two that are large"
    assert 2 <= len([asked for asked in device.road.asked if asked.path.endswith("/pack")]) < 12
    assert device.status()["current"] == revisions[0]


def test_delta(device: Device, revisions: list[Checksum]) -> None:
    path = ready(device, revisions)
    assert "by a delta: " in check(device, revisions)
    assert device.road.objects() == [] or len(device.road.objects()) == 1  # revision.json
    assert sent(device, "/pack") == 0
    assert 0 < sent(device, ".wdelta") < path.stat().st_size + 20_000
    assert sum(asked.sent for asked in device.road.asked) < 100_000, "of 3 MB"
    assert not list((device.folder / "store/tmp").glob("wherry-delta-*"))


def test_delta_goes_on_after_cuts(device: Device, revisions: list[Checksum]) -> None:
    path = ready(device, revisions)
    device.road.cut = {".wdelta": 9000}
    check(device, revisions)
    assert sent(device, "/pack") == 0
    assert sent(device, ".wdelta") < path.stat().st_size + 50_000


@pytest.mark.parametrize("harm", ["flipped bit", "cut short", "gone", "another"])
def test_bad_delta(device: Device, revisions: list[Checksum], harm: str, tmp_path: Path) -> None:
    path = ready(device, revisions)
    whole = path.read_bytes()
    note = path.with_suffix(".json")
    try:
        if harm == "flipped bit":
            data = bytearray(whole)
            data[-100] ^= 4
            path.write_bytes(data)
        elif harm == "cut short":
            path.write_bytes(whole[:-50])
        elif harm == "gone":
            path.unlink()
        else:
            path.write_bytes(b"WHYDELTA" + os.urandom(5000))
        log = check(device, revisions)
        assert sent(device, "/pack") > 0, "fetched as objects"
        if harm != "gone":
            assert "delta" in log
            assert "fetching objects" in log or "not taken" in log
    finally:
        path.write_bytes(whole)
        assert note.exists()


def test_source_gone(device: Device, revisions: list[Checksum]) -> None:
    """A file that the delta copies from is damaged or lost on the device: the objects are fetched instead."""
    ready(device, revisions)
    store = device.folder / "store"
    (large,) = [path for path in store.glob("objects/*/*.file") if path.stat().st_size == 3_000_000]
    large.unlink()
    log = check_update_only(device, revisions)
    assert "bad delta, fetching objects" in log
    assert sent(device, "/pack") > 0


def check_update_only(device: Device, revisions: list[Checksum]) -> str:
    device.wherry("run", "--once")
    assert device.status()["current"] == revisions[1]
    return device.wherry("log")


@pytest.mark.parametrize("point", ["device.delta.chosen", "store.device-delta.part", "device.delta.applied"])
def test_killed(device: Device, revisions: list[Checksum], point: str) -> None:
    path = ready(device, revisions)
    device.start(WHERRY_TRACE=f"{point}=kill")
    assert device.died() == -9
    check(device, revisions)
    assert sent(device, "/pack") == 0
    assert sent(device, ".wdelta") < path.stat().st_size + 60_000


def test_hub_without_packs(device: Device, revisions: list[Checksum]) -> None:
    """An older hub: it answers 404, and objects come one by one."""
    device.road.refuse = {"/pack", "/deltas"}
    device.deploy(revisions[0])
    assert len(device.road.objects()) > FILES
    assert device.status()["current"] == revisions[0]


def test_pack_cut_short(device: Device, revisions: list[Checksum]) -> None:
    device.road.cut = {"/pack": 150_000}
    device.deploy(revisions[0])
    assert device.status()["current"] == revisions[0]
    total = json.loads(device.wherry("status", "--json"))
    assert total["state"] == "done"
    assert sent(device, "/pack") < 6_000_000, "little came twice"


def test_spoilt_pack(device: Device, revisions: list[Checksum]) -> None:
    device.road.spoil = {"/pack"}
    device.deploy(revisions[0])
    assert device.status()["current"] == revisions[0]
    assert len(device.road.objects()) == 4, "the last one of the pack came by itself"
