"""Packs: whatever comes, in whatever pieces, no wrong object gets into the repository and nothing is left behind."""

from __future__ import annotations

import hashlib
import itertools
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.examples import examples

from wherry.core.errors import IntegrityError, InvalidInput
from wherry.store.care.fsck import check_one
from wherry.store.format.objects import DirMeta, FileHeader, Mode, ObjectType, object_name
from wherry.store.pull import pack
from wherry.store.pull.pack import PackCounts, PackReader
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import reachable

ROOT = FileHeader(uid=0, gid=0, mode=0o100644)


def frame(name: bytes, data: bytes, *, size: int | None = None) -> bytes:
    return struct.pack(">H", len(name)) + name + struct.pack(">Q", len(data) if size is None else size) + data


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, bytes]]:
    repo = Repository.init(tmp_path_factory.mktemp("source"), Mode.ARCHIVE)
    with repo.transaction():
        tree = TreeBuilder(repo)
        tree.mkdir("a", DirMeta())
        tree.add_file("a/empty", ROOT, b"")
        tree.add_file("a/text", ROOT, b"some text\n" * 50)
        tree.add_file("noise", ROOT, hashlib.shake_128(b"noise").digest(3000))
        tree.symlink("link", "a/text", FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="a/text"))
        commit = commit_tree(repo, *tree.write(), subject="s", timestamp_s=1)
    found = sorted(reachable(repo, commit), key=lambda item: (item[0].value, item[1]))
    return [
        (object_name(kind, name, Mode.ARCHIVE).encode(), repo.object_path(kind, name).read_bytes())
        for kind, name in found
        if repo.has(kind, name)
    ]


def receive(body: bytes, cuts: list[int]) -> tuple[PackCounts | None, set[str]]:
    """Feeds a pack in pieces to a new repository; returns the counts and what lies there then."""
    with tempfile.TemporaryDirectory() as folder:
        repo = Repository.init(Path(folder) / "repo", Mode.ARCHIVE)
        counts = None
        edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        with repo.transaction() as transaction:
            reader = PackReader(repo, transaction)
            try:
                for start, end in itertools.pairwise(edges):
                    reader.feed(body[start:end])
                counts = reader.finish()
            except (InvalidInput, IntegrityError):
                pass
            finally:
                reader.close()
        for path in (repo.path / "objects").glob("*/*"):
            assert not path.name.startswith("tmp")
        assert not list((repo.path / "tmp").glob("staging-*"))
        names = {f"{path.parent.name}/{path.name}" for path in (repo.path / "objects").glob("*/*")}
        for commit in repo.commits():
            assert repo.is_partial(commit)
        for kind, checksum in repo.list_objects():
            if kind is not ObjectType.COMMITMETA:
                assert check_one(repo, kind, checksum) == ""
        return counts, names


@settings(max_examples=examples(10, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_any_pieces(objects: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(objects))
    doubled = order + data.draw(st.lists(st.sampled_from(objects), max_size=2))
    body = b"".join(frame(*item) for item in doubled)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=30))
    counts, names = receive(body, cuts)
    assert counts is not None
    assert counts.stored == len(objects)
    assert counts.present == len(doubled) - len(objects)
    assert names == {name.decode() for name, _ in objects}


@settings(max_examples=examples(25, 600), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_found_and_nothing_wrong_is_kept(objects: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    body = bytearray(b"".join(frame(*item) for item in objects))
    for _ in range(data.draw(st.integers(1, 3))):
        if not body:
            break  # two cuts have taken all
        at = data.draw(st.integers(0, len(body) - 1))
        how = data.draw(st.sampled_from(["flip", "drop", "add", "cut"]))
        if how == "flip":
            body[at] ^= data.draw(st.integers(1, 255))
        elif how == "drop":
            del body[at]
        elif how == "add":
            body.insert(at, data.draw(st.integers(0, 255)))
        elif at:
            del body[at:]
    counts, names = receive(bytes(body), [])
    good = {name.decode() for name, _ in objects}
    if counts is not None:  # cut between two objects, or the change was undone
        assert names <= good
    # A deflate stream may be written in more than one way, so an object may survive a change; its content may not.
    assert {name for name in names if not name.endswith(".commitmeta")} <= good


@settings(max_examples=examples(40, 1500), deadline=None)
@given(body=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_noise(body: bytes, cuts: list[int]) -> None:
    counts, names = receive(body, cuts)
    assert names == set()
    assert counts is None or body == b""


NAME = b"ab/" + b"c" * 62


@pytest.mark.parametrize(
    "body",
    [
        frame(b"", b"x"),
        frame(b"x" * 81, b"x"),
        frame(NAME + b".filez", b""),
        frame(NAME + b".filez", b"", size=2**63),
        frame(NAME + b".dirtree", b"", size=17 * 1024 * 1024),
        frame(NAME + b".commitmeta", b"", size=2 * 1024 * 1024),
        frame(NAME + b".commitmeta", b"not a variant"),
        frame(NAME + b".file", b"x"),
        frame(NAME + b".tombstone-commit", b"x"),
        frame(NAME.upper() + b".filez", b"x"),
        frame(b"../../../../etc/passwd", b"x"),
        frame(b"ab/" + b"c" * 62 + b".filez\0", b"x"),
        frame(b"ab/\xff" + b"c" * 61 + b".filez", b"x"),
        frame(NAME + b".filez", struct.pack(">II", 2**31, 0) + b"x" * 100),
        frame(NAME + b".filez", struct.pack(">IIQ", 25, 0, 2**60) + b"x" * 100),
        frame(NAME + b".filez", b"\0" * 7),
    ],
)
def test_hostile_packs(body: bytes) -> None:
    counts, names = receive(body, [])
    assert counts is None
    assert names == set()


def test_a_bomb_is_stopped_by_the_size_that_it_declares(tmp_path: Path) -> None:
    import zlib

    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflater.compress(b"\0" * 50_000_000) + deflater.flush()
    head = struct.pack(">QIIII", 1000, 0, 0, 0o100644, 0) + b"\0" + bytes([25])
    counts, names = receive(frame(NAME + b".filez", struct.pack(">II", len(head), 0) + head + bomb), [])
    assert counts is None
    assert names == set()


def test_too_many_objects(objects: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_OBJECTS", 2)
    counts, names = receive(b"".join(frame(*item) for item in objects), [])
    assert counts is None
    assert len(names) == 2
