"""Making images on a disk that gets full, and with power that fails: nothing half has a final name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compat.hostimages.test_images import LAYOUT
from tests.fixtures.hostproduct import make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.images.layout import parse_layout
from wherry.build.images.making import make_image
from wherry.build.images.product import Product
from wherry.core import trace
from wherry.core.errors import NoSpace

_LAYOUT = parse_layout(LAYOUT)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    found = make_product(tmp_path_factory.mktemp("host"))
    assert found.root is not None
    (found.root / "usr/share/noise").write_bytes(os.urandom(600_000))
    return found


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("name", [name for name in LAYOUT["images"] if name != "modules"])
def test_a_full_disk(name: str, product: Product, full: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        make_image(_LAYOUT, name, product, full / "images", PlainPlace(tmp_path / "place"))
    assert os.listdir(full / "images") == []
    assert os.listdir(tmp_path / "place/scratch") == []


@pytest.mark.parametrize("name", ["root", "ram", "disk"])
def test_a_power_cut(name: str, product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    place = PlainPlace(tmp_path / "place")
    child = os.fork()
    if child == 0:  # dies with everything in its hands
        try:
            trace.arm("build.image.made", lambda: os._exit(7))
            make_image(_LAYOUT, name, product, folder, place)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    left = os.listdir(folder)
    assert len(left) == 1
    assert left[0].endswith(".making")
    made = make_image(_LAYOUT, name, product, folder, place)
    assert not [each for each in os.listdir(folder) if each.startswith(".")]
    assert made.exists()
    assert os.listdir(place.scratch) == []


def test_an_interruption(product: Product, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    trace.arm("build.image.made", stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            make_image(_LAYOUT, "root", product, tmp_path / "images", PlainPlace(tmp_path / "place"))
    finally:
        trace.disarm()
    assert os.listdir(tmp_path / "images") == []
