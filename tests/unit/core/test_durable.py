"""A file is the old one or the new one, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from wherry.core.durable import make_dirs, remove_file, replace_symlink, replacing, write_file
from wherry.core.errors import Conflict, NoSpace, NotPermitted, WherryError


def test_write_file_replaces_and_sets_mode(tmp_path: Path) -> None:
    target = tmp_path / "state"
    write_file(target, b"one")
    write_file(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o7777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(Conflict, match="not a file"):
            write_file(path, b"x")
    assert stat.S_ISFIFO(os.lstat(tmp_path / "pipe").st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_failure_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "state"
    write_file(target, b"old")
    with pytest.raises(RuntimeError), replacing(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EROFS, NotPermitted), (errno.EIO, WherryError)],
)
def test_os_errors_become_wherry_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[WherryError]
) -> None:
    target = tmp_path / "state"
    write_file(target, b"old")

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected, match="state"):
        write_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_make_dirs_symlink_and_remove(tmp_path: Path) -> None:
    make_dirs(tmp_path / "a/b/c")
    make_dirs(tmp_path / "a/b/c")
    replace_symlink(tmp_path / "link", "a")
    replace_symlink(tmp_path / "link", "a/b")
    assert (tmp_path / "link").readlink() == Path("a/b")
    remove_file(tmp_path / "link")
    remove_file(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
