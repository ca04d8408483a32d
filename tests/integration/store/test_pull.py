"""Pulling over HTTP from servers that are slow, broken or lying; nothing is fetched twice, nothing wrong is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compat.store.archive_server import ArchiveServer, Request, serving
from tests.unit.store.conftest import commit_files, make_repo

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import (
    HttpError,
    IntegrityError,
    NetworkError,
    NoSpace,
    NotFound,
    TrustError,
    Unsupported,
)
from wherry.core.http import HttpClient
from wherry.store.care.fsck import fsck
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.pull import downloads, web
from wherry.store.pull.pull import RemotePull
from wherry.store.repository import Repository
from wherry.store.summary import parse_summary, update_summary
from wherry.store.tree.walk import lookup, read_path

LARGE = os.urandom(3_000_000)
FILES = {"etc/a": b"1", "etc/b": b"2" * 50_000, "usr/lib/large": LARGE, "usr/lib/x/y": b"3"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (downloads, web):
        monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def remote(archive: Repository) -> Repository:
    commit = commit_files(archive, FILES)
    archive.write_detached(commit, {"ostree.sign.ed25519": [b"s" * 64]})
    return archive


@pytest.fixture
def server(remote: Repository) -> Iterator[ArchiveServer]:
    with serving(remote.path) as found:
        yield found


@pytest.fixture(params=[Mode.BARE_USER, Mode.ARCHIVE])
def dest(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "dest", request.param)


@pytest.fixture
def pull(dest: Repository, server: ArchiveServer) -> Iterator[RemotePull]:
    client = HttpClient(server.url, timeout_s=5)
    yield RemotePull(dest, client)
    client.close()


def large_name(remote: Repository) -> str:
    found = lookup(remote, remote.resolve("main"), "usr/lib/large")
    assert isinstance(found, str)
    return object_name(ObjectType.FILE, found, Mode.ARCHIVE)


def test_pull(pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer) -> None:
    pull.check_remote()
    commit = pull.resolve("main")
    plan = pull.plan([commit])
    assert len(plan.missing_files) == 4
    assert plan.metadata_fetched == 1 + 5 + 1
    assert dest.is_partial(commit)
    stats = pull.fetch(plan)
    assert not dest.is_partial(commit)
    assert stats.objects == 11
    assert stats.bytes_received > len(LARGE)
    assert stats.refetched == ()
    pull.commit(plan, {Ref("origin:main"): commit})
    assert dest.resolve("origin:main") == commit
    assert read_path(dest, commit, "usr/lib/large", max_bytes=len(LARGE)) == LARGE
    assert dest.read_detached(commit) == {"ostree.sign.ed25519": [b"s" * 64]}
    assert set(server.objects().values()) == {1}
    assert fsck(dest).ok
    assert os.listdir(dest.path / "tmp/wherry-parts") == []
    server.requests.clear()
    again = pull.plan([commit])
    assert again.missing_files == ()
    assert [path for path in server.requests if not path.endswith(".commitmeta")] == []


def test_only_what_is_missing(pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer) -> None:
    first = pull.plan([remote.resolve("main")])
    pull.fetch(first)
    server.requests.clear()
    second = commit_files(remote, {**FILES, "etc/a": b"changed"}, parent=remote.resolve("main"))
    plan = pull.plan([second])
    assert len(plan.missing_files) == 1
    pull.fetch(plan)
    kinds = sorted(path.rpartition(".")[2] for path in server.objects())
    assert kinds == ["commit", "commitmeta", "dirtree", "dirtree", "filez"]
    assert read_path(dest, second, "etc/a", max_bytes=10) == b"changed"


def test_a_broken_transfer_is_taken_up(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer
) -> None:
    name = large_name(remote)

    def cut(request: Request, body: bytes) -> bytes | None:
        return body[:1_000_000] if name in request.path and request.number <= 2 else body

    server.fault = cut
    plan = pull.plan([remote.resolve("main")])
    stats = pull.fetch(plan)
    assert stats.refetched == ()
    offsets = server.offsets[f"/repo/objects/{name}"]
    assert offsets[0] == 0
    assert len(offsets) == 3
    assert offsets[1] > 0
    assert offsets[2] > offsets[1]
    size = (remote.path / "objects" / name).stat().st_size
    assert stats.bytes_received < size + 200_000
    assert fsck(dest).ok


def test_a_pull_that_failed_goes_on(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer
) -> None:
    name = large_name(remote)
    server.fault = lambda request, body: body[: len(body) // 3] if name in request.path else body
    commit = remote.resolve("main")
    with pytest.raises(NetworkError):
        pull.fetch(pull.plan([commit]))
    assert dest.is_partial(commit)
    done = {path for path in server.objects() if path.endswith(".filez") and name not in path}
    server.requests.clear()
    server.offsets.clear()
    server.fault = None
    plan = pull.plan([commit])
    assert plan.metadata_fetched == 0
    pull.fetch(plan)
    assert not done & set(server.requests)
    assert server.offsets[f"/repo/objects/{name}"][0] > 0
    assert fsck(dest).ok
    assert not dest.is_partial(commit)


def test_a_server_without_ranges(pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer) -> None:
    name = large_name(remote)
    server.ranges = False
    server.fault = lambda request, body: body[:1_000_000] if name in request.path and request.number == 1 else body
    pull.fetch(pull.plan([remote.resolve("main")]))
    assert fsck(dest).ok


def test_a_damaged_part_is_thrown_away(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer
) -> None:
    name = large_name(remote)
    parts = dest.path / "tmp/wherry-parts"
    parts.mkdir(parents=True)
    data = bytearray((remote.path / "objects" / name).read_bytes()[:1_000_000])
    data[500_000:500_100] = bytes(100)
    (parts / f"{name[:2]}{name[3:]}").write_bytes(bytes(data))
    pull.fetch(pull.plan([remote.resolve("main")]))
    assert fsck(dest).ok
    assert os.listdir(parts) == []


def test_a_part_longer_than_the_object(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    name = large_name(remote)
    parts = dest.path / "tmp/wherry-parts"
    parts.mkdir(parents=True)
    whole = (remote.path / "objects" / name).read_bytes()
    (parts / f"{name[:2]}{name[3:]}").write_bytes(whole)
    pull.fetch(pull.plan([remote.resolve("main")]))
    assert fsck(dest).ok
    assert os.listdir(parts) == []


def test_an_object_damaged_on_the_way_is_fetched_again(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer
) -> None:
    name = large_name(remote)

    def flip(request: Request, body: bytes) -> bytes | None:
        if name in request.path and request.number == 1:
            return body[:-1000] + bytes(1000)
        return body

    server.fault = flip
    stats = pull.fetch(pull.plan([remote.resolve("main")]))
    assert stats.refetched == (name,)
    assert fsck(dest).ok


@pytest.mark.parametrize("extension", ["filez", "dirtree", "dirmeta", "commit"])
def test_a_damaged_object(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer, extension: str
) -> None:
    def flip(request: Request, body: bytes) -> bytes | None:
        return body[:-1] + bytes([body[-1] ^ 1]) if request.path.endswith(extension) else body

    server.fault = flip
    commit = remote.resolve("main")
    with pytest.raises(IntegrityError, match=rf"\.{extension}.*objects/.*\.{extension}.*twice"):
        pull.fetch(pull.plan([commit]))
    assert max(server.objects().values()) == 2
    assert fsck(dest).ok
    with pytest.raises((IntegrityError, NotFound)):
        pull.fetch(pull.plan([commit]))
    assert not dest.has(ObjectType.COMMIT, commit) or dest.is_partial(commit)


def test_a_shortened_object(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    path = remote.path / "objects" / large_name(remote)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="cut short"):
        pull.fetch(pull.plan([remote.resolve("main")]))
    assert fsck(dest).ok


def test_a_missing_object(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    (remote.path / "objects" / large_name(remote)).unlink()
    plan = pull.plan([remote.resolve("main")])
    with pytest.raises(NotFound, match="answered 404"):
        pull.fetch(plan)
    with pytest.raises(IntegrityError, match="lacks an object"):
        pull.commit(plan)
    unknown = Checksum("0" * 64)
    with pytest.raises(NotFound):
        pull.plan([unknown])
    assert not dest.is_partial(unknown)
    with pytest.raises(NotFound):
        pull.resolve("none")


def test_a_server_that_is_overloaded(
    pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer
) -> None:
    server.fault = lambda request, body: None if request.number == 1 else body
    pull.fetch(pull.plan([remote.resolve("main")]))
    assert fsck(dest).ok


def test_a_server_that_is_down(dest: Repository) -> None:
    client = HttpClient("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(NetworkError) as caught:
        RemotePull(dest, client).plan([Checksum("0" * 64)])
    assert not isinstance(caught.value, HttpError)
    assert list(dest.list_objects()) == []


def test_no_trust_nothing_kept(dest: Repository, remote: Repository, server: ArchiveServer) -> None:
    seen: list[object] = []

    def refuse(commit: Checksum, data: bytes, detached: object) -> None:
        seen.append(detached)
        raise TrustError("no good signature", where=commit)

    commit = remote.resolve("main")
    pull = RemotePull(dest, HttpClient(server.url), verify=refuse)
    with pytest.raises(TrustError):
        pull.plan([commit])
    assert seen == [{"ostree.sign.ed25519": [b"s" * 64]}]
    assert list(dest.list_objects()) == []
    assert not dest.is_partial(commit)
    assert sorted(path.rpartition(".")[2] for path in server.requests) == ["commit", "commitmeta"]


def test_what_would_not_fit_is_refused(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    plan = pull.plan([remote.resolve("main")])
    dest.config.set("core", "min-free-space-size", "1000000TB")
    dest.save_config()
    with pytest.raises(NoSpace):
        pull.fetch(plan)
    dest.config.set("core", "min-free-space-size", "0MB")
    dest.save_config()
    pull.fetch(plan)
    assert fsck(dest).ok


def test_interrupted(pull: RemotePull, dest: Repository, remote: Repository, server: ArchiveServer) -> None:
    class Stop(Exception):
        pass

    class Progress:
        def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
            if task == "fetching objects":
                raise Stop

    release = threading.Event()
    name = large_name(remote)

    def slow(request: Request, body: bytes) -> bytes | None:
        if name in request.path and request.number == 1:
            release.wait(10)
        return body

    server.fault = slow
    plan = pull.plan([remote.resolve("main")])
    try:
        with pytest.raises(Stop):
            pull.fetch(plan, progress=Progress(), parallel=1)
    finally:
        release.set()
    pull.fetch(plan)
    assert fsck(dest).ok


def test_parents(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    first = remote.resolve("main")
    second = commit_files(remote, {"a": b"1"}, parent=first)
    third = commit_files(remote, {"a": b"2"}, parent=second)
    pull.fetch(pull.plan([third], depth=1))
    assert sorted(dest.commits()) == sorted([second, third])
    pull.fetch(pull.plan([third], depth=-1))
    assert sorted(dest.commits()) == sorted([first, second, third])
    assert fsck(dest).ok
    (remote.path / "objects" / first[:2] / f"{first[2:]}.commit").unlink()
    other = make_repo(dest.path.parent / "other", Mode.BARE_USER)
    client = HttpClient(f"{pull._client.base_url}")
    mine = RemotePull(other, client)
    mine.fetch(mine.plan([third], depth=-1))
    assert sorted(other.commits()) == sorted([second, third])
    client.close()


def test_summary(pull: RemotePull, remote: Repository, server: ArchiveServer) -> None:
    assert pull.remote_refs() == {}
    update_summary(remote, metadata={"key": "value"})
    assert pull.remote_refs() == {Ref("main"): remote.resolve("main")}
    parsed = parse_summary((remote.path / "summary").read_bytes())
    assert parsed.refs[0].timestamp_s == 0
    assert parsed.metadata["key"] == "value"


def test_no_archive(tmp_path: Path, dest: Repository) -> None:
    bare = make_repo(tmp_path / "bare", Mode.BARE_USER)
    with serving(bare.path) as server:
        client = HttpClient(server.url)
        with pytest.raises(Unsupported, match="archive"):
            RemotePull(dest, client).check_remote()
        client.close()
    with serving(tmp_path) as server:
        client = HttpClient(server.url)
        with pytest.raises(NotFound):
            RemotePull(dest, client).check_remote()
        client.close()


def test_detached_metadata_is_fetched_anew(pull: RemotePull, dest: Repository, remote: Repository) -> None:
    commit = remote.resolve("main")
    pull.fetch(pull.plan([commit]))
    remote.write_detached(commit, {"more": "now"})
    assert pull.fetch_detached(commit) == {"more": "now"}
    assert dest.read_detached(commit) == {"more": "now"}
    remote.write_detached(commit, {})
    assert pull.fetch_detached(commit) == {}
