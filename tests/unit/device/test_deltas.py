"""Deltas that a device is offered: which it takes, and what a hub cannot talk it into."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from wherry.core.digest import Checksum
from wherry.core.errors import HttpError, NetworkError, TrustError
from wherry.device.deltas import Deltas
from wherry.device.hub import HubSession
from wherry.spec.wire import DeltaOffer
from wherry.store.delta.make import MakeOptions, make_delta
from wherry.store.format.objects import FileHeader, Mode, ObjectType
from wherry.store.pull.local import pull_local
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.walk import gaps

FILE = FileHeader(uid=0, gid=0, mode=0o100644)
NOISE = random.Random(5).randbytes(300_000)
OTHER_NOISE = random.Random(6).randbytes(20_000)


@dataclass
class _Answer:
    data: bytes
    status: int = 206
    url: str = "http://hub/x"
    headers: dict[str, str] = field(default_factory=dict)

    def read_all(self, *, max_bytes: int = 0) -> bytes:
        return self.data

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), 4096):
            yield self.data[start : start + 4096]


class FakeHub:
    """A session and its client, in one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.offers: list[DeltaOffer] = []
        self.status = 0
        self.empty = False
        self.client = self
        self.break_after = 1 << 30

    def deltas(self, have: list[Checksum], want: Checksum) -> tuple[DeltaOffer, ...]:
        return tuple(self.offers)

    def offer(self, old: Checksum, new: Checksum, data: bytes, *, objects_bytes: int = 200_000) -> None:
        self.files[f"/repo/extensions/wherry/deltas/{old}-{new}.wdelta"] = data
        self.offers.append(DeltaOffer(have=old, size=len(data), objects_bytes=objects_bytes))

    @contextmanager
    def open(self, method: str, path: str, *, headers: dict[str, str]) -> Iterator[_Answer]:
        begin, end = headers["Range"].removeprefix("bytes=").split("-")
        if self.status:
            yield _Answer(b"", status=self.status)
            return
        yield _Answer(b"" if self.empty else self.files[path][int(begin) : int(end) + 1])

    @contextmanager
    def get(self, path: str, *, offset: int = 0) -> Iterator[_Answer]:
        if self.status:
            raise HttpError("no", status=self.status)
        yield _Answer(self.files[path][offset:])


@dataclass
class World:
    source: Repository
    store: Repository
    hub: FakeHub
    notes: list[str]
    old: Checksum
    new: Checksum
    component: Checksum
    delta: bytes

    def deltas(self, *have: Checksum) -> Deltas:
        return Deltas(self.store, cast(HubSession, self.hub), have or (self.old,), self.notes.append)

    def make(self, tmp_path: Path, old: list[Checksum], new: list[Checksum]) -> bytes:
        path = tmp_path / "made"
        make_delta(self.source, old, new, path, options=MakeOptions(threads=1, strong=False))
        return path.read_bytes()


def commit(repo: Repository, content: bytes, number: int) -> Checksum:
    with repo.transaction():
        tree = TreeBuilder(repo)
        tree.add_file("file", FILE, content)
        return commit_tree(repo, *tree.write(), subject=f"{number}", timestamp_s=number)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, list[Checksum], bytes]:
    folder = tmp_path_factory.mktemp("made")
    source = Repository.init(folder / "source", Mode.ARCHIVE)
    old, new = commit(source, NOISE, 0), commit(source, b"revision", 1)
    component = commit(source, NOISE[:150_000] + OTHER_NOISE + NOISE[150_000:], 2)
    source.write_detached(new, {"signature": "the hub's"})
    world = World(source, source, FakeHub(), [], old, new, component, b"")
    return source, [old, new, component], world.make(folder, [old], [new, component])


@pytest.fixture
def world(made: tuple[Repository, list[Checksum], bytes], tmp_path: Path) -> World:
    source, (old, new, component), delta = made
    store = Repository.init(tmp_path / "store", Mode.BARE_USER)
    pull_local(store, source, [old])
    with store.transaction() as transaction:
        store.mark_partial(new)
        transaction.write_metadata(ObjectType.COMMIT, source.metadata_bytes(ObjectType.COMMIT, new), new)
    store.write_detached(new, {"signature": "checked"})
    found = World(source, store, FakeHub(), [], old, new, component, delta)
    found.hub.offer(old, new, delta)
    return found


def no_verify(commit: Checksum, data: bytes, detached: Any) -> None:
    raise TrustError("the revision's commit is here, so nobody asks")


def test_chosen_and_applied(world: World) -> None:
    deltas = world.deltas()
    chosen = deltas.choose(world.new, [world.component], None)
    assert chosen is not None
    assert chosen.size == len(world.delta)
    ticks: list[int] = []
    assert deltas.apply(chosen, no_verify, lambda: ticks.append(1))
    assert ticks
    for item in (world.new, world.component):
        assert next(gaps(world.store, item), None) is None
        assert not world.store.is_partial(item)
    assert world.store.read_detached(world.new) == {"signature": "checked"}, "not the delta's"
    assert world.notes == [f"by a delta: {len(world.delta)} bytes in place of 200000"]


def test_objects_are_cheaper(world: World) -> None:
    assert world.deltas().choose(world.new, [world.component], 100) is None
    world.hub.offers = [DeltaOffer(have=world.old, size=5, objects_bytes=10)]
    assert world.deltas().choose(world.new, [world.component], None) is None
    assert world.notes == []


def test_nothing_to_start_from(world: World) -> None:
    assert world.deltas(world.new, Checksum("0" * 64)).choose(world.new, [world.component], None) is None
    assert Deltas(world.store, cast(HubSession, world.hub), (), world.notes.append).choose(world.new, [], None) is None


def test_not_asked_for(world: World) -> None:
    world.hub.offers = [DeltaOffer(have="../../x", size=1, objects_bytes=10**9)]
    assert world.deltas().choose(world.new, [world.component], None) is None
    assert "not asked for" in world.notes[0]


def test_leads_elsewhere(world: World, tmp_path: Path) -> None:
    """A commit that the signed document does not name: not taken, however cheap."""
    assert world.deltas().choose(world.new, [], None) is None
    assert "leads to something else" in world.notes[0]


def test_starts_elsewhere(world: World, tmp_path: Path) -> None:
    other = commit(world.source, b"something else", 9)
    world.hub.offers.clear()
    world.hub.offer(world.old, world.new, world.make(tmp_path, [other], [world.component]))
    assert world.deltas().choose(world.new, [world.component], None) is None
    assert "not taken" in world.notes[0]


@pytest.mark.parametrize("data", [b"", b"WHYDELTA", b"nonsense" * 2000, b"WHYDELTA\x02" + bytes(100)])
def test_no_delta_at_all(world: World, data: bytes) -> None:
    world.hub.offers.clear()
    world.hub.offer(world.old, world.new, data)
    assert world.deltas().choose(world.new, [world.component], None) is None
    assert "not taken" in world.notes[0]


def test_answers_without_an_end(world: World) -> None:
    world.hub.empty = True
    assert world.deltas().choose(world.new, [world.component], None) is None


@pytest.mark.parametrize("status", [200, 404, 416, 500])
def test_hub_says_no(world: World, status: int) -> None:
    world.hub.status = status
    assert world.deltas().choose(world.new, [world.component], None) is None
    assert "not taken" in world.notes[0]


def test_login_ended(world: World) -> None:
    deltas = world.deltas()
    chosen = deltas.choose(world.new, [world.component], None)
    assert chosen is not None
    world.hub.status = 401
    with pytest.raises(HttpError):
        deltas.choose(world.new, [world.component], None)
    with pytest.raises(HttpError):
        deltas.apply(chosen, no_verify, lambda: None)


@pytest.mark.parametrize("at", [-40, -1000, 400])
def test_flipped_bit(world: World, at: int) -> None:
    data = bytearray(world.delta)
    deltas = world.deltas()
    chosen = deltas.choose(world.new, [world.component], None)
    assert chosen is not None
    data[at] ^= 16
    world.hub.files = dict.fromkeys(world.hub.files, bytes(data))
    assert not deltas.apply(chosen, no_verify, lambda: None)
    assert "bad delta, fetching objects" in world.notes[0]
    assert world.store.read_detached(world.new) == {"signature": "checked"}
    assert not list((world.store.path / "tmp").glob("wherry-delta-*"))


def test_gone_in_between(world: World) -> None:
    deltas = world.deltas()
    chosen = deltas.choose(world.new, [world.component], None)
    assert chosen is not None
    world.hub.status = 404
    assert not deltas.apply(chosen, no_verify, lambda: None)
    assert "no such delta" in world.notes[0]


def test_interrupted_and_taken_up_again(world: World) -> None:
    deltas = world.deltas()
    chosen = deltas.choose(world.new, [world.component], None)
    assert chosen is not None

    def stop() -> None:
        raise NetworkError("not now")

    with pytest.raises(NetworkError):
        deltas.apply(chosen, no_verify, stop)
    again = deltas.choose(world.new, [world.component], None)
    assert again is not None
    assert again.size <= chosen.size
    assert deltas.apply(again, no_verify, lambda: None)
