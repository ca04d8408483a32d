"""Folders of imports: gone after the block, and after a process that was killed; left alone while one works."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from wherry.image.scratch import remove_leftovers, scratch_folder


def test_a_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), scratch_folder(tmp_path) as folder:
        (folder / "file").write_bytes(b"x")
        assert remove_leftovers(tmp_path) == 0  # somebody works in it
        assert (folder / "file").exists()
        raise ValueError("x")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    left = tmp_path / "wherry-import-abc"
    left.mkdir()
    (left / "big").write_bytes(os.urandom(10_000))
    fd = os.open(left, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert remove_leftovers(tmp_path) == 0
    os.close(fd)
    assert remove_leftovers(tmp_path) >= 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
