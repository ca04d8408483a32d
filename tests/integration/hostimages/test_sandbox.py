"""Images are made in a step's sandbox as they are without one, byte for byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from tests.compat.hostimages.test_images import LAYOUT
from tests.fixtures.hostproduct import make_product
from tests.fixtures.plainplace import PlainPlace

from wherry.build.images.layout import parse_layout
from wherry.build.images.making import make_image
from wherry.build.place import StepPlace
from wherry.core.errors import InvalidInput

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox of a step needs root")


def _place(top: Path) -> StepPlace:
    for name in ("output", "scratch", "kept", "downloads", "bundle"):
        (top / name).mkdir(parents=True)
    return StepPlace(
        output=top / "output",
        scratch=top / "scratch",
        kept=top / "kept",
        downloads=top / "downloads",
        bundle=top / "bundle",
        log=open(top / "log", "wb"),
        epoch=7,
    )


@pytest.mark.parametrize("name", ["disk", "card", "modules"])
def test_same_bytes(name: str, tmp_path: Path) -> None:
    product = make_product(tmp_path / "host")
    layout = parse_layout(LAYOUT)
    plain = make_image(layout, name, product, tmp_path / "images", PlainPlace(tmp_path / "plain"))
    place = _place(tmp_path / "step")
    made = make_image(layout, name, product, place.output, place)
    place.log.close()
    assert hashlib.sha256(made.read_bytes()).digest() == hashlib.sha256(plain.read_bytes()).digest()
    assert sorted(os.listdir(place.output)) == sorted(os.listdir(plain.parent))


def test_what_a_tool_says_is_understood(tmp_path: Path) -> None:
    """The content of an ext4 does not fit: the reason stands in what mke2fs printed, not in the error itself."""
    product = make_product(tmp_path / "host")
    partition = {"filesystem": "ext4", "size": "2MiB", "content": [{"from": "boot", "to": to} for to in "abcd"]}
    layout = parse_layout({"images": {"d": {"kind": "disk", "partitions": {"p": partition}}}}, where="layers/x")
    place = _place(tmp_path / "step")
    with pytest.raises(InvalidInput, match=r"the content does not fit: layers/x: images.d.partitions.p"):
        make_image(layout, "d", product, place.output, place)
    place.log.close()
