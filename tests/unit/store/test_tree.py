"""Trees in the making, checkout, diff, prune, fsck, sizes, local pull."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.unit.store.conftest import PROGRAM, REGULAR, commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import Conflict, IntegrityError, InvalidInput, NoSpace, NotFound, Unsupported
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import DirMeta, Mode, ObjectType, object_name
from wherry.store.pull.pull import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.checkout import Union, checkout
from wherry.store.tree.commit import commit_directory, commit_tree
from wherry.store.tree.diff import Kind, diff, diff_trees, scan_directory, tree_of
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.sizes import object_sizes
from wherry.store.tree.walk import lookup, walk


def paths(repo: Repository, commit: Checksum) -> list[str]:
    return sorted(path for path, _ in walk(repo, commit) if path)


def finish(tree: TreeBuilder, repo: Repository) -> Checksum:
    return commit_tree(repo, *tree.write(), timestamp_s=0)


# --- building


def test_build(repo: Repository) -> None:
    base = commit_files(repo, {"usr/bin/sh": b"sh", "usr/lib/a": b"a", "etc/x": b"x"})
    with repo.transaction():
        tree = TreeBuilder(repo)
        tree.overlay_commit(base)
        tree.hardlink("usr/bin/ash", "usr/bin/sh")
        tree.symlink("bin", "usr/bin")
        tree.add_file("etc/x", PROGRAM, b"new")
        tree.mkdir("var/log", parents=True)
        tree.remove("usr/lib")
        assert tree.exists("usr/bin/sh")
        assert not tree.exists("usr/lib/a")
        assert tree.lookup("var") == DirMeta()
        assert tree.listdir("usr") == ["bin"]
        commit = finish(tree, repo)
    assert paths(repo, commit) == [
        "bin", "etc", "etc/x", "usr", "usr/bin", "usr/bin/ash", "usr/bin/sh", "var", "var/log"
    ]  # fmt: skip
    assert lookup(repo, commit, "usr/bin/ash") == lookup(repo, base, "usr/bin/sh")
    assert paths(repo, base) == ["etc", "etc/x", "usr", "usr/bin", "usr/bin/sh", "usr/lib", "usr/lib/a"]


def test_overlay_of_files_and_directories(user_repo: Repository) -> None:
    lower = commit_files(user_repo, {"a/b": b"1", "c": b"2", "keep/me": b"3"}, ref=None)
    upper = commit_files(user_repo, {"a": b"file", "c/d": b"dir", "keep/too": b"4"}, ref=None)
    with user_repo.transaction():
        tree = TreeBuilder(user_repo)
        tree.overlay_commit(lower)
        tree.overlay_commit(upper)
        commit = finish(tree, user_repo)
    assert paths(user_repo, commit) == ["a", "c", "c/d", "keep", "keep/me", "keep/too"]


def test_build_errors(user_repo: Repository) -> None:
    with user_repo.transaction():
        tree = TreeBuilder(user_repo)
        tree.mkdir("dir")
        tree.add_file("file", REGULAR, b"")
        for call, error in (
            (lambda: tree.add_file("none/x", REGULAR, b""), NotFound),
            (lambda: tree.add_file("file/x", REGULAR, b""), NotFound),
            (lambda: tree.add_file("dir", REGULAR, b""), Conflict),
            (lambda: tree.add_file("", REGULAR, b""), Conflict),
            (lambda: tree.mkdir("file"), Conflict),
            (lambda: tree.add_file("../x", REGULAR, b""), InvalidInput),
            (lambda: tree.add_file("dir/../../x", REGULAR, b""), InvalidInput),
            (lambda: tree.add_file("a\0b", REGULAR, b""), InvalidInput),
            (lambda: tree.add_file("a\udcff", REGULAR, b""), InvalidInput),
            (lambda: tree.symlink("l", ""), InvalidInput),
            (lambda: tree.symlink("l", "\udcff"), InvalidInput),
            (lambda: tree.remove("none"), NotFound),
            (lambda: tree.remove("/"), InvalidInput),
            (lambda: tree.hardlink("x", "none"), NotFound),
            (lambda: tree.hardlink("x", "dir"), NotFound),
            (lambda: tree.add_existing("x", Checksum("0" * 64)), NotFound),
            (lambda: tree.mkdir("/".join("d" * 300), parents=True), InvalidInput),
        ):
            with pytest.raises(error):
                call()


# --- directories


def make_tree(base: Path) -> Path:
    (base / "sub/deep").mkdir(parents=True)
    (base / "sub/file").write_bytes(b"content")
    (base / "sub/deep/big").write_bytes(os.urandom(300_000))
    (base / "empty").write_bytes(b"")
    (base / "program").write_bytes(b"#!/bin/sh\n")
    (base / "program").chmod(0o755)
    (base / "link").symlink_to("sub/file")
    (base / "dangling").symlink_to("/none")
    os.link(base / "program", base / "program2")
    (base / "odd name ü\n'\"\\").write_bytes(b"odd")
    (base / "private").mkdir(mode=0o700)
    return base


def same_trees(left: Path, right: Path) -> None:
    def listing(base: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in base.rglob("*"):
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            what: object = None
            if path.is_symlink():
                what = os.readlink(path)
            elif path.is_file():
                what = path.read_bytes()
            found[str(path.relative_to(base))] = (kind, stat.S_IMODE(status.st_mode) if what != kind else 0, what)
        return found

    assert listing(left) == listing(right)


@pytest.mark.parametrize("force_copy", [False, True])
def test_directory_round_trip(repo: Repository, tmp_path: Path, force_copy: bool) -> None:
    source = make_tree(tmp_path / "source")
    if repo.mode is Mode.BARE_USER_ONLY:
        (source / "private").chmod(0o700)
    commit = commit_directory(repo, source, ref=Ref("main"), timestamp_s=0, no_xattrs=True, owner_uid=0, owner_gid=0)
    assert repo.resolve("main") == commit
    stats = checkout(repo, commit, tmp_path / "out", user_mode=True, force_copy=force_copy)
    same_trees(source, tmp_path / "out")
    assert (stats.links == 0) == (force_copy or repo.mode is Mode.ARCHIVE)
    assert (tmp_path / "out/sub/file").stat().st_mtime == 0
    again = commit_directory(repo, tmp_path / "out", timestamp_s=0, no_xattrs=True, owner_uid=0, owner_gid=0)
    assert repo.load_commit(again).tree == repo.load_commit(commit).tree
    with pytest.raises(Conflict, match="there already"):
        checkout(repo, commit, tmp_path / "out", user_mode=True)


def test_what_cannot_be_committed(user_repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    with pytest.raises(InvalidInput, match=r"source/pipe"):
        commit_directory(user_repo, source, timestamp_s=0, ref=Ref("x"))
    commit = commit_directory(user_repo, source, timestamp_s=0, skip_special=True)
    assert paths(user_repo, commit) == []
    commit = commit_directory(user_repo, source, timestamp_s=0, skip=lambda path: path == "/pipe")
    assert paths(user_repo, commit) == []
    (source / "pipe").unlink()
    os.close(os.open(os.fsencode(source) + b"/\xff\xfe", os.O_CREAT))
    with pytest.raises(InvalidInput, match="UTF-8"):
        commit_directory(user_repo, source, timestamp_s=0)
    os.unlink(os.fsencode(source) + b"/\xff\xfe")
    os.symlink(b"\xff", os.fsencode(source / "link"))
    with pytest.raises(InvalidInput, match="target"):
        commit_directory(user_repo, source, timestamp_s=0)
    with pytest.raises(Exception, match="cannot read"):
        commit_directory(user_repo, tmp_path / "none", timestamp_s=0)
    assert user_repo.refs() == {}


def test_a_deep_tree_is_refused_not_a_crash(user_repo: Repository, tmp_path: Path) -> None:
    path = tmp_path / "deep"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(InvalidInput, match="deeper"):
        commit_directory(user_repo, path, timestamp_s=0)


def test_canonical_permissions_and_statoverride(user_repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "su").write_bytes(b"x")
    (source / "su").chmod(0o4775)
    commit = commit_directory(user_repo, source, timestamp_s=0, canonical_permissions=True)
    found = lookup(user_repo, commit, "su")
    assert isinstance(found, str)
    header = user_repo.load_file_header(found)
    assert (header.uid, header.gid, header.mode) == (0, 0, 0o100755)
    modifier = Modifier(canonical_permissions=True, statoverride={"/su": (False, 0o4000)})
    side = scan_directory(source, modifier)
    assert side.load(side.tree).files[0][1] == found, "canonical comes last, as with ostree"
    side = scan_directory(source, Modifier(statoverride={"/su": (True, 0o600)}, ro_executables=True))
    assert side.load(side.tree).files[0][1] != found


# --- checkout


def test_unions(repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(repo, {"dir/a": b"new", "b": b"new"})
    out = tmp_path / "out"
    (out / "dir").mkdir(parents=True)
    (out / "dir/a").write_bytes(b"old")
    (out / "dir/mine").write_bytes(b"mine")
    with pytest.raises(Conflict):
        checkout(repo, commit, out, user_mode=True)
    checkout(repo, commit, out, user_mode=True, union=Union.ADD)
    assert (out / "dir/a").read_bytes() == b"old"
    assert (out / "b").read_bytes() == b"new"
    checkout(repo, commit, out, user_mode=True, union=Union.FILES)
    assert (out / "dir/a").read_bytes() == b"new"
    assert (out / "dir/mine").read_bytes() == b"mine"
    checkout(repo, commit, out, user_mode=True, union=Union.FILES)
    assert sorted(path.name for path in out.iterdir()) == ["b", "dir"]


def test_union_identical(user_repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(user_repo, {"a": b"same"})
    checkout(user_repo, commit, tmp_path / "out", user_mode=True)
    checkout(user_repo, commit, tmp_path / "out", user_mode=True, union=Union.IDENTICAL)
    other = commit_files(user_repo, {"a": b"other"})
    with pytest.raises(Conflict, match="different"):
        checkout(user_repo, other, tmp_path / "out", user_mode=True, union=Union.IDENTICAL)


def test_checkout_never_follows_a_link_in_the_destination(repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(repo, {"dir/a": b"new", "f": b"new"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "target").write_bytes(b"safe")
    out = tmp_path / "out"
    out.mkdir()
    (out / "dir").symlink_to(outside)
    (out / "f").symlink_to(outside / "target")
    for union in (Union.FILES, Union.ADD):
        with pytest.raises(Conflict):
            checkout(repo, commit, out, user_mode=True, union=union)
    (out / "dir").unlink()
    checkout(repo, commit, out, user_mode=True, union=Union.FILES)
    assert (outside / "target").read_bytes() == b"safe"
    assert sorted(os.listdir(outside)) == ["target"]
    assert not (out / "f").is_symlink()


def test_subpath_and_missing(user_repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(user_repo, {"etc/a": b"1", "etc/b": b"2", "x": b"3"})
    checkout(user_repo, commit, tmp_path / "etc", user_mode=True, subpath="/etc")
    assert sorted(os.listdir(tmp_path / "etc")) == ["a", "b"]
    checkout(user_repo, commit, tmp_path / "one", user_mode=True, subpath="/etc/a")
    assert os.listdir(tmp_path / "one") == ["a"]
    with pytest.raises(NotFound):
        checkout(user_repo, commit, tmp_path / "none", subpath="/none")
    lost = lookup(user_repo, commit, "x")
    assert isinstance(lost, str)
    user_repo.object_path(ObjectType.FILE, lost).unlink()
    with pytest.raises(NotFound):
        checkout(user_repo, commit, tmp_path / "broken", user_mode=True)


def test_require_hardlinks(archive: Repository, tmp_path: Path) -> None:
    commit = commit_files(archive, {"a": b"1"})
    with pytest.raises(Unsupported, match="hard-linked"):
        checkout(archive, commit, tmp_path / "out", user_mode=True, require_hardlinks=True)


# --- diff


def test_diff(repo: Repository) -> None:
    old = commit_files(repo, {"a": b"1", "b": b"2", "d/x": b"3", "gone/y": b"4", "was-file": b"5"})
    new = commit_files(repo, {"a": b"1", "b": b"changed", "d/x": b"3", "new/z": b"6", "was-file/now": b"7"})
    found = [(change.kind, change.path) for change in diff(repo, old, new)]
    assert found == [
        (Kind.MODIFIED, "b"),
        (Kind.MODIFIED, "was-file"),
        (Kind.REMOVED, "gone"),
        (Kind.ADDED, "new"),
        (Kind.ADDED, "new/z"),
        (Kind.ADDED, "was-file/now"),
    ]
    assert diff(repo, new, new) == []
    assert {change.kind for change in diff(repo, None, new)} == {Kind.ADDED}
    assert len(diff(repo, None, new)) == 8


def test_diff_with_a_directory(user_repo: Repository, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    commit = commit_directory(user_repo, source, timestamp_s=0)
    before = len(list(user_repo.list_objects()))
    (source / "sub/file").write_bytes(b"changed")
    (source / "private").chmod(0o755)
    found = [change.path for change in diff_trees(tree_of(user_repo, commit), scan_directory(source, Modifier()))]
    assert found == ["private", "sub/file"]
    assert len(list(user_repo.list_objects())) == before


# --- sizes and local pull


def test_sizes(archive: Repository) -> None:
    commit = commit_files(archive, {"a": b"x" * 10_000})
    found = lookup(archive, commit, "a")
    assert isinstance(found, str)
    name = object_name(ObjectType.FILE, found, Mode.ARCHIVE)
    gone = f"00/{'0' * 62}.filez"
    transfer, disk, missing = object_sizes(archive, [name, f"{commit[:2]}/{commit[2:]}.commit", gone])
    assert transfer < 1000
    assert disk == 3 * 4096 + 4096
    assert missing == (gone,)
    with pytest.raises(InvalidInput):
        object_sizes(archive, ["../x"])


@pytest.mark.parametrize("mode", [Mode.BARE_USER, Mode.ARCHIVE, Mode.BARE_USER_ONLY])
@pytest.mark.parametrize("untrusted", [False, True])
def test_pull_local(repo: Repository, tmp_path: Path, mode: Mode, untrusted: bool) -> None:
    first = commit_files(repo, {"a": b"1" * 100_000, "l/b": b"2"}, ref="os/x")
    second = commit_files(repo, {"a": b"1" * 100_000, "c": b"3"}, ref="os/x", parent=first)
    repo.write_detached(second, {"k": "v"})
    dest = make_repo(tmp_path / "dest", mode)
    stats = pull_local(dest, repo, untrusted=untrusted)
    assert dest.refs() == {Ref("os/x"): second}
    assert sorted(dest.commits()) == [second]
    same = mode is repo.mode or (repo.mode, mode) == (Mode.BARE_USER, Mode.BARE_USER_ONLY)
    assert (stats.linked > 0) == same, "untrusted files are linked, too: they are checked, and belong to this user"
    assert dest.read_detached(second) == {"k": "v"}
    assert pull_local(dest, repo, ["os/x"], remote="origin").linked == 0
    pull_local(dest, repo, [second], depth=-1)
    assert sorted(dest.commits()) == sorted([first, second])
    assert fsck(dest).ok
    assert fsck(repo).ok


def test_pull_local_of_damaged_sources(user_repo: Repository, tmp_path: Path) -> None:
    commit = commit_files(user_repo, {"a": b"1"})
    found = lookup(user_repo, commit, "a")
    assert isinstance(found, str)
    user_repo.object_path(ObjectType.FILE, found).write_bytes(b"2")
    dest = make_repo(tmp_path / "dest", Mode.ARCHIVE)
    with pytest.raises(IntegrityError):
        pull_local(dest, user_repo, untrusted=True)
    assert dest.refs() == {}
    assert list(dest.list_objects()) == []
    user_repo.mark_partial(commit)
    with pytest.raises(Conflict, match="only a part"):
        pull_local(dest, user_repo)
    with pytest.raises(NotFound):
        pull_local(dest, user_repo, ["none"])
    dest.config.set("core", "min-free-space-size", "1000000TB")
    dest.save_config()
    user_repo.mark_complete(commit)
    with pytest.raises(NoSpace):
        pull_local(dest, user_repo)
