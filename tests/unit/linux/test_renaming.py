"""A rename that never replaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.linux.renaming import rename_new


@pytest.fixture
def folders(tmp_path: Path) -> tuple[int, int]:
    for name in ("from", "to"):
        (tmp_path / name / "x").mkdir(parents=True)
    return tuple(os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("from", "to"))  # type: ignore[return-value]


def test_what_is_there_stays(folders: tuple[int, int]) -> None:
    source, dest = folders
    before = os.stat("x", dir_fd=dest).st_ino
    assert not rename_new("x", source, dest)
    assert os.stat("x", dir_fd=dest).st_ino == before
    os.rmdir("x", dir_fd=dest)
    assert rename_new("x", source, dest)
    assert os.listdir(source) == []
    os.close(source)
    os.close(dest)


def test_what_is_missing_is_an_error(folders: tuple[int, int]) -> None:
    source, dest = folders
    with pytest.raises(FileNotFoundError):
        rename_new("nothing", source, dest)
    os.close(source)
    os.close(dest)
