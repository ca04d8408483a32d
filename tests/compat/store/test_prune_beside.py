"""One program commits again and again while the other prunes, in one repository: nothing that a ref reaches is lost.

The same few trees come and go. So a commit often finds an object that was pruned a moment ago, or is about to be.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.compat.store.conftest import ostree

from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType
from wherry.store.repository import Repository

WHERRY = [sys.executable, "-m", "wherry", "store"]
OSTREE = ["ostree"]
STAYS = 3
PRUNES = 3
PAUSE_S = 0.1
"""Between two prunes: ostree tries to get a lock only once a second."""


def make_tree(base: Path, number: int) -> Path:
    tree = base / f"tree{number}"
    tree.mkdir()
    for index in range(80):
        (tree / f"own{index}").write_bytes(b"%d %d" % (number, index) * 300)
        (tree / f"of-all{index}").write_bytes(b"%d" % index * 300)
    return tree


def checked(command: list[str], *args: str | Path) -> str:
    done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("committer", "pruner", "mode"),
    [
        (OSTREE, WHERRY, Mode.ARCHIVE),
        (WHERRY, OSTREE, Mode.BARE_USER),
        pytest.param(OSTREE, WHERRY, Mode.BARE_USER, marks=pytest.mark.deep),
        pytest.param(WHERRY, OSTREE, Mode.ARCHIVE, marks=pytest.mark.deep),
    ],
    ids=["they-commit", "we-commit", "they-commit-bare", "we-commit-archive"],
)
def test_commits_beside_prunes(tmp_path: Path, committer: list[str], pruner: list[str], mode: Mode) -> None:
    repo = tmp_path / "repo"
    ostree("init", f"--repo={repo}", f"--mode={mode}")
    trees = [make_tree(tmp_path, number) for number in range(3)]
    ended = threading.Event()

    def prune_again_and_again() -> int:
        """Returns how often there was something to remove."""
        count = 0
        while not ended.wait(PAUSE_S):
            count += "Deleted" in checked(pruner, "prune", f"--repo={repo}", "--refs-only", "--depth=0")
            if count >= PRUNES:
                enough.set()
        return count

    enough = threading.Event()
    done: dict[str, tuple[str, Path]] = {}
    numbers = itertools.count()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(prune_again_and_again)
        end = time.monotonic() + 60
        try:
            while not (len(done) > STAYS and enough.is_set()) and time.monotonic() < end and not other.done():
                number = next(numbers)
                ref = f"stays{number}" if number % 4 == 0 and len(done) <= STAYS else "main"
                tree = trees[number % len(trees)]
                done[ref] = checked(committer, "commit", f"--repo={repo}", "-b", ref, tree).strip(), tree
        finally:
            ended.set()
        assert other.result() >= PRUNES, "the pruner had nothing to do: this showed nothing"
    opened = Repository.open(repo)
    assert opened.refs() == {ref: commit for ref, (commit, _) in done.items()}
    assert all(opened.has(ObjectType.COMMIT, commit) for commit in opened.refs().values())
    assert fsck(opened).ok
    ostree("fsck", "-q", f"--repo={repo}")
    for (ref, (_, tree)), name in itertools.product(done.items(), ("own0", "own79", "of-all7")):
        assert ostree("cat", f"--repo={repo}", ref, name) == (tree / name).read_text()
