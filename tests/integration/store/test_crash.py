"""SIGKILL at every trace point of commit and pull; then fsck, by both programs, and another try."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compat.store.archive_server import ArchiveServer, serving
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Ref
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

COMMIT_POINTS = [
    "store.commit.written",
    "store.transaction.staged",
    "store.transaction.synced",
    "store.transaction.publishing",
    "store.transaction.published",
    "store.transaction.ref",
    "store.ref.written",
    "store.transaction.done",
]
PULL_POINTS = [
    "store.pull.partial",
    "store.fetch.part",
    "store.fetch.object",
    *COMMIT_POINTS[1:5],
    "store.pull.complete",
    *COMMIT_POINTS[5:],
]


def wherry(*args: str, trace: str = "") -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "WHERRY_TRACE": trace, "WHERRY_ROOT": "/nonexistent"}
    return subprocess.run([sys.executable, "-m", "wherry", "store", *args], env=env, capture_output=True, check=False)


def points(log: Path) -> list[str]:
    return list(dict.fromkeys(log.read_text().split()))


def check(repo: Repository) -> None:
    report = fsck(repo)
    assert report.ok, report.problems
    done = subprocess.run(["ostree", "fsck", "-q", f"--repo={repo.path}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    for number in range(8):
        (source / f"sub/f{number}").write_bytes(bytes([number]) * 1000)
    (source / "large").write_bytes(os.urandom(500_000))
    return source


def test_every_point_of_a_commit_is_in_the_list(tmp_path: Path, tree: Path) -> None:
    Repository.init(tmp_path / "repo", Mode.BARE_USER)
    log = tmp_path / "log"
    done = wherry("commit", f"--repo={tmp_path}/repo", "-b", "main", str(tree), trace=f"log:{log}")
    assert done.returncode == 0, done.stderr
    assert points(log) == COMMIT_POINTS


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_killed_while_committing(tmp_path: Path, tree: Path, point: str) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    first = commit_files(repo, {"old": b"1"}, ref="main")
    args = ("commit", f"--repo={repo.path}", "-b", "main", "--timestamp=@0", str(tree))
    killed = wherry(*args, trace=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL
    check(repo)
    now = repo.resolve("main")
    assert (now == first) == (point != "store.transaction.done")
    done = wherry(*args)
    assert done.returncode == 0, done.stderr
    check(repo)
    after = repo.resolve("main")
    assert done.stdout.decode().strip() == after
    assert repo.load_commit(after).parent == now
    assert sorted(os.listdir(repo.path / "tmp")) in (["cache"], sorted(["cache", *_ref_leftovers(repo)]))
    done = wherry("prune", f"--repo={repo.path}", "--refs-only")
    assert done.returncode == 0, done.stderr
    check(repo)


def _ref_leftovers(repo: Repository) -> list[str]:
    """Temporary files of refs go a day later."""
    return [name for name in os.listdir(repo.path / "tmp") if re.fullmatch(r"ref-[0-9a-f]{16}", name)]


@pytest.fixture
def server(tmp_path: Path, tree: Path) -> Iterator[ArchiveServer]:
    remote = Repository.init(tmp_path / "remote", Mode.ARCHIVE)
    done = wherry("commit", f"--repo={remote.path}", "-b", "main", str(tree))
    assert done.returncode == 0, done.stderr
    with serving(remote.path) as found:
        yield found


def pull(repo: Repository, server: ArchiveServer, trace: str = "") -> subprocess.CompletedProcess[bytes]:
    return wherry("pull", f"--repo={repo.path}", "origin", "main", trace=trace)


def add_remote(repo: Repository, server: ArchiveServer) -> None:
    done = wherry("remote", "add", f"--repo={repo.path}", "--no-gpg-verify", "origin", f"{server.url}/repo")
    assert done.returncode == 0, done.stderr


def test_every_point_of_a_pull_is_in_the_list(tmp_path: Path, server: ArchiveServer) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    add_remote(repo, server)
    log = tmp_path / "log"
    done = pull(repo, server, trace=f"log:{log}")
    assert done.returncode == 0, done.stderr
    assert sorted(points(log)) == sorted(PULL_POINTS)


@pytest.mark.parametrize("point", PULL_POINTS)
def test_killed_while_pulling(tmp_path: Path, server: ArchiveServer, point: str) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    add_remote(repo, server)
    killed = pull(repo, server, trace=f"{point}=kill")
    assert killed.returncode == -signal.SIGKILL
    check(repo)
    fetched = {path for path in server.objects() if path.endswith((".dirtree", ".dirmeta"))}
    server.requests.clear()
    done = pull(repo, server)
    assert done.returncode == 0, done.stderr
    check(repo)
    commit = repo.resolve("origin:main")
    assert not repo.is_partial(commit)
    if point in PULL_POINTS[4:]:  # staged: nothing whole is fetched again
        assert not fetched & set(server.requests)
    with repo.transaction() as transaction:
        transaction.set_ref(Ref("origin:main"), None)
    done = wherry("prune", f"--repo={repo.path}", "--refs-only")
    assert done.returncode == 0, done.stderr
    assert list(repo.list_objects()) == []


def test_interrupted_by_the_keyboard(tmp_path: Path, server: ArchiveServer) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    add_remote(repo, server)
    env = {
        **os.environ,
        "WHERRY_TRACE": f"store.fetch.object=sleep:1,log:{tmp_path}/log",
        "WHERRY_ROOT": "/nonexistent",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "wherry", "store", "pull", f"--repo={repo.path}", "origin", "main"],
        env=env,
        stderr=subprocess.PIPE,
        # a test run in the background of a shell is started with SIGINT ignored, and would hand that down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        try:
            while process.poll() is None:
                if (tmp_path / "log").exists() and "store.fetch.object" in (tmp_path / "log").read_text():
                    process.send_signal(signal.SIGINT)
                    break
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert b"interrupted" in said
    check(repo)
    fetched = {path for path in server.objects() if path.endswith(".dirtree")}
    server.requests.clear()
    assert pull(repo, server).returncode == 0
    assert not fetched & set(server.requests)
    check(repo)
