"""Repositories for unit tests; without syncs, which have tests of their own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from wherry.core.digest import Checksum, Ref
from wherry.store.format.objects import FileHeader, Mode
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder

REGULAR = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o644)
PROGRAM = FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o755)


def make_repo(path: Path, mode: Mode) -> Repository:
    """Makes a repository by hand: ``Repository.init`` would sync ten times."""
    for folder in ("objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"):
        (path / folder).mkdir(parents=True)
    text = "archive-z2" if mode is Mode.ARCHIVE else str(mode)
    (path / "config").write_text(f"[core]\nrepo_version=1\nmode={text}\nfsync=false\nmin-free-space-size=0MB\n")
    return Repository.open(path)


def commit_files(
    repo: Repository,
    files: dict[str, bytes],
    *,
    ref: str | None = "main",
    parent: Checksum | None = None,
    time_s: int = 0,
) -> Checksum:
    """Commits files by path; directories are made as needed."""
    with repo.transaction():
        tree = TreeBuilder(repo)
        for path, data in files.items():
            if "/" in path:
                tree.mkdir(path.rpartition("/")[0], parents=True)
            tree.add_file(path, REGULAR, data)
        return commit_tree(
            repo, *tree.write(), timestamp_s=time_s, subject="test", parent=parent, ref=Ref(ref) if ref else None
        )


@pytest.fixture(params=[Mode.BARE_USER, Mode.ARCHIVE, Mode.BARE_USER_ONLY])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo", request.param)


@pytest.fixture
def user_repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "user-repo", Mode.BARE_USER)


@pytest.fixture
def archive(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "archive", Mode.ARCHIVE)
