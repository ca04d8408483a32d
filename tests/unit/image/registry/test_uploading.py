"""Blobs into a registry that breaks off, forgets and refuses."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from tests.unit.image.makers import sha256
from tests.unit.image.registry.sink import Sink

from wherry.core.digest import Digest
from wherry.core.errors import HttpError, IntegrityError
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.hosts import Hosts
from wherry.image.registry.uploading import Upload, Uploader

NOISE = os.urandom(250_000)
DIGEST = Digest(sha256(NOISE))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.registry.uploading.CHUNK_BYTES", 100_000)
    monkeypatch.setattr("wherry.image.registry.client.backoff_s", lambda attempt: 0.01)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as found:
        yield found


@pytest.fixture
def client(sink: Sink) -> Iterator[RegistryClient]:
    found = RegistryClient(Hosts().find(sink.domain), timeout_s=10)
    yield found
    found.close()


def upload(data: bytes = NOISE, digest: Digest = DIGEST, told: list[int] | None = None) -> Upload:
    return Upload(
        digest=digest,
        size=len(data),
        open=lambda offset: io.BytesIO(data[offset:]),
        told=(told if told is not None else []).append,
    )


def test_small_blobs_go_whole(sink: Sink, client: RegistryClient) -> None:
    data = NOISE[:100_000]
    assert Uploader(client, "app").send(upload(data, Digest(sha256(data))))
    assert sink.blobs == {sha256(data): data}
    assert sink.methods["PATCH"] == 0
    assert not Uploader(client, "app").send(upload(data, Digest(sha256(data))))
    assert sink.methods["POST"] == 1


def test_large_ones_in_chunks(sink: Sink, client: RegistryClient) -> None:
    told: list[int] = []
    assert Uploader(client, "app").send(upload(told=told))
    assert sink.blobs == {DIGEST: NOISE}
    assert sink.ranges == ["0-99999", "100000-199999", "200000-249999"]
    assert told[-1] == 250_000


def test_the_registrys_least_chunk(sink: Sink, client: RegistryClient) -> None:
    sink.chunk_min = 200_000
    assert Uploader(client, "app").send(upload())
    assert sink.ranges == ["0-199999", "200000-249999"]


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_a_cut_is_taken_up(sink: Sink, client: RegistryClient, count: int) -> None:
    sink.cut_patch_after = count
    assert Uploader(client, "app").send(upload())
    assert sink.blobs == {DIGEST: NOISE}
    if count != 1:  # of one byte a registry says the same as of none
        assert sink.methods["POST"] == 1
    if count > 1:
        assert sink.ranges[1] == f"{count}-{count + 99_999}"


def test_an_upload_that_is_forgotten_begins_anew(sink: Sink, client: RegistryClient) -> None:
    sink.cut_patch_after, sink.forget_at_cut = 5000, True
    assert Uploader(client, "app").send(upload())
    assert sink.blobs == {DIGEST: NOISE}
    assert sink.methods["POST"] == 2


def test_a_lost_answer(sink: Sink, client: RegistryClient) -> None:
    sink.lose_answer = True
    assert Uploader(client, "app").send(upload())
    assert sink.methods["POST"] == 1


def test_what_is_refused_is_not_tried_again(sink: Sink, client: RegistryClient) -> None:
    sink.refuse_patch = 413
    with pytest.raises(HttpError, match="413"):
        Uploader(client, "app").send(upload())
    assert sink.methods["PATCH"] == 1


def test_a_file_that_has_changed(sink: Sink, client: RegistryClient) -> None:
    with pytest.raises(HttpError, match="400"):
        Uploader(client, "app").send(upload(NOISE[::-1]))
    assert not sink.blobs


def test_a_file_that_has_become_shorter(sink: Sink, client: RegistryClient) -> None:
    short = Upload(digest=DIGEST, size=250_000, open=lambda offset: io.BytesIO(NOISE[offset:240_000]), told=print)
    with pytest.raises(IntegrityError, match="240000 of 250000"):
        Uploader(client, "app").send(short)
    assert not sink.blobs


def test_mounting(sink: Sink, client: RegistryClient) -> None:
    sink.elsewhere[DIGEST] = NOISE
    sink.bearer = True
    assert not Uploader(client, "app", mount_from=["other"]).send(upload())
    assert sink.scopes == ["repository:app:pull,push", "repository:other:pull"]
    assert sink.blobs == {DIGEST: NOISE}


def test_what_cannot_be_mounted_is_sent(sink: Sink, client: RegistryClient) -> None:
    assert Uploader(client, "app", mount_from=["other"]).send(upload())
    assert sink.blobs == {DIGEST: NOISE}
    assert sink.methods["POST"] == 1
