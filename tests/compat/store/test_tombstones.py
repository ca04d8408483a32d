"""Commits that were deleted on purpose, and what a pull makes of a history with holes, beside the real tool.

A remote whose summary says that it leaves tombstones must have one for each parent that is missing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving
from tests.compat.store.conftest import ostree

WHERRY = [sys.executable, "-m", "wherry", "store"]


def make_remote(repo: Path, *, tombstone: bool, summary: bool) -> str:
    """Makes a history of three commits whose first is deleted; returns that one."""
    ostree("init", f"--repo={repo}", "--mode=archive")
    tree = repo.with_name("tree")
    tree.mkdir()
    for number in range(3):
        (tree / "file").write_text(str(number))
        ostree("commit", f"--repo={repo}", "-b", "main", tree)
    ostree("config", f"--repo={repo}", "set", "core.tombstone-commits", "true")
    deleted = ostree("rev-parse", f"--repo={repo}", "main^^").strip()
    ostree("prune", f"--repo={repo}", f"--delete-commit={deleted}")
    (found,) = repo.rglob("*.tombstone-commit")
    if not tombstone:
        found.unlink()
    if summary:
        ostree("summary", "-u", f"--repo={repo}")
    return deleted


def pulled(program: list[str], dest: Path, *args: str) -> tuple[int, list[str], str, str]:
    """Returns the exit status, the tombstones that came along, the refs, and what was said on stderr."""
    done = subprocess.run([*program, *args, f"--repo={dest}"], capture_output=True, text=True, check=False)
    tombstones = sorted(str(path.relative_to(dest)) for path in dest.rglob("*.tombstone-commit"))
    return done.returncode, tombstones, ostree("refs", "-r", f"--repo={dest}", check=False), done.stderr


def dest_for(folder: Path, url: str) -> Path:
    ostree("init", f"--repo={folder}", "--mode=archive")
    ostree("remote", "add", f"--repo={folder}", "--no-gpg-verify", "o", url)
    return folder


@pytest.mark.parametrize("tombstone", [True, False])
@pytest.mark.parametrize("summary", [True, False])
def test_a_history_with_a_hole(tmp_path: Path, tombstone: bool, summary: bool) -> None:
    remote = tmp_path / "repo"
    make_remote(remote, tombstone=tombstone, summary=summary)
    with serving(remote) as server:
        for way, args in {
            f"{server.url}/repo": ("pull", "--depth=-1", "o", "main"),
            remote.as_uri(): ("pull", "--depth=-1", "o", "main"),
            "file:///nowhere": ("pull-local", "--depth=-1", str(remote), "main"),
        }.items():
            name = args[0] + way.partition(":")[0]
            theirs = pulled(["ostree"], dest_for(tmp_path / f"theirs-{name}", way), *args)
            ours = pulled(WHERRY, dest_for(tmp_path / f"ours-{name}", way), *args)
            assert ours[:3] == theirs[:3], way
            assert ours[0] == (1 if summary and not tombstone else 0)
            assert ("no tombstone tells" in ours[3]) == (summary and not tombstone)


def test_a_deleted_commit(tmp_path: Path) -> None:
    remote = tmp_path / "repo"
    deleted = make_remote(remote, tombstone=True, summary=True)
    with serving(remote) as server:
        for number, args in enumerate([("pull", "o", deleted), ("pull-local", str(remote), deleted)]):
            dest = dest_for(tmp_path / f"dest{number}", f"{server.url}/repo")
            status, tombstones, refs, said = pulled(WHERRY, dest, *args)
            assert (status, tombstones, refs) == (1, [], "")
            assert f"error: this commit was deleted there on purpose: {deleted}; pull a newer one" in said
            assert pulled(["ostree"], dest, *args)[0] == 1
            assert not pulled(WHERRY, dest, *args[:-1], "0" * 64)[3].startswith("error: this commit was deleted")
