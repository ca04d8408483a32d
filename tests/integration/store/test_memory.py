"""Memory on a large tree: each operation in a process of its own, which says what it took at most."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.store.conftest import REGULAR, make_repo

from wherry.core.digest import Ref
from wherry.store.format.objects import Mode
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder

_FILES = 100_000
_LIMIT_MB = 150
_PROGRAM = """
import re, sys
from pathlib import Path
from wherry.store import Repository
repo = Repository.open(Path(sys.argv[1]))
{work}
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""
"""It does not ask getrusage(2), which counts what the process was before its exec(2): this one, tests and all."""
_WORK = {
    "list_objects": "assert sum(1 for _ in repo.list_objects()) > {count}",
    "walk": "assert sum(1 for _ in repo.walk('main')) > {count}",
    "reachable": "assert len(repo.reachable('main')) > {count}",
    "prune": "assert repo.prune(refs_only=True, dry_run=True).total > {count}",
    "fsck": "assert repo.fsck().ok",
}


def _measure(repo: Path, work: str, count: int) -> int:
    program = _PROGRAM.format(work=_WORK[work].format(count=count))
    done = subprocess.run([sys.executable, "-c", program, str(repo)], check=True, capture_output=True, text=True)
    return int(done.stdout)


def _make(place: Path, count: int) -> Path:
    repo = make_repo(place, Mode.BARE_USER)
    with repo.transaction():
        tree = TreeBuilder(repo)
        for number in range(count):
            folder = f"d{number % 1000:03}"
            if number < 1000:
                tree.mkdir(folder)
            tree.add_file(f"{folder}/f{number}", REGULAR, str(number).encode())
        commit_tree(repo, *tree.write(), timestamp_s=0, ref=Ref("main"))
    return repo.path


@pytest.mark.deep
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    repo = _make(tmp_path / "repo", _FILES)
    took = {work: _measure(repo, work, _FILES) for work in _WORK}
    assert max(took.values()) < _LIMIT_MB, took
