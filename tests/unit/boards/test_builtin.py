"""The layers that come with Wherry: found, resolved, without a finding, and boards complete."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wherry.build.boards import Boot, board_of, firmware_of
from wherry.build.builtin import builtin_layers
from wherry.build.checking import check
from wherry.build.contributions import gather
from wherry.build.images.layout import layout_of
from wherry.build.layers import Layers, find_layers
from wherry.build.resolving import resolve
from wherry.cli.root import run
from wherry.spec.architecture import ARCHITECTURES

FOLDER = builtin_layers()
assert FOLDER is not None
LAYERS = find_layers([FOLDER])
NAMES = sorted(LAYERS.by_name)
BOARDS = [name for name in NAMES if LAYERS.get(name).listed and (LAYERS.get(name).path / "board/board.yaml").is_file()]


@pytest.fixture
def layers() -> Layers:
    return LAYERS


def test_nothing_is_wrong_with_them(layers: Layers) -> None:
    assert [f"{item.where}: {item.what}" for item in check(layers, layers)] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_contributes(layers: Layers, name: str) -> None:
    layer = layers.get(name)
    assert layer.description
    assert all(len(line) <= 120 for line in layer.description.splitlines())
    gather(resolve(layers, [name]))
    for path in layer.path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert b"\0" not in data, f"{path}: no binary files here"


@pytest.mark.parametrize("name", BOARDS)
def test_each_board_is_complete(layers: Layers, name: str) -> None:
    found = board_of(resolve(layers, [name]))
    assert found.title, "its maker's name"
    assert found.family
    assert found.architecture in ARCHITECTURES
    if found.boot is not Boot.NONE:
        assert found.console
        assert layout_of(resolve(layers, [name])).images
    virtual = found.machine.machine == "virt" or found.family == "Containers"  # QEMU makes its own
    if found.architecture not in ("amd64", "i386") and not virtual:
        assert found.device_tree, "no firmware of such a board has one"
    firmware = {file.name for file in firmware_of(found)}
    areas = {area.file for image in layout_of(resolve(layers, [name])).images.values() for area in image.raw.values()}
    files = {
        f"{content.below}"
        for image in layout_of(resolve(layers, [name])).images.values()
        for partition in image.partitions.values()
        for content in partition.content
    }
    assert {f"firmware/{file}" for file in firmware} <= areas | files, "each file has its place"


def test_commands_find_them(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKIFF_EXTRA_CONFIGS_PATH", raising=False)
    assert run(["layer", "resolve", "--json", "virt/qemu"]) == 0
    chain = json.loads(capfd.readouterr().out)
    assert (chain[-1], set(chain[:-1])) == ("virt/qemu", {"disk/uefi", "soc/linux", "virt/virtio"})
    assert run(["layer", "check"]) == 0
    assert f"{len(LAYERS)} layers, 0 warnings" in capfd.readouterr().err
    os.makedirs("mine/virt/qemu/metadata")
    Path("mine/virt/qemu/metadata/description").write_text("Mine\n")
    assert run(["layer", "resolve", "--layers-path", "mine", "virt/qemu"]) == 0
    assert capfd.readouterr().out == "virt/qemu\n", "the first path's counts, all of it"
    assert run(["layer", "check", "--layers-path", "mine"]) == 0
    assert capfd.readouterr().err == "1 layer, 0 warnings\n", "one's own are looked at, and nothing said of the others"


def test_layers_hold_no_links_as_wheels_cannot() -> None:
    top = builtin_layers()
    assert top is not None
    assert [path for path in top.rglob("*") if path.is_symlink()] == []
