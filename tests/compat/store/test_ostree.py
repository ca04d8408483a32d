"""The same trees have the same checksums in both programs, and each takes the other's repositories for good."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.compat.store.archive_server import serving
from tests.compat.store.conftest import ostree

from wherry.core.digest import Ref
from wherry.core.http import HttpClient
from wherry.store.care.fsck import fsck
from wherry.store.care.prune import prune
from wherry.store.format.objects import Mode
from wherry.store.pull.pull import RemotePull, pull_local
from wherry.store.repository import Repository
from wherry.store.summary import update_summary
from wherry.store.tree.checkout import checkout
from wherry.store.tree.commit import commit_directory

MODES = [Mode.BARE, Mode.BARE_USER, Mode.ARCHIVE]


def theirs(path: Path, mode: Mode) -> Path:
    ostree("init", f"--repo={path}", f"--mode={mode}")
    return path


def layout(repo: Path) -> dict[str, tuple[int, int, int]]:
    """Returns mode, size and time of all objects; the compressed size and the time of metadata may differ."""
    found = {}
    for path in (repo / "objects").rglob("*"):
        status = path.lstat()
        content = path.suffix == ".file"
        size = status.st_size if path.suffix != ".filez" and not path.is_dir() else 0
        time = int(status.st_mtime) if content and not path.is_symlink() else 0
        found[str(path.relative_to(repo))] = (status.st_mode, size, time)
    return found


def facts(base: Path) -> dict[str, object]:
    """Returns all that a commit keeps of a tree on disk; OSTree drops attributes without a value."""
    found: dict[str, object] = {}
    for path in [base, *base.rglob("*")]:
        status = path.lstat()
        attributes = {
            name: value
            for name in os.listxattr(path, follow_symlinks=False)
            if (value := os.getxattr(path, name, follow_symlinks=False))
        }
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(base))] = (status.st_mode, status.st_uid, status.st_gid, attributes, content)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_same_tree_same_commit(tmp_path: Path, source: Path, mode: Mode) -> None:
    ours = Repository.init(tmp_path / "ours", mode)
    commit = commit_directory(ours, source, timestamp_s=1577836800, ref=Ref("os/main"), subject="Subject", body="Body")
    other = theirs(tmp_path / "theirs", mode)
    args = ["-b", "os/main", "-s", "Subject", "-m", "Body", "--timestamp=2020-01-01 00:00:00Z"]
    assert ostree("commit", f"--repo={other}", *args, f"--tree=dir={source}").strip() == commit
    assert layout(ours.path) == layout(other)
    ostree("fsck", f"--repo={ours.path}")
    assert fsck(Repository.open(other), verify_bindings=True).ok


def test_same_tree_same_commit_canonical(tmp_path: Path, source: Path) -> None:
    (source / "unreadable").chmod(0o600)
    found: set[str] = set()
    for mode in set(Mode) - {Mode.BARE_SPLIT_XATTRS}:
        ours = Repository.init(tmp_path / f"ours-{mode}", mode)
        found.add(
            commit_directory(
                ours, source, timestamp_s=0, ref=Ref("x"), canonical_permissions=True, no_xattrs=True, subject="s"
            )
        )
        other = theirs(tmp_path / f"theirs-{mode}", mode)
        args = ["-b", "x", "-s", "s", "--timestamp=@0", "--canonical-permissions", "--no-xattrs", str(source)]
        found.add(ostree("commit", f"--repo={other}", *args).strip())
        ostree("fsck", f"--repo={ours.path}")
        assert fsck(Repository.open(other)).ok
    assert len(found) == 1


@pytest.mark.parametrize(
    "extra",
    [
        ["--owner-uid=7", "--owner-gid=8"],
        ["--no-xattrs"],
        ["--add-metadata-string=version=1.0"],
        ["--no-bindings"],
        ["--orphan"],
        ["--bind-ref=another"],
        ["--canonical-permissions"],
        ["-m", "several\nlines\n"],
    ],
)
def test_options_of_commit(tmp_path: Path, source: Path, extra: list[str]) -> None:
    Repository.init(tmp_path / "ours", Mode.BARE_USER)
    theirs(tmp_path / "theirs", Mode.BARE_USER)
    args = ["commit", "-s", "s", "--timestamp=@5", *([] if "--orphan" in extra else ["-b", "x"]), *extra, str(source)]
    done = subprocess.run(
        [sys.executable, "-m", "wherry", "store", f"--repo={tmp_path}/ours", *args], capture_output=True, check=True
    )
    assert done.stdout.decode() == ostree(*args, f"--repo={tmp_path}/theirs")


def test_statoverride_and_skip_list(tmp_path: Path, source: Path) -> None:
    (tmp_path / "override").write_text("2048 /usr/bin/program\n=420 /empty\n")
    (tmp_path / "skip").write_text("/large\n/usr/lib/deep\n")
    Repository.init(tmp_path / "ours", Mode.BARE_USER)
    theirs(tmp_path / "theirs", Mode.BARE_USER)
    args = ["commit", "-s", "s", "--timestamp=@5", "-b", "x", f"--statoverride={tmp_path}/override",
            f"--skip-list={tmp_path}/skip", str(source)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "wherry", "store", f"--repo={tmp_path}/ours", *args], capture_output=True, check=True
    )
    assert done.stdout.decode() == ostree(*args, f"--repo={tmp_path}/theirs")


def test_trees_over_each_other(tmp_path: Path, source: Path) -> None:
    overlay = tmp_path / "overlay"
    (overlay / "usr/bin").mkdir(parents=True)
    (overlay / "usr/bin/program").write_bytes(b"other")
    (overlay / "added").write_bytes(b"added")
    Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    theirs(tmp_path / "theirs", Mode.ARCHIVE)
    printed = []
    for call in (["ostree"], [sys.executable, "-m", "wherry", "store"]):
        repo = f"--repo={tmp_path}/{'theirs' if call == ['ostree'] else 'ours'}"
        base = [*call, "commit", repo, "--timestamp=@0", "-s", "x"]
        subprocess.run([*base, "-b", "base", str(source)], check=True, capture_output=True)
        args = [*base, "-b", "top", "--tree=ref=base", f"--tree=dir={overlay}"]
        printed.append(subprocess.run(args, check=True, capture_output=True).stdout)
    assert printed[0] == printed[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("user", [False, True])
def test_checkouts_are_the_same(tmp_path: Path, source: Path, mode: Mode, user: bool) -> None:
    repo = Repository.init(tmp_path / "repo", mode)
    commit = commit_directory(repo, source, timestamp_s=0, ref=Ref("x"))
    checkout(repo, commit, tmp_path / "ours", user_mode=user)
    ostree("checkout", f"--repo={repo.path}", *(["-U"] if user else []), "x", tmp_path / "theirs")
    assert facts(tmp_path / "ours") == facts(tmp_path / "theirs")
    if not user:
        assert facts(tmp_path / "ours") == facts(source)


def test_pull_local_both_ways(tmp_path: Path, source: Path) -> None:
    ours = Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    commit = commit_directory(ours, source, timestamp_s=0, ref=Ref("x"))
    for mode in MODES:
        other = theirs(tmp_path / f"theirs-{mode}", mode)
        ostree("pull-local", f"--repo={other}", "--untrusted", ours.path, "x")
        ostree("fsck", f"--repo={other}")
        back = Repository.init(tmp_path / f"back-{mode}", mode)
        pull_local(back, Repository.open(other), ["x"])
        assert back.resolve("x") == commit
        ostree("fsck", f"--repo={back.path}")
        assert layout(back.path) == layout(other)


@pytest.mark.parametrize("mode", MODES)
def test_their_pull_from_ours(tmp_path: Path, source: Path, mode: Mode) -> None:
    ours = Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    commit = commit_directory(ours, source, timestamp_s=0, ref=Ref("os/main"))
    ours.write_detached(commit, {"test.key": "value"})
    other = theirs(tmp_path / "theirs", mode)
    with serving(ours.path) as server:
        ostree("remote", "add", f"--repo={other}", "--no-gpg-verify", "origin", f"{server.url}/repo")
        ostree("pull", f"--repo={other}", "origin", "os/main")  # without a summary
        assert ostree("rev-parse", f"--repo={other}", "origin:os/main").strip() == commit
        ostree("fsck", f"--repo={other}")
        assert "value" in ostree("show", f"--repo={other}", "--print-detached-metadata-key=test.key", commit)
        (source / "empty").write_bytes(b"not any more")
        second = commit_directory(ours, source, timestamp_s=1, ref=Ref("os/main"), parent=commit)
        commit_directory(ours, source / "usr", timestamp_s=1, ref=Ref("os/usr"))
        update_summary(ours)
        assert sorted(ostree("remote", "refs", f"--repo={other}", "origin").split()) == [
            "origin:os/main",
            "origin:os/usr",
        ]
        assert second in ostree("remote", "summary", f"--repo={other}", "origin")
        ostree("pull", f"--repo={other}", "--mirror", "origin")
        assert ostree("rev-parse", f"--repo={other}", "os/main").strip() == second
        ostree("fsck", f"--repo={other}")
    assert fsck(Repository.open(other)).ok


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE])
def test_our_pull_from_theirs(tmp_path: Path, source: Path, mode: Mode) -> None:
    other = theirs(tmp_path / "theirs", Mode.ARCHIVE)
    commit = ostree("commit", f"--repo={other}", "-b", "os/main", "-s", "s", source).strip()
    ostree("summary", "-u", f"--repo={other}")
    ours = Repository.init(tmp_path / "ours", mode)
    with serving(other) as server:
        client = HttpClient(server.url)
        pull = RemotePull(ours, client)
        assert pull.remote_refs() == {Ref("os/main"): commit}
        plan = pull.plan([pull.resolve("os/main")])
        pull.fetch(plan)
        pull.commit(plan, {Ref("origin:os/main"): pull.resolve("os/main")})
        client.close()
        run = [sys.executable, "-m", "wherry", "store", f"--repo={ours.path}"]
        subprocess.run([*run, "remote", "add", "--no-gpg-verify", "o", f"{server.url}/repo"], check=True)
        subprocess.run([*run, "pull", "--mirror", "o"], check=True, capture_output=True)
    assert sorted(ostree("refs", f"--repo={ours.path}").split()) == ["origin:os/main", "os/main"]
    ostree("fsck", f"--repo={ours.path}")
    ostree("checkout", f"--repo={ours.path}", "os/main", tmp_path / "out")
    assert facts(tmp_path / "out") == facts(source)


def test_their_repository_keeps_working_after_ours_has_written(tmp_path: Path, source: Path) -> None:
    other = theirs(tmp_path / "theirs", Mode.BARE_USER)
    first = ostree("commit", f"--repo={other}", "-b", "x", "-s", "1", source).strip()
    repo = Repository.open(other)
    assert repo.resolve("x") == first
    (source / "added").write_bytes(b"added")
    second = commit_directory(repo, source, timestamp_s=5, ref=Ref("x"), parent=repo.resolve("x"))
    (source / "added").write_bytes(b"changed")
    third = ostree("commit", f"--repo={other}", "-b", "x", "-s", "3", source).strip()
    assert ostree("rev-parse", f"--repo={other}", "x^").strip() == second
    assert repo.resolve("x^^") == first
    prune(repo, refs_only=True, depth=0)
    assert sorted(repo.commits()) == [third]
    ostree("fsck", f"--repo={other}")
    ostree("prune", f"--repo={other}", "--refs-only")
    assert fsck(repo).ok


def test_damage_is_found_by_both(tmp_path: Path, source: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.ARCHIVE)
    commit_directory(repo, source, timestamp_s=0, ref=Ref("x"))
    victim = max((repo.path / "objects").rglob("*.filez"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0x10
    victim.write_bytes(bytes(data))
    assert not fsck(repo).ok
    assert subprocess.run(["ostree", "fsck", f"--repo={repo.path}"], capture_output=True, check=False).returncode != 0
    assert fsck(repo, delete=True).deleted == 1
    # Both know what is left as a partial commit that fsck has broken.
    done = subprocess.run(["ostree", "fsck", f"--repo={repo.path}"], capture_output=True, check=False)
    assert b"1 partial commits from fsck-detected corruption" in done.stderr
    assert fsck(repo).partial_commits == 1


def test_refs_are_seen_by_both(tmp_path: Path) -> None:
    repo = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    (tmp_path / "d").mkdir()
    commit = commit_directory(repo, tmp_path / "d", timestamp_s=0, ref=Ref("a/b-c.d_e/f"))
    repo.set_ref(Ref("remote:a/b"), commit)
    assert sorted(ostree("refs", f"--repo={repo.path}").split()) == ["a/b-c.d_e/f", "remote:a/b"]
    ostree("refs", f"--repo={repo.path}", "--create=new/one", commit)
    assert repo.resolve("new/one") == commit
    ostree("refs", f"--repo={repo.path}", "--delete", "new")
    assert Ref("new/one") not in repo.refs()


def test_the_content_of_archives_is_the_same(tmp_path: Path, source: Path) -> None:
    ours = Repository.init(tmp_path / "ours", Mode.ARCHIVE)
    commit = commit_directory(ours, source, timestamp_s=0, ref=Ref("x"))
    ostree("checkout", "-U", f"--repo={ours.path}", commit, tmp_path / "out")
    assert filecmp.cmp(source / "large", tmp_path / "out/large", shallow=False)
    assert filecmp.cmp(source / "zeros", tmp_path / "out/zeros", shallow=False)
