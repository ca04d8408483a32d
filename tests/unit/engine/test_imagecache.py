"""The quick way to an image: the same answer as the catalog's, or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.core.errors import InvalidInput
from wherry.engine import imagecache
from wherry.engine.spec import BareSettings
from wherry.image.config import parse_config
from wherry.image.reference import Reference
from wherry.spec.container import Healthcheck

COMMIT = "ab" * 32
CONFIG = b"""{"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["sh"], "User": "web",
"Volumes": {"/data": {}}, "Labels": {"x": "y"}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000}}}"""
NAMES = ["busybox", "bench:1", "team/app", "localhost/app:2", "localhost:5000/a/b:v1.2_x-y", "ghcr.io/x/y", "Host/app"]


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_name_is_normalised_as_by_the_catalog(name: str) -> None:
    quick = imagecache.normal_name(name)
    assert quick == str(Reference.parse(name))
    assert imagecache.ref_of(quick) == Reference.parse(name).ref


@given(st.text("ab09.-_:/@A", max_size=24) | st.text(max_size=12))
def test_no_name_leads_elsewhere_than_the_catalog_says(name: str) -> None:
    quick = imagecache.normal_name(name)
    if quick is None:
        return
    assert ".." not in quick.split("/")
    try:
        reference = Reference.parse(name)
    except InvalidInput:
        # what comes out is the ref of no image
        with pytest.raises(InvalidInput):
            Reference.from_ref(imagecache.ref_of(quick))
    else:
        assert quick == str(reference)


@pytest.mark.parametrize("name", ["", ":", "a:", "/a", "../a", "a/../b", "a@sha256:" + "0" * 64, "docker.io/a", "ä"])
def test_what_is_unusual_is_left_to_the_catalog(name: str) -> None:
    assert imagecache.normal_name(name) is None


def test_what_is_remembered_is_found(tmp_path: Path) -> None:
    store, images = tmp_path / "store", tmp_path / "images"
    head = store / "refs/heads" / imagecache.ref_of("docker.io/library/web:1")
    head.parent.mkdir(parents=True)
    head.write_text(f"{COMMIT}\n")
    images.mkdir()
    assert imagecache.find(str(store), str(images), "web:1") is None
    (images / f"{COMMIT}.erofs").write_bytes(b"")
    assert imagecache.find(str(store), str(images), "web:1") is None
    imagecache.remember(str(images), COMMIT, parse_config(CONFIG))
    found = imagecache.find(str(store), str(images), "web:1")
    assert found is not None
    assert (found.reference, found.commit) == ("docker.io/library/web:1", COMMIT)
    assert found.settings == BareSettings(
        cmd=("sh",),
        env=("A=b",),
        user="web",
        volumes=("/data",),
        labels={"x": "y"},
        healthcheck=Healthcheck(test=("CMD", "true"), interval_ms=1000),
        platform=parse_config(CONFIG).platform,
    )


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"version": 1, "settings": {}}', b'{"version": 2, "settings": {"x": 1}}']
)
def test_a_damaged_file_is_left_to_the_catalog(tmp_path: Path, damage: bytes) -> None:
    test_what_is_remembered_is_found(tmp_path)
    (tmp_path / "images" / f"{COMMIT}.json").write_bytes(damage)
    assert imagecache.find(str(tmp_path / "store"), str(tmp_path / "images"), "web:1") is None


def test_many_remember_one_image_at_once(tmp_path: Path) -> None:
    """The first starts from an image, all at the same time; what each leaves is whole."""
    settings = parse_config(CONFIG)

    def remember(_: int) -> None:
        imagecache.remember(str(tmp_path), COMMIT, settings)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(remember, range(400)))
    assert [path.name for path in tmp_path.iterdir()] == [f"{COMMIT}.json"]
