"""Removing trees: of any depth, never through a link, with few descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.core.errors import WherryError
from wherry.engine.removing import MOST_DEPTH, remove_tree

DEEP = 3000
"""Levels: more than Python calls in one another, and 6,000 bytes of path, more than the kernel takes at once."""


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + MOST_DEPTH + 64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def chain(folder: Path, depth: int) -> None:
    """Makes directories in one another, a file beside each."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


@pytest.mark.parametrize("depth", [0, 1, MOST_DEPTH - 1, MOST_DEPTH, MOST_DEPTH + 1, 2 * MOST_DEPTH, DEEP])
def test_any_depth_is_removed(tmp_path: Path, few_descriptors: None, depth: int) -> None:
    tree = tmp_path / "tree"
    for branch in ("a", "b"):
        (tree / branch).mkdir(parents=True)
        chain(tree / branch, depth)
    remove_tree(tree)
    assert os.listdir(tmp_path) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(kept)
    (tree / "inner" / "dangling").symlink_to("nowhere")
    remove_tree(tree)
    assert not tree.exists()
    assert os.listdir(kept) == ["file"]


def test_a_link_in_place_of_the_tree_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "tree").symlink_to(kept)
    with pytest.raises(WherryError):
        remove_tree(tmp_path / "tree")
    assert os.listdir(kept) == ["file"]


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WherryError):
        remove_tree(tmp_path / "file")
    assert (tmp_path / "file").exists()
