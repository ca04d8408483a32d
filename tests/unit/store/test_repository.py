"""Repositories: writing, reading, refs, transactions."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.store.conftest import REGULAR, commit_files, make_repo

from wherry.core import trace
from wherry.core.digest import Checksum, Ref
from wherry.core.errors import (
    Conflict,
    IntegrityError,
    InvalidInput,
    Locked,
    NoSpace,
    NotFound,
    Unsupported,
    WherryError,
)
from wherry.store.disk import content
from wherry.store.format import objects
from wherry.store.format.objects import DirMeta, FileHeader, Mode, ObjectType
from wherry.store.mount import images
from wherry.store.repository import Repository
from wherry.store.tree.walk import gaps, lookup, reachable, read_path, walk

LARGE = os.urandom(64 * 1024) * 100


def test_files_come_back(repo: Repository) -> None:
    for data in (b"", b"hello", LARGE):
        with repo.transaction() as transaction:
            checksum = transaction.write_file(REGULAR, io.BytesIO(data))
            assert repo.has(ObjectType.FILE, checksum)
            assert transaction.write_file(REGULAR, data) == checksum
        assert checksum == objects.file_checksum(REGULAR, data)
        header, file = repo.load_file(checksum)
        assert header == REGULAR
        assert file is not None
        with file:
            assert b"".join(content.read_pieces(file)) == data


def test_links_come_back(repo: Repository) -> None:
    link = FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="../ü/target")
    with repo.transaction() as transaction:
        checksum = transaction.write_file(link)
    assert repo.load_file(checksum) == (link, None)


def test_owners_and_attributes_come_back(user_repo: Repository, archive: Repository) -> None:
    header = FileHeader(
        uid=1000, gid=50, mode=stat.S_IFREG | 0o4711, xattrs=((b"security.capability", b"\1\0"), (b"user.x", b""))
    )
    for repo in (user_repo, archive):
        with repo.transaction() as transaction:
            checksum = transaction.write_file(header, b"data")
        assert repo.load_file_header(checksum) == header


def test_bare_user_only_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "r", Mode.BARE_USER_ONLY)
    for header in (
        FileHeader(uid=1, gid=0, mode=0o100644),
        FileHeader(uid=0, gid=0, mode=0o104755),
        FileHeader(uid=0, gid=0, mode=0o100644, xattrs=((b"user.x", b"y"),)),
    ):
        with pytest.raises(Unsupported, match="bare-user-only"), repo.transaction() as transaction:
            transaction.write_file(header, b"x")


def test_archived_objects_are_taken_in_every_mode(repo: Repository) -> None:
    data = b"some content" * 1000
    whole = objects.archive_head(REGULAR, len(data)) + content.deflate(data, 3)
    checksum = objects.file_checksum(REGULAR, data)
    assert repo.write_object(ObjectType.FILE, io.BytesIO(whole), checksum) == checksum
    header, file = repo.load_file(checksum)
    assert header == REGULAR
    assert file is not None
    assert file.read() == data
    file.close()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda whole: whole[:-3], IntegrityError),
        (lambda whole: whole + b"x", IntegrityError),
        (lambda whole: whole[:8] + (99).to_bytes(8, "big") + whole[16:], IntegrityError),
        (lambda whole: whole[:8] + (0).to_bytes(8, "big") + whole[16:], IntegrityError),
        (lambda whole: b"\xff\xff\xff\xff" + whole[4:], InvalidInput),
        (lambda whole: whole[:6], IntegrityError),
        (lambda whole: whole[:27] + b"\xed" + whole[28:], IntegrityError),  # another mode: another name
        (lambda whole: b"", IntegrityError),
    ],
)
def test_damaged_archived_objects(repo: Repository, change: object, error: type[Exception]) -> None:
    assert callable(change)
    data = b"some content" * 100
    whole = objects.archive_head(REGULAR, len(data)) + content.deflate(data, 3)
    checksum = objects.file_checksum(REGULAR, data)
    with pytest.raises(error):
        repo.write_object(ObjectType.FILE, change(whole), checksum)
    assert not repo.has(ObjectType.FILE, checksum)
    assert list(repo.list_objects()) == []


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        (lambda data: data, 4999, "not the size"),
        (lambda data: data, 5001, "not the size"),
        (lambda data: data[:-3], 5000, "cut short"),
        (lambda data: data + b"x", 5000, "behind the end"),
        (lambda data: b"\xff" + data, 5000, "not compressed"),
    ],
)
def test_inflating_in_one_piece(change: Callable[[bytes], bytes], size: int, words: str) -> None:
    plain = os.urandom(100) * 50
    deflated = content.deflate(plain, 1)
    assert content.inflate(deflated, len(plain), "x") == plain
    assert content.inflate(content.deflate(b"", 1), 0, "x") == b""
    with pytest.raises(IntegrityError, match=words):
        content.inflate(change(deflated), size, "x")


def test_inflating_more_than_declared_is_stopped(archive: Repository) -> None:
    bomb = objects.archive_head(REGULAR, 10) + content.deflate(bytes(50_000_000), 3)
    with pytest.raises(IntegrityError, match="size"):
        archive.write_object(ObjectType.FILE, bomb, None)


def test_a_local_pull_ends_at_a_damaged_file(archive: Repository, user_repo: Repository) -> None:
    commit_files(archive, {f"f{number}": b"%d" % number for number in range(300)})
    damaged = next(checksum for kind, checksum in archive.list_objects() if kind is ObjectType.FILE)
    path = archive.object_path(ObjectType.FILE, damaged)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        user_repo.pull_from(archive)
    assert list(user_repo.list_objects()) == []
    assert user_repo.refs() == {}


def test_wrong_name(repo: Repository) -> None:
    with pytest.raises(IntegrityError, match="expected"), repo.transaction() as transaction:
        transaction.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(DirMeta()), Checksum("0" * 64))
    with pytest.raises(IntegrityError), repo.transaction() as transaction:
        transaction.write_file(REGULAR, b"x", Checksum("0" * 64))


def test_nothing_stays_of_a_failed_transaction(repo: Repository) -> None:
    def fail() -> None:
        with repo.transaction() as transaction:
            transaction.write_file(REGULAR, b"x")
            transaction.set_ref(Ref("a"), Checksum("0" * 64))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(repo.list_objects()) == []
    assert repo.refs() == {}
    assert os.listdir(repo.path / "tmp") == ["cache"]


def test_objects_are_seen_by_others_only_at_the_end(repo: Repository) -> None:
    other = Repository.open(repo.path)
    with repo.transaction() as transaction:
        checksum = transaction.write_file(REGULAR, b"x")
        assert repo.has(ObjectType.FILE, checksum)
        assert not other.has(ObjectType.FILE, checksum)
        transaction.checkpoint()
        assert other.has(ObjectType.FILE, checksum)
    assert os.listdir(repo.path / "tmp") == ["cache"]


def test_transactions_nest(repo: Repository) -> None:
    with repo.transaction() as outer:
        with repo.transaction() as inner:
            assert inner is outer
            inner.set_ref(Ref("a"), Checksum("0" * 64))
        assert repo.refs() == {}
    assert repo.refs() == {Ref("a"): Checksum("0" * 64)}


def test_threads_have_their_own_transactions(repo: Repository) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for round_ in range(5):
                commit_files(repo, {"a": b"%d %d" % (number, round_)}, ref=f"t{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for number in range(4):
        assert read_path(repo, repo.resolve(f"t{number}"), "a", max_bytes=10) == b"%d 4" % number


def test_order_of_a_commit(repo: Repository) -> None:
    seen: list[str] = []
    trace.observe(seen.append)
    try:
        commit_files(repo, {"a": b"x"})
    finally:
        trace.observe(None)
    assert [point for point in seen if point != "store.transaction.publishing"] == [
        "store.commit.written",
        "store.transaction.staged",
        "store.transaction.synced",
        "store.transaction.published",
        "store.transaction.ref",
        "store.ref.written",
        "store.transaction.done",
    ]


def test_folders_are_published_whole_where_that_can_be(repo: Repository) -> None:
    with repo.transaction() as transaction:
        first = [transaction.write_file(REGULAR, b"%d" % number) for number in range(40)]
        folder = repo.objects_dir / first[0][:2]
        transaction.checkpoint(last=True)
        inode = folder.stat().st_ino
        second = [transaction.write_file(REGULAR, b"%d" % number) for number in range(40, 400)]
        assert any(checksum.startswith(first[0][:2]) for checksum in second)
        commit = commit_files(repo, {"a": b"a"})
    assert folder.stat().st_ino == inode
    assert repo.has(ObjectType.COMMIT, commit)
    for number, checksum in enumerate(first + second):
        opened = repo.load_file(checksum)[1]
        assert opened is not None
        with opened:
            assert opened.read() == b"%d" % number


def test_an_empty_folder_of_another_process_is_not_replaced(repo: Repository) -> None:
    """OSTree makes a folder, looks it up, and renames an object into it: that folder must not be replaced meanwhile."""
    for number in range(256):
        (repo.objects_dir / f"{number:02x}").mkdir(exist_ok=True)
    before = {path.name: path.stat().st_ino for path in repo.objects_dir.iterdir()}
    commit = commit_files(repo, {f"{number}": b"%d" % number for number in range(100)})
    assert {path.name: path.stat().st_ino for path in repo.objects_dir.iterdir()} == before
    assert read_path(repo, commit, "99", max_bytes=10) == b"99"


def test_a_left_staging_folder_is_taken_over_without_its_commits(repo: Repository) -> None:
    class Killed(BaseException):
        pass

    kept = repo.path / "kept"

    def stop() -> None:
        staging = next((repo.path / "tmp").glob("staging-*[!k]"))
        staging.rename(kept)
        raise Killed

    trace.arm("store.transaction.synced", stop)
    try:
        with pytest.raises(Killed):
            commit_files(repo, {"a": b"left"})
    finally:
        trace.disarm()
    from wherry.store.disk.staging import boot_id

    kept.rename(repo.path / "tmp" / f"staging-{boot_id()}-abcd")
    other = repo.path / "tmp" / "staging-another-boot-abcd"
    other.mkdir()
    with repo.transaction() as transaction:
        assert transaction.has(objects.object_name(ObjectType.FILE, objects.file_checksum(REGULAR, b"left"), repo.mode))
        assert not list((repo.path / "tmp").glob("staging-*/*/*.commit"))
    assert not other.exists()
    assert repo.has(ObjectType.FILE, objects.file_checksum(REGULAR, b"left"))
    assert sorted(repo.commits()) == []


def test_prune_waits_for_transactions(repo: Repository) -> None:
    repo.config.set("core", "lock-timeout-secs", "0")
    repo.save_config()
    with repo.transaction():
        with pytest.raises(Locked), Repository.open(repo.path).lock(shared=False):
            pass
    with repo.lock(shared=False):
        with pytest.raises(Locked), Repository.open(repo.path).transaction():
            pass


def test_resolve(repo: Repository) -> None:
    first = commit_files(repo, {"a": b"1"}, ref="os/main")
    second = commit_files(repo, {"a": b"2"}, ref="os/main", parent=first)
    repo.set_ref(Ref("origin:os/far"), first)
    assert repo.resolve("os/main") == second
    assert repo.resolve("os/main^") == first
    assert repo.resolve(second) == second
    assert repo.resolve(second[:10] + "^") == first
    assert repo.resolve("origin:os/far") == first
    assert repo.resolve("os/far") == first
    assert repo.refs() == {Ref("origin:os/far"): first, Ref("os/main"): second}
    assert repo.refs("os") == {Ref("os/main"): second}
    assert repo.refs("os/main") == {Ref("os/main"): second}
    assert repo.refs("o") == {}
    for missing in ("os/none", "os/main^^", "ffffff", "..", "a b"):
        with pytest.raises(NotFound):
            repo.resolve(missing)
    repo.set_ref(Ref("other:os/far"), second)
    with pytest.raises(Conflict, match="several remotes"):
        repo.resolve("os/far")
    repo.set_ref(Ref("os/main"), None)
    assert Ref("os/main") not in repo.refs()


@pytest.mark.parametrize(
    "ref", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "-a", "a b", "a:b:c", "a\n", "ü b", ":a"]
)
def test_bad_refs(user_repo: Repository, ref: str) -> None:
    with pytest.raises(InvalidInput):
        user_repo.set_ref(Ref(ref), Checksum("0" * 64))


def test_refs_in_the_way_of_each_other(user_repo: Repository) -> None:
    user_repo.set_ref(Ref("a/b"), Checksum("0" * 64))
    with pytest.raises(Conflict):
        user_repo.set_ref(Ref("a"), Checksum("0" * 64))
    with pytest.raises(Conflict):
        user_repo.set_ref(Ref("a/b/c"), Checksum("0" * 64))


def test_a_damaged_ref(user_repo: Repository) -> None:
    (user_repo.path / "refs/heads/bad").write_text("")
    with pytest.raises(InvalidInput, match="empty ref"):
        user_repo.resolve("bad")
    (user_repo.path / "refs/heads/bad").write_text("not hex")
    with pytest.raises(InvalidInput):
        user_repo.refs()


def test_detached_metadata(repo: Repository) -> None:
    commit = commit_files(repo, {"a": b"1"})
    assert repo.read_detached(commit) == {}
    repo.write_detached(commit, {"ostree.sign.ed25519": [b"x" * 64]})
    assert repo.read_detached(commit) == {"ostree.sign.ed25519": [b"x" * 64]}
    repo.write_detached(commit, {"ostree.sign.ed25519": [b"x" * 64, b"y" * 64], "other": "text"})
    assert repo.read_detached(commit)["other"] == "text"
    repo.write_detached(commit, {})
    assert repo.read_detached(commit) == {}


def test_walk_and_lookup(repo: Repository) -> None:
    commit = commit_files(repo, {"etc/hostname": b"box", "b": b"2", "etc/a/b/c": b"3"})
    assert [path for path, _ in walk(repo, commit)] == ["", "b", "etc", "etc/hostname", "etc/a", "etc/a/b", "etc/a/b/c"]
    assert read_path(repo, commit, "/etc/hostname", max_bytes=3) == b"box"
    with pytest.raises(InvalidInput, match="longer"):
        read_path(repo, commit, "etc/hostname", max_bytes=2)
    assert isinstance(lookup(repo, commit, "/"), tuple)
    for missing in ("etc/none", "b/c", "none/x"):
        with pytest.raises(NotFound):
            lookup(repo, commit, missing)
    with pytest.raises(InvalidInput):
        lookup(repo, commit, "etc/../b")
    with pytest.raises(InvalidInput):
        read_path(repo, commit, "etc", max_bytes=10)
    assert len(reachable(repo, commit)) == 1 + 1 + 4 + 3
    assert list(gaps(repo, commit)) == []
    lost = lookup(repo, commit, "b")
    assert isinstance(lost, str)
    repo.object_path(ObjectType.FILE, lost).unlink()
    assert list(gaps(repo, commit)) == [objects.object_name(ObjectType.FILE, lost, repo.mode)]


def test_the_same_inputs_give_the_same_commit(user_repo: Repository, archive: Repository) -> None:
    files = {"a": b"1", "b/c": b"2"}
    assert commit_files(user_repo, files) == commit_files(archive, files)


def test_opening(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no repository"):
        Repository.open(tmp_path)
    repo = Repository.init(tmp_path / "r", Mode.ARCHIVE)
    assert Repository.init(tmp_path / "r", Mode.ARCHIVE).mode is Mode.ARCHIVE
    with pytest.raises(Conflict):
        Repository.init(tmp_path / "r", Mode.BARE)
    assert (repo.path / "config").read_text() == "[core]\nrepo_version=1\nmode=archive-z2\n"
    (repo.path / "config").write_text("[core]\nrepo_version=2\nmode=bare\n")
    with pytest.raises(Unsupported, match="version"):
        Repository.open(repo.path)
    (repo.path / "config").write_text("[core]\nrepo_version=1\nmode=bare-other\n")
    with pytest.raises(Unsupported, match="bare-other"):
        Repository.open(repo.path)


def test_init_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WherryError, match=r"file/a/b; .*/file is not a folder: name another place"):
        Repository.init(tmp_path / "file/a/b")
    with pytest.raises(WherryError, match=r"/proc/a/b; no folder can be made in /proc: name another place"):
        Repository.init(Path("/proc/a/b"))


def test_a_tree_that_somebody_else_laid_out_meanwhile(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", Mode.BARE_USER_ONLY)
    commit = commit_files(repo, {"a": b"1"})
    folder = repo.path / "extensions/wherry/trees"

    def somebody_is_faster() -> None:
        trace.disarm()
        images.tree(repo, commit)

    trace.arm("store.tree.made", somebody_is_faster)
    try:
        assert (images.tree(repo, commit) / "a").read_bytes() == b"1"
    finally:
        trace.disarm()
    assert os.listdir(folder) == [commit]

    def something_else() -> None:
        raise FileExistsError(17, "not about this tree")

    images.prune_images(repo, lambda _: False)
    trace.arm("store.tree.made", something_else)
    try:
        with pytest.raises(FileExistsError):
            images.tree(repo, commit)
    finally:
        trace.disarm()
    assert os.listdir(folder) == []


def test_free_space_is_left_alone(user_repo: Repository) -> None:
    user_repo.config.set("core", "min-free-space-size", "1000000TB")
    user_repo.save_config()
    with pytest.raises(NoSpace, match="less free space"):
        commit_files(user_repo, {"a": b"1"})
    assert list(user_repo.list_objects()) == []


def test_partial_marks(user_repo: Repository) -> None:
    commit = commit_files(user_repo, {"a": b"1"})
    assert not user_repo.is_partial(commit)
    user_repo.mark_partial(commit)
    assert user_repo.is_partial(commit)
    assert (user_repo.path / "state" / f"{commit}.commitpartial").exists()
    user_repo.mark_complete(commit)
    user_repo.mark_complete(commit)
    assert not user_repo.is_partial(commit)
