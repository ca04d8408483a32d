"""Sparse files in a root tar, as GNU tar writes them in its four formats; and how much of nothing is taken."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.makers import make_repo

from wherry.core.errors import InvalidInput
from wherry.image.importing import import_image
from wherry.store.format.objects import ObjectType
from wherry.store.tree.tar import DEFAULT_LIMITS
from wherry.store.tree.walk import lookup

SIZE = 40 * 1024 * 1024
FORMATS = [["--format=gnu"], *(["--format=pax", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    top.mkdir()
    with open(top / "disk", "wb") as file:
        file.seek(1024 * 1024)
        file.write(b"in the middle" * 1000)
        file.truncate(SIZE)
    (top / "small").write_bytes(b"s")
    return top


def archive(tree: Path, options: list[str]) -> Path:
    path = tree.parent / "root.tar"
    subprocess.run(["tar", "-C", tree, "--sparse", *options, "-cf", path, "."], check=True)
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: options[-1].removeprefix("--"))
def test_sparse_files(tmp_path: Path, tree: Path, options: list[str]) -> None:
    repo = make_repo(tmp_path / "repo")
    record = import_image(repo, str(archive(tree, options)), name="a:1")
    found = lookup(repo, record.commit, "/disk")
    assert isinstance(found, str)
    stored = repo.object_path(ObjectType.FILE, found)
    assert stored.read_bytes() == (tree / "disk").read_bytes()
    assert record.size_bytes == SIZE + 1
    assert stored.stat().st_blocks * 512 < SIZE // 4  # the holes are holes
    assert repo.fsck().ok
    other = make_repo(tmp_path / "other")
    whole = import_image(other, f"dir:{tree}", name="a:1")
    assert lookup(other, whole.commit, "/disk") == found  # the same object as of a file that is read


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: options[-1].removeprefix("--"))
def test_too_much_of_nothing(tmp_path: Path, tree: Path, options: list[str]) -> None:
    os.truncate(tree / "disk", 10 * SIZE)
    repo = make_repo(tmp_path / "repo")
    limits = replace(DEFAULT_LIMITS, hole_bytes=2 * SIZE)
    with pytest.raises(InvalidInput, match="bytes of holes in sparse files"):
        import_image(repo, str(archive(tree, options)), name="a:1", limits=limits)
    assert not repo.refs()
