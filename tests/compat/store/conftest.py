"""The real ``ostree``, trees to commit, and a Debian root tree that is made once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving

from wherry.core.lock import file_lock

CACHE = Path("build/cache")


def ostree(*args: str | Path, check: bool = True) -> str:
    """Runs the real tool and returns what it printed."""
    done = subprocess.run(["ostree", *map(str, args)], capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def make_source(base: Path) -> Path:
    """Makes a tree with owners, modes, attributes, links and odd names; needs root."""
    (base / "usr/bin").mkdir(parents=True)
    (base / "usr/lib/deep/er").mkdir(parents=True)
    (base / "empty-dir").mkdir()
    (base / "usr/bin/program").write_bytes(b"#!/bin/sh\nexit 0\n")
    (base / "usr/bin/program").chmod(0o755)
    (base / "usr/bin/suid").write_bytes(b"suid")
    (base / "empty").write_bytes(b"")
    (base / "large").write_bytes(os.urandom(5_000_000))
    (base / "zeros").write_bytes(bytes(3_000_000))
    (base / "unreadable").write_bytes(b"secret")
    (base / "unreadable").chmod(0o000)
    (base / "link").symlink_to("usr/bin/program")
    (base / "dangling").symlink_to("/nowhere/ü")
    os.link(base / "usr/bin/program", base / "hardlink")
    for number, name in enumerate(
        ("with space", "ünïcödé-名前", "new\nline", "quote'\"", "-dash", ".hidden", "a" * 255)
    ):
        (base / name).write_bytes(b"%d" % number)
    for number in range(300):  # framing offsets of two bytes
        (base / "usr/lib" / f"file{number:03}").write_bytes(b"%d" % number)
    os.setxattr(base / "empty", "user.zzz", b"last")
    os.setxattr(base / "empty", "user.aaa", b"first")
    os.setxattr(base / "empty", "user.none", b"")
    os.setxattr(base / "usr/bin", "user.dir", b"x" * 300)
    os.setxattr(
        base / "usr/bin/program", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    os.setxattr(base / "link", "trusted.link", b"on a link", follow_symlinks=False)
    for number, path in enumerate(sorted(base.rglob("*"))):
        os.chown(path, number % 5 * 1000, number % 3 * 50, follow_symlinks=False)
    (base / "usr/bin/suid").chmod(0o6755)
    os.setxattr(
        base / "usr/bin/program", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    (base / "empty-dir").chmod(0o1777)
    return base


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    return make_source(base)


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gives a Debian root tree of some 6,600 files, without the nodes of /dev."""
    CACHE.mkdir(parents=True, exist_ok=True)
    tar = CACHE / "debian-minbase.tar"
    with file_lock(CACHE / ".lock"):
        if not tar.exists():
            temporary = CACHE / "debian-minbase.tar.tmp"
            args = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar", "bookworm", str(temporary)]
            subprocess.run(args, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}, check=True, capture_output=True)
            temporary.rename(tar)
    tree = tmp_path_factory.mktemp("debian") / "root"
    tree.mkdir()
    args = ["tar", "xf", str(tar), "-C", str(tree), "--exclude=./dev/*", "--xattrs", "--xattrs-include=*"]
    subprocess.run(args, check=True)
    yield tree
    shutil.rmtree(tree)


__all__ = ["CACHE", "debian", "make_source", "ostree", "serving", "source"]
