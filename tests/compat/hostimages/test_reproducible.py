"""The same host gives the same bytes: in another folder, file system and time zone, years later, with another umask."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.compat.hostimages.test_images import LAYOUT
from tests.fixtures.hostproduct import make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.images.layout import Layout, parse_layout
from wherry.build.images.making import digest_of, make_image
from wherry.build.images.product import Product

SHARED_MEMORY = Path("/dev/shm")
"""A tmpfs, which lists folders in another order than a disk does."""


@pytest.fixture(scope="module")
def layout() -> Layout:
    return parse_layout(LAYOUT)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    folder = SHARED_MEMORY / f"wherry-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def _disturb(product: Product) -> None:
    """Gives everything other times, and other holes."""
    assert product.root is not None
    assert product.boot is not None
    chance = random.Random(7)
    for top in (product.root, product.boot):
        for path in (top, *top.rglob("*")):
            time_ns = chance.randrange(10**9, 2 * 10**18)
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
    zeros = product.root / "usr/share/zeros"
    size, times = zeros.stat().st_size, zeros.stat()
    os.truncate(zeros, 0)
    os.truncate(zeros, size)
    os.utime(zeros, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("name", LAYOUT["images"])
def test_same_bytes(layout: Layout, name: str, tmp_path: Path, elsewhere: Path) -> None:
    first = make_product(tmp_path / "host")
    once = make_image(layout, name, first, tmp_path / "images", PlainPlace(tmp_path / "place"))
    before = os.umask(0o077)
    try:
        second = make_product(elsewhere / "another place", backwards=True)
        _disturb(second)
        around = ["faketime", "-f", "+3000d"]
        other = {"TZ": "Pacific/Chatham", "LANG": "de_DE.UTF-8", "HOSTNAME": "elsewhere", "USER": "somebody"}
        place = PlainPlace(elsewhere / "p", around=around, env=other)
        twice = make_image(layout, name, second, elsewhere / "i", place)
    finally:
        os.umask(before)
    assert once.name == twice.name
    assert twice.stat().st_mode == once.stat().st_mode
    assert _digest(once) == _digest(twice)
    if once.suffix != ".oci.tar" and name not in ("box", "files", "windows", "ram", "ramxz", "ramgz", "rambare"):
        assert place.calls


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_another_host_has_other_ids(layout: Layout, tmp_path: Path) -> None:
    product = make_product(tmp_path / "host")
    other = replace(product, identity="0a" * 32)
    once = make_image(layout, "disk", product, tmp_path / "images", PlainPlace(tmp_path / "p"))
    digest = _digest(once)
    twice = make_image(layout, "disk", other, tmp_path / "images", PlainPlace(tmp_path / "q"))
    assert _digest(twice) != digest


def test_what_a_layout_says_has_a_digest(layout: Layout) -> None:
    assert digest_of(layout, "disk") == digest_of(parse_layout(LAYOUT, where="elsewhere"), "disk")
    changed = {"images": {**LAYOUT["images"], "root": {"kind": "erofs", "from": "root", "cluster": "4KiB"}}}
    assert digest_of(parse_layout(changed), "disk") != digest_of(layout, "disk")  # the disk has that image in it
    assert digest_of(parse_layout(changed), "box") == digest_of(layout, "box")
