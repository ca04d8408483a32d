"""``fsck --repair`` from a server, and the output of fsck and prune beside the real tool's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving
from tests.integration.store.test_crash import wherry
from tests.unit.store.conftest import commit_files, make_repo

from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.repository import Repository
from wherry.store.tree.walk import lookup


def _victims(repo: Repository, rev: str) -> tuple[Path, Path]:
    commit = repo.resolve(rev)
    file, folder = lookup(repo, commit, "a"), lookup(repo, commit, "d")
    assert isinstance(file, str)
    assert isinstance(folder, tuple)
    return repo.object_path(ObjectType.FILE, file), repo.object_path(ObjectType.DIRTREE, folder[0])


def test_from_a_server(tmp_path: Path) -> None:
    remote = make_repo(tmp_path / "remote", Mode.ARCHIVE)
    commit_files(remote, {"a": b"1" * 400_000, "d/e/f": b"2"})
    repo = make_repo(tmp_path / "repo", Mode.BARE_USER)
    with serving(remote.path) as server:
        added = wherry("remote", "add", f"--repo={repo.path}", "--no-gpg-verify", "origin", f"{server.url}/repo")
        assert added.returncode == 0, added.stderr
        pulled = wherry("pull", f"--repo={repo.path}", "origin", "main")
        assert pulled.returncode == 0, pulled.stderr
        file, folder = _victims(repo, "origin:main")
        file.write_bytes(b"damaged")
        folder.unlink()
        (repo.path / "refs/remotes/origin/main").write_bytes(b"")
        assert wherry("fsck", f"--repo={repo.path}").returncode == 1
        for option in ("--repair=origin", "--repair"):
            done = wherry("fsck", f"--repo={repo.path}", option)
            assert done.returncode == 0, done.stderr
        assert done.stdout.decode().splitlines()[-1].endswith("completed successfully - no errors found.")
    assert fsck(Repository.open(repo.path)).ok
    assert repo.resolve("origin:main") == remote.resolve("main")
    file.write_bytes(b"damaged")
    gone = wherry("fsck", f"--repo={repo.path}", "--repair=elsewhere")
    assert gone.returncode == 1
    assert b"neither a remote nor a repository" in gone.stderr


def _both(template: Path, tmp_path: Path, *words: str) -> tuple[subprocess.CompletedProcess[bytes], ...]:
    """Runs a command on two copies of a repository, with the real tool and with Wherry."""
    found = []
    for name in ("theirs", "ours"):
        place = tmp_path / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place, symlinks=True)
        args = [words[0], f"--repo={place}", *words[1:]]
        found.append(
            subprocess.run(["ostree", *args], capture_output=True, check=False) if name == "theirs" else wherry(*args)
        )
    return tuple(found)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = make_repo(tmp_path_factory.mktemp("template") / "repo", Mode.BARE_USER)
    parent = None
    for number in range(5):
        parent = commit_files(repo, {"a": f"{number}".encode() * 3000, "d/b": b"x"}, parent=parent, time_s=number * 100)
    commit_files(repo, {"a": b"side"}, ref="os/side", time_s=1000)
    commit_files(repo, {"a": b"stray"}, ref=None, time_s=1000)
    return repo.path


@pytest.mark.parametrize(
    "command",
    [
        "fsck",
        "fsck --all",
        "fsck --verify-back-refs",
        "fsck --add-tombstones",
        "prune --refs-only",
        "prune --refs-only --depth=1",
        "prune --keep-younger-than=@250",
        "prune --only-branch=main --depth=0",
        "prune --retain-branch-depth=main=2 --depth=0",
        "prune --delete-commit=main",
        "prune --static-deltas-only",
        "prune --only-branch=nothing",
        "refs",
        "refs --list os",
        "refs os",
        "refs --delete",
        "rev-parse main^^",
        "rev-parse --single",
        "config get core.nothing",
        "config get nothing",
        "config set core.x y",
    ],
)
def test_same_output_and_status(template: Path, tmp_path: Path, command: str) -> None:
    theirs, ours = _both(template, tmp_path, *command.split())
    assert ours.returncode == theirs.returncode, (ours.stderr, theirs.stderr)
    lines = [line for line in theirs.stdout.splitlines() if not line.startswith(b"fsck objects (")]  # its progress
    assert sorted(ours.stdout.splitlines()) == sorted(lines)
    one, other = Repository.open(tmp_path / "theirs"), Repository.open(tmp_path / "ours")
    assert set(one.list_objects()) == set(other.list_objects())
    assert one.refs() == other.refs()
    assert (one.path / "config").read_text() == (other.path / "config").read_text()


def test_same_findings(template: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(template, damaged, symlinks=True)
    repo = Repository.open(damaged)
    file, folder = _victims(repo, "main")
    file.write_bytes(b"damaged")
    for options in ((), ("--all",), ("--delete",)):
        theirs, ours = _both(damaged, tmp_path, "fsck", *options)
        assert (ours.returncode, theirs.returncode) == (1, 1)
        assert (
            ours.stderr.decode().partition("Corrupted")[2][:200]
            == theirs.stderr.decode().partition("Corrupted")[2][:200]
        )
        one, other = (set(Repository.open(tmp_path / name).list_objects()) for name in ("theirs", "ours"))
        assert one == other
    folder.unlink()
    theirs, ours = _both(damaged, tmp_path, "fsck", "--all")
    assert ours.returncode == theirs.returncode == 1
    assert f"Marking commit as partial: {repo.resolve('main')}".encode() in ours.stderr
