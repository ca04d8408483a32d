"""An image that does not fit: one line says so, and the store is as it was."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, file, make_repo, make_tar

from wherry.core.errors import NoSpace
from wherry.core.proc import run
from wherry.image.catalog import Images
from wherry.image.importing import import_image
from wherry.linux.mount import MNT_DETACH, mount, umount
from wherry.store.mount.composefs import write_image


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount("tmpfs", path, "tmpfs", 0, "size=4m")
    yield path
    umount(path, MNT_DETACH)


@pytest.mark.parametrize("packed", [False, True])
def test_import(small: Path, tmp_path: Path, packed: bool) -> None:
    repo = make_repo(small / "repo")
    (tmp_path / "fits.tar").write_bytes(make_tar(file("a", os.urandom(1_000_000))))
    kept = import_image(repo, str(tmp_path / "fits.tar"), name="fits:1")
    before = set(repo.list_objects())
    made = Layout(tmp_path / "layout")
    made.add(made.image([make_tar(file("b", os.urandom(6_000_000)))]), "t")
    source = made.path
    if packed:
        source = tmp_path / "layout.tar.gz"
        source.write_bytes(gzip.compress(made.tar(tmp_path / "layout.tar").read_bytes()))
    with pytest.raises(NoSpace) as caught:
        import_image(repo, str(source), name="large:1")
    assert "\n" not in str(caught.value)
    assert set(repo.list_objects()) == before
    assert [record.commit for record in Images(repo).list()] == [kept.commit]
    run(["ostree", f"--repo={repo.path}", "fsck"])


def test_image_file(small: Path, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    (tmp_path / "rootfs.tar").write_bytes(make_tar(*[file("n" * 90 + f"{number:05}", "x") for number in range(20_000)]))
    record = import_image(repo, str(tmp_path / "rootfs.tar"), name="many:1")
    (small / "fill").write_bytes(bytes(3_500_000))
    with pytest.raises(NoSpace):
        write_image(repo, record.commit, small / "image")
    assert [path.name for path in small.iterdir()] == ["fill"]
