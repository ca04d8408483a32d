"""Two processes that write to one repository, Wherry's and OSTree's, while a third prunes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Ref
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

WHERRY = [sys.executable, "-m", "wherry", "store"]


def make_source(base: Path, name: str) -> Path:
    source = base / name
    source.mkdir()
    for number in range(150):
        (source / f"shared{number}").write_bytes(b"%d" % number * 500)
        (source / f"own{number}").write_bytes(f"{name}{number}".encode() * 500)
    return source


@pytest.mark.parametrize("programs", [(WHERRY, WHERRY), (WHERRY, ["ostree"])])
def test_two_committers(tmp_path: Path, programs: tuple[list[str], list[str]]) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    running = []
    for turn in range(2):
        for number, program in enumerate(programs):
            name = f"p{turn}{number}"
            source = make_source(tmp_path, name)
            args = [*program, "commit", f"--repo={repo.path}", "-b", name, "-s", name, str(source)]
            running.append((name, source, subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)))
    for name, source, process in running:
        with process:
            out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert repo.resolve(name) == out.decode().strip()
        assert len(repo.load_dirtree(repo.load_commit(repo.resolve(name)).tree).files) == len(os.listdir(source))
    assert fsck(repo).ok
    assert subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], check=False).returncode == 0
    assert os.listdir(repo.path / "tmp") == ["cache"]


@pytest.mark.parametrize("pruner", [[*WHERRY, "prune"], ["ostree", "prune"]])
def test_prune_beside_a_commit(tmp_path: Path, pruner: list[str]) -> None:
    """The commit counts on objects that nothing refers to yet; prune must wait for it, or come before it."""
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    source = make_source(tmp_path, "source")
    stray = subprocess.run(
        [*WHERRY, "commit", f"--repo={repo.path}", "--orphan", str(source)], check=True, capture_output=True
    )
    assert stray.stdout
    env = {**os.environ, "WHERRY_TRACE": "store.commit.written=sleep:2", "WHERRY_ROOT": "/nonexistent"}
    args = [*WHERRY, "commit", f"--repo={repo.path}", "-b", "main", str(source)]
    committer = subprocess.Popen(args, env=env, stdout=subprocess.PIPE)
    with committer:
        while not list((repo.path / "tmp").glob("staging-*/*/*.commit")):
            assert committer.poll() is None
        done = subprocess.run([*pruner, "--refs-only", f"--repo={repo.path}"], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        committer.communicate(timeout=60)
    assert committer.returncode == 0
    assert repo.resolve("main") in repo.commits()
    assert fsck(repo).ok
    assert len(list(repo.commits())) == 1


def test_a_ref_is_never_torn(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    first = commit_files(repo, {"a": b"1"}, ref="main")
    second = commit_files(repo, {"a": b"2"}, ref="main")
    script = (
        "import sys; from pathlib import Path; from wherry.store.repository import Repository\n"
        "repo = Repository.open(Path(sys.argv[1]))\n"
        "for turn in range(40): repo.set_ref('main', sys.argv[2 + turn % 2])\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(repo.path), first, second])
    with writer:
        while writer.poll() is None:
            assert repo.refs()[Ref("main")] in (first, second)
    assert writer.returncode == 0
