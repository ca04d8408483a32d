"""One hub for all tests, one device for each; nothing may be left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.ports import free_port
from tests.integration.device.fleet import Device, HubProcess, Maker, busybox_tree
from tests.simulators.device_proxy import road_to

from wherry.core.proc import run
from wherry.engine.state import Paths
from wherry.spec.container import AppImage


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    assert os.geteuid() == 0, "containers need root"
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="session")
def image(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> AppImage:
    return maker.image(busybox_tree(tmp_path_factory.mktemp("tree")), "demo/busybox:1")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    found = HubProcess(tmp_path_factory.mktemp("hub") / "hub")
    yield found
    found.stop()


@pytest.fixture
def bare_device(tmp_path: Path, hub: HubProcess, maker: Maker, image: AppImage) -> Iterator[Device]:
    with road_to(hub.url) as road:
        device = Device(tmp_path, hub, road, maker)
        yield device
        road.down = False
        device.close()
    assert left_behind(device.folder / "engine", tmp_path) == []
    shutil.rmtree(device.folder, ignore_errors=True)


def left_behind(engine: Path, base: Path) -> list[str]:
    """Returns what the kernel still has of the containers of one engine, when all are stopped."""
    tag = Paths(engine, base).tag
    ids = os.listdir(engine / "containers") if engine.exists() else []
    left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(base) in line]
    left += [name for name in os.listdir("/sys/class/net") if tag in name]
    left += [line for line in run(["nft", "list", "tables"]).stdout.decode().splitlines() if tag in line]
    left += [str(path) for path in Path("/sys/fs/cgroup").rglob("wherry/*") if path.name in ids]
    return left


@pytest.fixture
def device(bare_device: Device) -> Device:
    bare_device.enrol()
    return bare_device


@pytest.fixture
def port() -> int:
    return free_port()
