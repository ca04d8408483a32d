"""What is pushed to the registry endpoint and removed from it, as OCI's own suite does it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.image.makers import file, make_tar
from tests.unit.image.serving.client import CONFIG, GZIP, INDEX, LAYER, MANIFEST, TOKEN, Client, imported, sha

from wherry.image.catalog import Images
from wherry.image.kept import KeptBlobs
from wherry.image.serving import uploads
from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.messages import Gone, Request
from wherry.image.serving.registry import Registry
from wherry.image.tidying import tidy
from wherry.store.repository import Repository


def test_pushing_an_image(repo: Repository, pusher: Client) -> None:
    raw = pusher.push_image("team/app", "1")
    record = Images(repo).get("localhost/team/app:1")
    assert (record.digest, record.manifest) == (sha(raw), raw)
    assert repo.read(record.commit, "etc/motd") == b"hello"
    assert KeptBlobs(repo).listed() == [sha(LAYER)]
    pusher.ask("GET", "/v2/team/app/manifests/1")
    assert pusher.body == raw
    pusher.ask("GET", f"/v2/team/app/blobs/{sha(LAYER)}")
    assert pusher.body == LAYER
    waiting = [path.stat().st_size for path in (repo.path / "oci/uploads/sha256").iterdir()]
    assert len(waiting) == 1, "the config, which is in the commit: another push may have been told that it is there"
    assert pusher.push_image("team/app", "1") == raw


def test_pushing_in_chunks(repo: Repository, pusher: Client) -> None:
    begun = pusher.ask("POST", "/v2/a/blobs/uploads/")
    where = begun.headers["Location"]
    data = bytes(range(200))
    answer = pusher.ask("PATCH", where, data[:100], content_range="0-99", content_length="100")
    assert (answer.status, answer.headers["Range"]) == (202, "0-99")
    for wrong in ("0-99", "120-199", "100-150", "x"):
        answer = pusher.ask("PATCH", where, data[100:], content_range=wrong, content_length="100")
        assert (answer.status, answer.headers["Range"]) == (416, "0-99")
        assert pusher.error() == "BLOB_UPLOAD_INVALID"
    assert pusher.ask("GET", where).headers["Range"] == "0-99"
    assert pusher.ask("PATCH", where, data[100:150]).headers["Range"] == "0-149"
    done = pusher.ask("PUT", f"{where}?digest={sha(data)}", data[150:], content_range="150-199", content_length="50")
    assert done.status == 201
    pusher.ask("GET", f"/v2/a/blobs/{sha(data)}", range="bytes=10-19")
    assert pusher.body == data[10:20]
    assert pusher.ask("GET", where).status == 404


def test_pushing_at_once_and_mounting(repo: Repository, pusher: Client) -> None:
    assert pusher.ask("POST", f"/v2/a/blobs/uploads/?digest={sha(b'x')}", b"x").status == 201
    pusher.push_image("one", "1")
    answer = pusher.ask("POST", f"/v2/two/blobs/uploads/?mount={sha(LAYER)}&from=one")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/two/blobs/{sha(LAYER)}")
    for query in (f"mount={sha(b'none')}&from=one", f"mount={sha(b'none')}"):
        assert pusher.ask("POST", f"/v2/two/blobs/uploads/?{query}").status == 202


def test_a_layer_that_was_made_here_is_kept_when_it_is_pushed(repo: Repository, pusher: Client) -> None:
    imported(repo, "base:1")
    pusher.ask("GET", "/v2/base/manifests/1")
    raw = pusher.body
    layer = pusher.json()["layers"][0]["digest"]
    config = pusher.json()["config"]["digest"]
    for digest in (layer, config):
        assert pusher.ask("POST", f"/v2/copy/blobs/uploads/?mount={digest}&from=base").status == 201
    assert pusher.ask("PUT", "/v2/copy/manifests/1", raw, content_type=MANIFEST).status == 201
    assert Images(repo).get("localhost/copy:1").digest == sha(raw)
    assert KeptBlobs(repo).listed() == [layer]


def test_blobs_that_another_push_takes_over_are_found_still(repo: Repository, pusher: Client) -> None:
    raw = pusher.push_image("one", "0")
    config = json.loads(raw)["config"]["digest"]
    pusher.push_blob("one", LAYER)
    for digest in (config, sha(LAYER)):
        assert pusher.ask("HEAD", f"/v2/two/blobs/{digest}").status == 200, "so the client does not send it"
    assert pusher.ask("PUT", "/v2/one/manifests/1", raw).status == 201
    assert pusher.ask("PUT", "/v2/two/manifests/1", raw).status == 201


def test_a_wrong_digest(repo: Repository, pusher: Client) -> None:
    begun = pusher.ask("POST", "/v2/a/blobs/uploads/")
    assert pusher.ask("PUT", f"{begun.headers['Location']}?digest={sha(b'other')}", b"x").status == 400
    assert pusher.error() == "DIGEST_INVALID"
    assert pusher.ask("GET", begun.headers["Location"]).status == 404
    begun = pusher.ask("POST", "/v2/a/blobs/uploads/")
    assert pusher.ask("PUT", begun.headers["Location"], b"x").status == 400
    pusher.ask("PUT", f"/v2/a/manifests/{sha(b'other')}", b"{}")
    assert pusher.error() == "DIGEST_INVALID"
    assert [path.name for path in (repo.path / "oci/uploads").iterdir() if path.name != "sha256"] != []
    pusher.registry.close()
    assert [path.name for path in (repo.path / "oci/uploads").iterdir()] == ["sha256"]


def test_cancelling(pusher: Client) -> None:
    where = pusher.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    assert pusher.ask("DELETE", where.replace("/a/", "/b/")).status == 404, "of another repository"
    assert pusher.ask("DELETE", where).status == 204
    assert pusher.ask("PATCH", where, b"x").status == 404
    assert pusher.error() == "BLOB_UPLOAD_UNKNOWN"
    assert pusher.ask("PATCH", "/v2/a/blobs/uploads/x", b"x").status == 404


def test_too_much(repo: Repository, pusher: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = pusher.registry
    assert registry._uploads is not None
    monkeypatch.setattr(registry._uploads, "_max_blob_bytes", 10)
    where = pusher.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    assert pusher.ask("PATCH", where, b"x" * 11).status == 413
    assert pusher.error() == "SIZE_INVALID"
    assert pusher.ask("GET", where).status == 404
    monkeypatch.setattr(registry._uploads, "_max_uploads", 2)
    for _ in range(2):
        assert pusher.ask("POST", "/v2/a/blobs/uploads/").status == 202
    answer = pusher.ask("POST", "/v2/a/blobs/uploads/")
    assert (answer.status, pusher.error(), answer.headers["Retry-After"]) == (429, "TOOMANYREQUESTS", "60")
    monkeypatch.setattr(uploads, "MAX_REST_S", -1)
    assert pusher.ask("POST", "/v2/a/blobs/uploads/").status == 202, "the others have rested for too long"
    assert pusher.ask("PUT", "/v2/a/manifests/1", b"x" * (4 * 1024 * 1024 + 1)).status == 413


def test_a_client_that_goes_in_the_middle(repo: Repository, pusher: Client) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise Gone

    where = pusher.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
    request = Request(method="PATCH", path=where, headers=pusher.headers, body=Broken())
    with pytest.raises(Gone):
        pusher.registry.answer(request)
    assert pusher.ask("GET", where).status == 404
    assert [path.name for path in (repo.path / "oci/uploads").iterdir()] == ["sha256"]


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha(data), "size": len(data)}


def bad_manifests() -> dict[str, tuple[Callable[[dict[str, Any]], None], int, str]]:
    def change(**values: Any) -> Callable[[dict[str, Any]], None]:
        return lambda manifest: manifest.update(values)

    missing = descriptor(b"none", GZIP)
    wrong_size = {**descriptor(LAYER, GZIP), "size": 1}
    return {
        "a missing layer": (change(layers=[missing]), 404, "MANIFEST_BLOB_UNKNOWN"),
        "a missing config": (change(config=descriptor(b"none", CONFIG)), 404, "MANIFEST_BLOB_UNKNOWN"),
        "a wrong size": (change(layers=[wrong_size]), 400, "MANIFEST_INVALID"),
        "no layers": (lambda manifest: manifest.pop("layers"), 400, "MANIFEST_INVALID"),
        "another version": (change(schemaVersion=1), 400, "MANIFEST_INVALID"),
        "another type": (change(mediaType=INDEX), 400, "MANIFEST_INVALID"),
        "layers of another number": (change(layers=[descriptor(LAYER, GZIP)] * 2), 400, "MANIFEST_INVALID"),
        "a config that is none": (change(config=descriptor(LAYER, CONFIG)), 400, "MANIFEST_INVALID"),
        "a foreign layer": (
            change(layers=[{**descriptor(LAYER, GZIP), "urls": ["http://192.0.2.1/"]}]), 400, "MANIFEST_INVALID"
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", bad_manifests())
def test_manifests_that_are_refused(repo: Repository, pusher: Client, case: str) -> None:
    good = json.loads(pusher.push_image("a", "good"))
    for data in (LAYER, json.dumps({"rootfs": {"diff_ids": []}}).encode()):
        pusher.push_blob("a", data)
    before = repo.refs("image")
    change, status, code = bad_manifests()[case]
    change(good)
    answer = pusher.ask("PUT", "/v2/a/manifests/bad", json.dumps(good).encode(), content_type=MANIFEST)
    assert (answer.status, pusher.error()) == (status, code)
    assert repo.refs("image") == before


@pytest.mark.parametrize("raw", [b"", b"[]", b"x", b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":[1]}'])
def test_what_is_no_manifest(pusher: Client, raw: bytes) -> None:
    assert pusher.ask("PUT", "/v2/a/manifests/1", raw).status == 400
    assert pusher.error() == "MANIFEST_INVALID"


def test_a_layer_that_is_not_what_the_config_says(repo: Repository, pusher: Client) -> None:
    manifest = json.loads(pusher.push_image("a", "good"))
    other = gzip.compress(make_tar(file("../escape", "x")))
    pusher.push_blob("a", other)
    manifest["layers"] = [descriptor(other, GZIP)]
    assert pusher.ask("PUT", "/v2/a/manifests/bad", json.dumps(manifest).encode()).status == 400
    assert pusher.error() == "MANIFEST_INVALID"
    assert "localhost/a:bad" not in {str(record.reference) for record in Images(repo).list()}


def test_pushing_an_index(repo: Repository, pusher: Client) -> None:
    items = []
    for architecture in ("amd64", "arm64"):
        raw = pusher.push_image("app", "", architecture=architecture)
        platform = {"os": "linux", "architecture": architecture}
        items.append({**descriptor(raw, MANIFEST), "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": items}).encode()
    answer = pusher.ask("PUT", "/v2/app/manifests/1", index, content_type=INDEX)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, sha(index))
    assert [str(record.reference) for record in Images(repo).list()] == ["localhost/app:1"]
    pusher.ask("GET", "/v2/app/manifests/1", accept=f"{INDEX}, {MANIFEST}")
    assert pusher.body == index
    for item in items:
        assert pusher.ask("GET", f"/v2/app/manifests/{item['digest']}").status == 200
        assert sha(pusher.body) == item["digest"]
    answer = pusher.ask("GET", "/v2/app/manifests/1", accept=MANIFEST)
    assert answer.headers["Content-Type"] == MANIFEST
    assert pusher.ask("GET", f"/v2/app/manifests/{sha(index)}").status == 200
    missing = json.dumps({"schemaVersion": 2, "manifests": [descriptor(b"none", MANIFEST)]}).encode()
    assert pusher.ask("PUT", "/v2/app/manifests/2", missing).status == 404
    assert pusher.error() == "MANIFEST_BLOB_UNKNOWN"
    assert pusher.ask("DELETE", f"/v2/app/manifests/{items[1]['digest']}").status == 403
    assert pusher.ask("DELETE", f"/v2/app/manifests/{sha(index)}").status == 202
    assert not repo.refs("image")
    assert not repo.refs("image-platform")


def test_an_index_with_attestations(repo: Repository, pusher: Client) -> None:
    raw = pusher.push_image("app", "")
    attestation = pusher.push_artifact("app", "")
    unknown = {"os": "unknown", "architecture": "unknown"}
    items = [descriptor(raw, MANIFEST), {**descriptor(attestation, MANIFEST), "platform": unknown}]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": items}).encode()
    assert pusher.ask("PUT", "/v2/app/manifests/1", index, content_type=INDEX).status == 201
    pusher.ask("GET", "/v2/app/manifests/1", accept=INDEX)
    assert pusher.body == index
    assert Images(repo).get("localhost/app:1").digest == sha(raw)


def test_referrers(repo: Repository, pusher: Client) -> None:
    image = pusher.push_image("app", "1")
    assert pusher.ask("GET", f"/v2/app/referrers/{sha(image)}").headers["Content-Type"] == INDEX
    assert pusher.json()["manifests"] == []
    sbom = pusher.push_artifact("app", "", image, annotations={"a": "b"})
    pusher.push_artifact("app", "sig", image, artifactType="application/vnd.example.signature")
    pusher.push_artifact("other", "", image)
    pusher.ask("GET", f"/v2/app/referrers/{sha(image)}")
    found = {item["artifactType"]: item for item in pusher.json()["manifests"]}
    assert found.keys() == {"application/vnd.example.sbom", "application/vnd.example.signature"}
    assert found["application/vnd.example.sbom"] == {
        "mediaType": MANIFEST,
        "digest": sha(sbom),
        "size": len(sbom),
        "artifactType": "application/vnd.example.sbom",
        "annotations": {"a": "b"},
    }
    answer = pusher.ask("GET", f"/v2/app/referrers/{sha(image)}?artifactType=application/vnd.example.sbom")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [item["digest"] for item in pusher.json()["manifests"]] == [sha(sbom)]
    pusher.ask("GET", "/v2/app/tags/list")
    assert pusher.json()["tags"] == ["1", "sig"]
    tidy(repo)
    pusher.ask("GET", f"/v2/app/blobs/{sha(b'{}')}")
    assert pusher.body == b"{}"
    assert pusher.ask("DELETE", f"/v2/app/manifests/{sha(sbom)}").status == 202
    assert pusher.ask("GET", f"/v2/app/manifests/{sha(sbom)}").status == 404


def test_removing(repo: Repository, pusher: Client) -> None:
    raw = pusher.push_image("app", "1")
    pusher.push_image("app", "2")
    imported(repo, "elsewhere:1")
    assert pusher.ask("DELETE", "/v2/app/manifests/1").status == 202
    assert pusher.ask("GET", "/v2/app/manifests/1").status == 404
    assert pusher.ask("GET", f"/v2/app/manifests/{sha(raw)}").status == 200
    assert pusher.ask("DELETE", f"/v2/app/blobs/{sha(LAYER)}").status == 405
    assert pusher.ask("DELETE", f"/v2/app/manifests/{sha(raw)}").status == 202
    assert pusher.ask("DELETE", f"/v2/app/manifests/{sha(raw)}").status == 404
    pusher.push_blob("app", b"x")
    assert pusher.ask("DELETE", f"/v2/app/blobs/{sha(b'x')}").status == 202
    assert pusher.ask("DELETE", f"/v2/app/blobs/{sha(b'x')}").status == 404
    assert pusher.ask("DELETE", "/v2/elsewhere/manifests/1").status == 403
    assert pusher.error() == "DENIED"
    no_delete = Client(Registry(repo, Door(Accounts(token=TOKEN)), push=True), **pusher.headers)
    assert no_delete.ask("DELETE", "/v2/elsewhere/manifests/1").status == 405


def test_a_push_takes_no_place_of_what_came_from_elsewhere(repo: Repository, pusher: Client) -> None:
    digest = imported(repo, "debian:12")
    raw = pusher.push_image("docker.io/library/debian", "12")
    assert Images(repo).get("debian:12").digest == digest
    assert Images(repo).get("localhost/docker.io/library/debian:12").digest == sha(raw)
    pusher.ask("GET", "/v2/docker.io/library/debian/manifests/12")
    assert pusher.body == raw, "what was pushed comes first"
