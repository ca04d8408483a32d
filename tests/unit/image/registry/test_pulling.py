"""Pulls from a registry that misbehaves."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar
from tests.unit.image.registry.fake import PASSWORD, USER, FakeRegistry

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, NetworkError, NoSpace, NotFound, NotPermitted
from wherry.core.progress import QUIET
from wherry.image.catalog import Images
from wherry.image.kept import KeptBlobs
from wherry.image.reference import Reference
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.credentials import Credentials
from wherry.image.registry.downloads import Downloads
from wherry.image.registry.hosts import Hosts
from wherry.image.registry.pulling import Pulled, PullOptions, pull
from wherry.image.registry.pushing import list_tags
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository
from wherry.store.tree.walk import read_path

NOISE = os.urandom(300_000)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    made = Layout(tmp_path / "layout")
    made.add(made.image([make_tar(file("base", NOISE)), make_tar(file("top", b"top"))]))
    with FakeRegistry(made) as found:
        yield found


def client_of(registry: FakeRegistry, credentials: Credentials | None = None, **more: Any) -> RegistryClient:
    return RegistryClient(Hosts().find(registry.domain), lambda _: credentials, timeout_s=10, **more)


def pull_from(
    repo: Repository,
    *registries: FakeRegistry,
    name: str = "app:1",
    credentials: Credentials | None = None,
    **options: Any,
) -> Pulled:
    clients = [client_of(registry, credentials) for registry in registries]
    reference = Reference.parse(f"{registries[-1].domain}/{name}")
    try:
        return pull(repo, reference, clients, options=PullOptions(**options))
    finally:
        for client in clients:
            client.close()


def parts(repo: Repository) -> list[str]:
    folder = repo.path / "oci/blobs"
    return sorted(path.name for path in folder.glob(".*")) if folder.is_dir() else []


def layer_digest(registry: FakeRegistry, index: int) -> str:
    manifest = registry.blob(registry.layout.manifests[0]["digest"])
    assert manifest
    return str(json.loads(manifest)["layers"][index]["digest"])


def sizes(registry: FakeRegistry) -> dict[Digest, int]:
    manifest = json.loads(registry.blob(registry.layout.manifests[0]["digest"]) or b"")
    return {Digest(item["digest"]): item["size"] for item in manifest["layers"]}


def test_a_pull(repo: Repository, registry: FakeRegistry) -> None:
    found = pull_from(repo, registry)
    assert found.is_new
    assert (found.layers, found.reused_layers) == (2, 0)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert found.record.digest == registry.layout.manifests[0]["digest"]
    assert Images(repo).get(f"{registry.domain}/app:1").commit == found.record.commit
    assert parts(repo) == []
    before = len(registry.asked_for("/blobs/"))
    again = pull_from(repo, registry)
    assert not again.is_new
    assert len(registry.asked_for("/blobs/")) == before


def test_layers_that_are_there_are_not_fetched(repo: Repository, registry: FakeRegistry, tmp_path: Path) -> None:
    pull_from(repo, registry)
    made = Layout(tmp_path / "second")
    made.add(made.image([make_tar(file("base", NOISE)), make_tar(file("top", b"other"))]))
    with FakeRegistry(made) as second:
        found = pull_from(repo, second)
        assert (found.layers, found.reused_layers) == (2, 1)
        assert len(second.asked_for("/blobs/")) == 2  # the config and one layer
    assert read_path(repo, found.record.commit, "top", max_bytes=10) == b"other"


def test_a_cut_is_taken_up(repo: Repository, registry: FakeRegistry) -> None:
    registry.cut_after = 100_000
    found = pull_from(repo, registry)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert {headers["Range"] for headers in registry.asked_for("/blobs/") if "Range" in headers} == {"bytes=100000-"}


def test_a_pull_that_failed_is_taken_up_by_the_next(
    repo: Repository, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.image.registry.downloads._TRIES", 1)
    monkeypatch.setattr("wherry.image.registry.client._TRIES", 1)
    registry.cut_after = 100_000
    registry.cut_always = registry.ignore_range = True
    with pytest.raises(NetworkError):
        pull_from(repo, registry)
    assert not repo.refs()
    part = repo.path / "oci/blobs" / f".part-{layer_digest(registry, 0)[7:]}"
    assert part.stat().st_size == 100_000
    registry.cut_after, registry.ignore_range = 0, False
    registry.requests.clear()
    found = pull_from(repo, registry)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert {headers["Range"] for headers in registry.asked_for("/blobs/") if "Range" in headers} == {"bytes=100000-"}
    assert parts(repo) == []


def test_a_part_that_is_garbage_is_fetched_anew(repo: Repository, registry: FakeRegistry) -> None:
    part = repo.path / "oci/blobs" / f".part-{layer_digest(registry, 0)[7:]}"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"garbage")
    found = pull_from(repo, registry)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert [headers.get("Range") for headers in registry.asked_for(layer_digest(registry, 0))] == ["bytes=7-", None]
    assert parts(repo) == []


def test_a_server_that_sends_all_when_asked_for_the_rest(repo: Repository, registry: FakeRegistry) -> None:
    registry.cut_after = 100_000
    registry.ignore_range = True
    found = pull_from(repo, registry)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert "bytes=100000-" in {headers.get("Range") for headers in registry.asked_for("/blobs/")}


def test_a_mirror_that_breaks_off_for_good(
    repo: Repository, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wherry.image.registry.downloads._TRIES", 1)
    monkeypatch.setattr("wherry.image.registry.client._TRIES", 1)
    with FakeRegistry(registry.layout) as mirror:
        mirror.cut_after = 100_000
        mirror.cut_always = mirror.ignore_range = True
        found = pull_from(repo, mirror, registry)
    assert read_path(repo, found.record.commit, "base", max_bytes=10**6) == NOISE
    assert [headers.get("Range") for headers in registry.asked_for("/blobs/")] == ["bytes=100000-"]


@pytest.mark.parametrize("more", [b"x", b"x" * 5_000_000])
def test_a_blob_that_is_longer_than_it_should_be(repo: Repository, registry: FakeRegistry, more: bytes) -> None:
    path = registry.layout.path / "blobs/sha256" / layer_digest(registry, 0)[7:]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(IntegrityError, match=f"a blob has {size + len(more)} bytes instead of {size}"):
        pull_from(repo, registry)
    assert not repo.refs()
    assert f".part-{path.name}" not in parts(repo)


def test_a_blob_that_is_shorter_than_it_should_be(repo: Repository, registry: FakeRegistry) -> None:
    path = registry.layout.path / "blobs/sha256" / layer_digest(registry, 0)[7:]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="instead of"):
        pull_from(repo, registry)
    assert not repo.refs()


def test_what_cannot_fit_is_not_begun(
    repo: Repository, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(repo.path)._replace(free=1000)
    monkeypatch.setattr("wherry.image.registry.downloads.shutil.disk_usage", lambda path: usage)
    with pytest.raises(NoSpace, match="are to be fetched, 1 kB are free"):
        pull_from(repo, registry)
    assert not registry.asked_for(layer_digest(registry, 0))


def test_giving_up_does_not_wait_for_a_busy_registry(repo: Repository, registry: FakeRegistry) -> None:
    registry.busy_blobs = 1000
    registry.retry_after = 200
    client = client_of(registry)
    begun = time.monotonic()

    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), Downloads(repo, [client], "app", sizes(registry), QUIET) as downloads:
        downloads.start([Digest(layer_digest(registry, 0))])
        while not registry.asked_for("/blobs/"):
            time.sleep(0.01)
        raise Interrupted
    client.close()
    assert time.monotonic() - begun < 20


def test_giving_up_does_not_wait_for_a_silent_registry(repo: Repository, registry: FakeRegistry) -> None:
    registry.silent_after = 100_000
    client = client_of(registry)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Downloads(repo, [client], "app", sizes(registry), QUIET) as downloads:
        with downloads.open(f"blobs/sha256/{layer_digest(registry, 0)[7:]}") as file:
            assert len(file.read(100_000)) == 100_000
        raise KeyboardInterrupt
    registry.release.set()
    client.close()
    assert time.monotonic() - begun < 8  # the timeout of a read is 10 s
    assert parts(repo) != []


def test_wrong_bytes_leave_nothing(repo: Repository, registry: FakeRegistry) -> None:
    registry.wrong_bytes = True
    with pytest.raises(IntegrityError, match="digest"):
        pull_from(repo, registry)
    assert not repo.refs()
    assert not list(repo.list_objects())
    assert parts(repo) == []


def test_a_busy_registry_is_waited_for(repo: Repository, registry: FakeRegistry) -> None:
    said: list[str] = []
    registry.busy = 1
    client = client_of(registry, say=said.append)
    assert pull(repo, Reference.parse(f"{registry.domain}/app:1"), [client]).is_new
    client.close()
    assert said == [f"{registry.domain} is busy; waiting 1 s"]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_logging_in(repo: Repository, registry: FakeRegistry, auth: str) -> None:
    registry.auth = auth
    with pytest.raises(NotPermitted, match="who you are"):
        pull_from(repo, registry)
    with pytest.raises(NotPermitted, match="wrong"):
        pull_from(repo, registry, credentials=Credentials(user=USER, password="no"))
    assert pull_from(repo, registry, credentials=Credentials(user=USER, password=PASSWORD)).is_new
    client = client_of(registry, Credentials(user=USER, password="no"))
    with pytest.raises(NotPermitted):
        client.check_login()
    client.close()


def test_an_identity_token(repo: Repository, registry: FakeRegistry) -> None:
    registry.auth, registry.identity_token = "bearer", "refresh"
    assert pull_from(repo, registry, credentials=Credentials(identity_token="refresh")).is_new


def test_credentials_do_not_go_along_with_a_redirect(repo: Repository, registry: FakeRegistry) -> None:
    with FakeRegistry(registry.layout) as other:
        registry.auth, registry.redirect_to = "basic", f"http://{other.domain}"
        assert pull_from(repo, registry, credentials=Credentials(user=USER, password=PASSWORD)).is_new
        assert len(other.asked_for("/blobs/")) == 3
        assert all("Authorization" not in headers for headers in other.asked_for(""))


def test_mirrors_come_first(repo: Repository, registry: FakeRegistry) -> None:
    with FakeRegistry(registry.layout) as mirror:
        assert pull_from(repo, mirror, registry).is_new
        assert registry.requests == []
    with FakeRegistry(Layout(repo.path / "nothing")) as broken:
        broken.auth = "basic"
        registry.requests.clear()
        Images(repo).remove(f"{registry.domain}/app:1")
        clients = [client_of(broken), client_of(registry)]
        assert pull(repo, Reference.parse(f"{registry.domain}/app:1"), clients).is_new
        for client in clients:
            client.close()


def test_by_digest(repo: Repository, registry: FakeRegistry) -> None:
    digest = registry.layout.manifests[0]["digest"]
    assert pull_from(repo, registry, name=f"app@{digest}").record.digest == digest
    with pytest.raises(IntegrityError):
        pull_from(repo, registry, name=f"app@sha256:{'0' * 64}")


def test_an_unknown_repository_in_the_registrys_words(repo: Repository, registry: FakeRegistry) -> None:
    with pytest.raises(NotFound, match=r"404: NAME_UNKNOWN no \[31m such"):
        pull_from(repo, registry, name="other:1")


def test_kept_blobs(repo: Repository, registry: FakeRegistry) -> None:
    pull_from(repo, registry)
    found = pull_from(repo, registry, keep_layers=True)
    assert found.is_new
    assert len(KeptBlobs(repo).listed()) == 2


def test_tags_of_all_pages(registry: FakeRegistry) -> None:
    client = client_of(registry)
    assert list_tags(client, "app") == ["1", "2", "3"]
    client.close()
