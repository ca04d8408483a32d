"""Repositories of unusual kinds and in unusual places: split attributes, read-only, shared extents, with a parent."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.store.test_crash import wherry
from tests.unit.store.conftest import REGULAR, commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import NotFound, NotPermitted, Unsupported
from wherry.store.care.fsck import fsck
from wherry.store.care.prune import prune
from wherry.store.format import objects
from wherry.store.format.objects import FileHeader, Mode, ObjectType
from wherry.store.pull.local import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.checkout import checkout
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import lookup, read_path, walk

_TAGGED = FileHeader(uid=7, gid=8, mode=stat.S_IFREG | 0o640, xattrs=((b"user.mykey", b"myvalue"),))


def _tagged_commit(repo: Repository) -> Checksum:
    with repo.transaction():
        tree = TreeBuilder(repo)
        tree.add_file("foo", REGULAR, b"foo")
        tree.add_file("bar", _TAGGED, b"bar")
        tree.symlink("foolink", "foo")
        return commit_tree(repo, *tree.write(), timestamp_s=0, subject="split", ref=Ref("main"))


def split(source: Repository, place: Path) -> Repository:
    """Makes a bare-split-xattrs repository by hand, from one of another mode: OSTree does not write it yet."""
    make_repo(place, Mode.BARE)
    config = place / "config"
    config.write_text(config.read_text().replace("mode=bare\n", "mode=bare-split-xattrs\n"))
    for kind, checksum in source.list_objects():
        target = place / "objects" / checksum[:2] / f"{checksum[2:]}.{kind.extension}"
        target.parent.mkdir(exist_ok=True)
        if kind is not ObjectType.FILE:
            target.write_bytes(source.metadata_bytes(kind, checksum))
            continue
        header, content = source.load_file(checksum)
        if content is None:
            target.symlink_to(header.symlink_target)
        else:
            with content:
                target.write_bytes(content.read())
            target.chmod(stat.S_IMODE(header.mode))
        os.lchown(target, header.uid, header.gid)
        raw = objects.serialize_xattrs(header.xattrs)
        name = hashlib.sha256(raw).hexdigest()
        shared = place / "objects" / name[:2] / f"{name[2:]}.file-xattrs"
        shared.parent.mkdir(exist_ok=True)
        shared.write_bytes(raw)
        os.link(shared, target.with_suffix(".file-xattrs-link"))
    for ref, commit in source.refs().items():
        (place / "refs/heads" / ref).write_text(f"{commit}\n")
    return Repository.open(place)


def test_split_attributes_are_read(tmp_path: Path, user_repo: Repository) -> None:
    commit = _tagged_commit(user_repo)
    repo = split(user_repo, tmp_path / "split")
    assert dict(walk(repo, commit)) == dict(walk(user_repo, commit))
    assert fsck(repo).ok
    assert read_path(repo, commit, "bar", max_bytes=10) == b"bar"
    done = subprocess.run(["ostree", "fsck", f"--repo={repo.path}"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("ls -RCX", "log", "refs", "rev-parse", "show", "cat"):
        word, *options = command.split()
        words = [word, f"--repo={repo.path}", *options, *(["main"] if word != "refs" else [])]
        words += ["/bar"] if word == "cat" else []
        theirs = subprocess.run(["ostree", *words], capture_output=True, check=True)
        assert wherry(*words).stdout == theirs.stdout
    checkout(repo, commit, tmp_path / "out")
    assert os.getxattr(tmp_path / "out/bar", "user.mykey") == b"myvalue"
    assert os.stat(tmp_path / "out/bar").st_uid == 7
    dest = make_repo(tmp_path / "dest", Mode.BARE_USER)
    pull_local(dest, repo)
    assert dest.resolve("main") == commit
    assert fsck(dest).ok


def test_split_attributes_are_not_written(tmp_path: Path, user_repo: Repository) -> None:
    commit = _tagged_commit(user_repo)
    repo = split(user_repo, tmp_path / "split")
    before = set(repo.list_objects())
    with pytest.raises(Unsupported, match="can be read, not written"):
        commit_files(repo, {"x": b"new"})
    with pytest.raises(Unsupported, match="can be read, not pruned"):
        prune(repo)
    with pytest.raises(Unsupported, match="can be read, not written"):
        pull_local(repo, user_repo, [commit_files(user_repo, {"y": b"z"})])
    assert set(repo.list_objects()) == before
    damaged = lookup(repo, commit, "bar")
    assert isinstance(damaged, str)
    repo.object_path(ObjectType.FILE, damaged).with_suffix(".file-xattrs-link").unlink()
    assert not fsck(repo).ok


def test_split_attributes_can_be_set_up(tmp_path: Path) -> None:
    assert wherry("init", f"--repo={tmp_path}/r", "--mode=bare-split-xattrs").returncode == 0
    assert wherry("config", f"--repo={tmp_path}/r", "get", "core.mode").stdout == b"bare-split-xattrs\n"
    assert wherry("fsck", f"--repo={tmp_path}/r", "--all").returncode == 0


@contextmanager
def _image(tmp_path: Path, kind: str, size: int, make: list[str]) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / kind
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    place.mkdir()
    subprocess.run(["mount", "-t", kind, "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_read_only(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    repo = make_repo(place / "repo", Mode.BARE_USER)
    first = commit_files(repo, {"a": b"1"})
    commit = commit_files(repo, {"a": b"1", "b/c": b"2"}, parent=first)
    (repo.path / ".lock").unlink()
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        repo = Repository.open(repo.path)
        assert not repo.writable
        assert fsck(repo).ok
        assert read_path(repo, commit, "b/c", max_bytes=9) == b"2"
        for words in (["fsck"], ["refs"], ["ls", "-R", "main"], ["log", "main"], ["show", "main"],
                      ["prune", "--no-prune"], ["diff", "main^", "main"], ["checkout", "-U", "main", f"{tmp_path}/out"],
                      ["cat", "main", "/b/c"]):  # fmt: skip
            done = wherry(words[0], f"--repo={repo.path}", *words[1:])
            assert done.returncode == 0, (words, done.stderr)
        dest = make_repo(tmp_path / "dest", Mode.ARCHIVE)
        pull_local(dest, repo)
        assert fsck(dest).ok
        with pytest.raises(NotPermitted, match="Read-only"):
            commit_files(repo, {"x": b"y"})
        with pytest.raises(NotPermitted, match="Read-only"):
            prune(repo, refs_only=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _shared(path: Path) -> bool:
    """Tells whether a file's extents are shared (FIEMAP_EXTENT_SHARED, filefrag(8) of e2fsprogs)."""
    done = subprocess.run(["filefrag", "-v", str(path)], check=True, capture_output=True, text=True)
    return "shared" in done.stdout


def test_payload_links(tmp_path: Path) -> None:
    make = ["mkfs.xfs", "-q", "-m", "reflink=1"]
    data = os.urandom(300_000)
    with _image(tmp_path, "xfs", 320 << 20, make) as place:
        repo = make_repo(place / "repo", Mode.BARE_USER)
        repo.config.set("core", "payload-link-threshold", "100000")
        repo.save_config()
        other = FileHeader(uid=1, gid=1, mode=stat.S_IFREG | 0o600)
        with repo.transaction() as transaction:
            tree = TreeBuilder(repo)
            one = tree.add_file("one", REGULAR, data)
            two = tree.add_file("two", other, data)
            tree.add_file("small", REGULAR, data[:1000])
            commit = commit_tree(repo, *tree.write(), timestamp_s=0, ref=Ref("main"))
            assert transaction.objects_written == 6
        payload = Checksum(hashlib.sha256(data).hexdigest())
        links = [checksum for kind, checksum in repo.list_objects() if kind is ObjectType.PAYLOAD_LINK]
        assert links == [payload]
        link = repo.object_path(ObjectType.PAYLOAD_LINK, payload)
        assert os.readlink(link) == f"../{one[:2]}/{one[2:]}.file"
        subprocess.run(["sync", "-f", str(place)], check=True)
        assert _shared(repo.object_path(ObjectType.FILE, one))
        assert _shared(repo.object_path(ObjectType.FILE, two))
        assert fsck(repo).ok
        done = subprocess.run(["ostree", "fsck", f"--repo={repo.path}"], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        # in another transaction, as a stream, too
        big = data * 20
        with repo.transaction() as transaction:
            transaction.write_file(REGULAR, big)
        with repo.transaction() as transaction:
            (tmp_path / "big").write_bytes(big)
            with (tmp_path / "big").open("rb") as file:
                third = transaction.write_file(other, file)
        subprocess.run(["sync", "-f", str(place)], check=True)
        assert _shared(repo.object_path(ObjectType.FILE, third))
        # a link whose object is damaged spreads nothing, and one whose object is gone is of no harm
        path = repo.object_path(ObjectType.FILE, one)
        path.write_bytes(bytes(len(data)))
        with repo.transaction() as transaction:
            fourth = transaction.write_file(FileHeader(uid=2, gid=2, mode=stat.S_IFREG | 0o600), data)
        assert objects.file_checksum(repo.load_file_header(fourth), data) == fourth
        assert {problem.item for problem in fsck(repo).problems} == {(ObjectType.FILE, one)}
        path.unlink()
        with repo.transaction() as transaction:
            transaction.write_file(FileHeader(uid=3, gid=3, mode=stat.S_IFREG | 0o600), data)
        repo.mark_partial(commit)
        repo.set_ref(Ref("main"), None)
        prune(repo, refs_only=True)
        assert list(repo.list_objects()) == []


def test_without_shared_extents_there_are_no_links(user_repo: Repository) -> None:
    user_repo.config.set("core", "payload-link-threshold", "10")
    user_repo.save_config()
    commit_files(user_repo, {"a": b"1" * 100, "b": b"1" * 100})
    kinds = {kind for kind, _ in user_repo.list_objects()}
    assert ObjectType.PAYLOAD_LINK not in kinds  # the tests' own file system is ext4 or tmpfs
    assert fsck(user_repo).ok


def test_parent(tmp_path: Path) -> None:
    base = make_repo(tmp_path / "base", Mode.ARCHIVE)
    below = commit_files(base, {"a": b"1", "b": b"2"})
    repo = make_repo(tmp_path / "child", Mode.BARE_USER)
    repo.config.set("core", "parent", str(base.path))
    repo.save_config()
    assert repo.parent is not None
    assert repo.resolve("main") == below
    assert repo.has(ObjectType.COMMIT, below)
    assert read_path(repo, below, "a", max_bytes=9) == b"1"
    assert list(repo.list_objects()) == []
    other = make_repo(tmp_path / "other", Mode.ARCHIVE)
    commit = commit_files(other, {"a": b"1", "c": b"3"}, ref="child")
    pull_local(repo, other)
    files = [checksum for kind, checksum in repo.list_objects() if kind is ObjectType.FILE]
    assert len(files) == 1  # the other one lies in the parent
    assert fsck(repo).ok
    assert read_path(repo, commit, "a", max_bytes=9) == b"1"
    checkout(repo, commit, tmp_path / "out", user_mode=True)
    assert (tmp_path / "out/a").read_bytes() == b"1"
    assert prune(repo, refs_only=True).pruned == 0
    assert sorted(base.commits()) == [below]
    base.config.set("core", "parent", str(base.path))
    base.save_config()
    with pytest.raises(NotFound):
        repo.resolve("nothing")


def test_parents_in_a_circle(user_repo: Repository) -> None:
    user_repo.config.set("core", "parent", str(user_repo.path))
    user_repo.save_config()
    done = wherry("rev-parse", f"--repo={user_repo.path}", "main")
    assert done.returncode == 1
    assert b"parents of parents" in done.stderr


def test_prune_frees_what_du_shows(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", Mode.BARE_USER)

    def used() -> int:
        done = subprocess.run(
            ["du", "-s", "--block-size=1", str(repo.path)], check=True, capture_output=True, text=True
        )
        return int(done.stdout.split()[0])

    empty = used()
    commit_files(repo, {f"f{number}": os.urandom(20_000 + number) for number in range(50)}, ref="gone")
    repo.set_ref(Ref("gone"), None)
    full = used()
    dry = prune(repo, refs_only=True, dry_run=True)
    assert used() == full
    stats = prune(repo, refs_only=True)
    assert stats == dry
    assert stats.pruned == 53
    assert stats.freed_bytes > 50 * 20_000
    freed = full - used()
    assert freed >= stats.freed_bytes  # whole blocks, and the folders
    assert used() - empty <= 2 * 4096
