"""The registry endpoint without a server: what is read, pushed, removed and refused. The cases of OCI's own suite."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, directory, file, make_tar

from wherry.image.catalog import Images
from wherry.image.importing import import_image
from wherry.image.kept import KeptBlobs
from wherry.image.naming import tag as give_tag
from wherry.image.serving import uploads
from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.messages import Answer, Gone, Request, Stream
from wherry.image.serving.registry import Registry
from wherry.image.tidying import tidy
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

LAYER = gzip.compress(make_tar(directory("./"), file("etc/motd", "hello")), mtime=0)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TOKEN = "a-token-of-many-letters"


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Client:
    """Asks a registry as a client would, and reads what it answers."""

    def __init__(self, registry: Registry, **headers: str) -> None:
        self.registry, self.headers = registry, headers
        self.body = b""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        target, _, query = path.partition("?")
        fields = dict(item.split("=", 1) for item in query.split("&") if item)
        answer = self.registry.answer(
            Request(
                method=method,
                path=target,
                query=fields,
                headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
                body=io.BytesIO(body),
                address="192.0.2.1",
                origin="http://registry.example:5000",
            )
        )
        if isinstance(answer.body, Stream):
            with answer.body.open() as opened:
                self.body = opened.read(answer.body.size) if answer.body.size else b""
                while len(self.body) < answer.body.size:
                    self.body += opened.read(answer.body.size - len(self.body))
        else:
            self.body = answer.body
        return answer

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> str:
        found: str = self.json()["errors"][0]["code"]
        return found

    def push_blob(self, name: str, data: bytes) -> str:
        begun = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202
        done = self.ask("PUT", f"{begun.headers['Location']}?digest={sha(data)}", data)
        assert done.status == 201, self.body
        assert done.headers["Location"] == f"/v2/{name}/blobs/{sha(data)}"
        return sha(data)

    def push_image(self, name: str, reference: str, layer: bytes = LAYER, **more: Any) -> bytes:
        config = {
            "architecture": more.pop("architecture", "amd64"),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha(gzip.decompress(layer))]},
        }
        raw_config = json.dumps(config).encode()
        for data in (raw_config, layer):
            self.push_blob(name, data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": sha(raw_config), "size": len(raw_config)},
            "layers": [{"mediaType": GZIP, "digest": sha(layer), "size": len(layer)}],
            **more,
        }
        raw = json.dumps(manifest, indent=1).encode()
        done = self.ask("PUT", f"/v2/{name}/manifests/{reference or sha(raw)}", raw, content_type=MANIFEST)
        assert done.status == 201, self.body
        assert done.headers["Docker-Content-Digest"] == sha(raw)
        return raw

    def push_artifact(self, name: str, reference: str, subject: bytes | None = None, **more: Any) -> bytes:
        blob = b"{}"
        self.push_blob(name, blob)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha(blob), "size": 2},
            "layers": [{"mediaType": "application/json", "digest": sha(blob), "size": 2}],
            **more,
        }
        if subject is not None:
            manifest["subject"] = {"mediaType": MANIFEST, "digest": sha(subject), "size": len(subject)}
        raw = json.dumps(manifest).encode()
        done = self.ask("PUT", f"/v2/{name}/manifests/{reference or sha(raw)}", raw, content_type=MANIFEST)
        assert done.status == 201, self.body
        assert done.headers.get("OCI-Subject") == (sha(subject) if subject is not None else None)
        return raw


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    made.config.set("core", "fsync", "false")
    made.save_config()
    return made


@pytest.fixture
def reader(repo: Repository) -> Client:
    return Client(Registry(repo, Door(Accounts())))


@pytest.fixture
def pusher(repo: Repository) -> Client:
    registry = Registry(repo, Door(Accounts(token=TOKEN)), push=True, delete=True)
    return Client(registry, authorization=f"Bearer {TOKEN}")


def imported(repo: Repository, name: str, content: str = "hello", *, keep: bool = False) -> str:
    path = repo.path.parent / f"layout-{content}-{keep}"
    if not path.exists():
        made = Layout(path)
        made.add(made.image([make_tar(directory("./"), file("etc/motd", content))]))
    return str(import_image(repo, str(path), name=name, keep_layers=keep).digest)


# --- reading


def test_the_version(reader: Client) -> None:
    answer = reader.ask("GET", "/v2/")
    assert (answer.status, answer.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")
    assert reader.ask("GET", "/v2").status == 200


@pytest.mark.parametrize("keep", [True, False])
def test_pulling(repo: Repository, reader: Client, keep: bool) -> None:
    digest = imported(repo, "debian:12", keep=keep)
    first = reader.ask("GET", "/v2/debian/manifests/12", accept=MANIFEST)
    raw = reader.body
    assert first.headers["Content-Type"] == MANIFEST
    assert first.headers["Docker-Content-Digest"] == sha(raw)
    assert (sha(raw) == digest) is keep
    assert reader.ask("HEAD", "/v2/debian/manifests/12").size == len(raw)
    for name in ("debian", "library/debian", "docker.io/library/debian"):
        assert reader.ask("GET", f"/v2/{name}/manifests/{sha(raw)}").status == 200
        assert reader.body == raw
        manifest = reader.json()
        for item in (manifest["config"], *manifest["layers"]):
            answer = reader.ask("GET", f"/v2/{name}/blobs/{item['digest']}")
            assert answer.status == 200
            assert (sha(reader.body), len(reader.body)) == (item["digest"], item["size"])


def test_digests_survive_a_restart(repo: Repository, reader: Client) -> None:
    imported(repo, "debian:12")
    reader.ask("GET", "/v2/debian/manifests/12")
    again = Client(Registry(Repository.open(repo.path), Door(Accounts())))
    again.ask("GET", "/v2/debian/manifests/12")
    assert again.body == reader.body


def test_what_is_pulled_meanwhile_shows(repo: Repository, reader: Client) -> None:
    imported(repo, "a:1", "one")
    reader.ask("GET", "/v2/a/manifests/1")
    before = reader.body
    imported(repo, "a:1", "two")
    reader.ask("GET", "/v2/a/manifests/1")
    assert reader.body != before
    Images(repo).remove("a:1")
    assert reader.ask("GET", "/v2/a/manifests/1").status == 404
    assert reader.error() == "NAME_UNKNOWN"


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=5-", 206, (5, None)),
        ("bytes=-7", 206, (-7, None)),
        ("bytes=0-999999999", 206, (0, None)),
        ("bytes=1024-1024", 206, (1024, 1025)),
        ("bytes=9-5", 200, (0, None)),
        ("bytes=0-1,4-5", 200, (0, None)),
        ("lines=0-1", 200, (0, None)),
        ("bytes=-", 200, (0, None)),
        ("bytes=999999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(repo: Repository, reader: Client, asked: str, status: int, told: tuple[int, int | None] | None) -> None:
    imported(repo, "a:1")
    reader.ask("GET", "/v2/a/manifests/1")
    path = f"/v2/a/blobs/{reader.json()['layers'][0]['digest']}"
    assert reader.ask("GET", path).headers["Accept-Ranges"] == "bytes"
    whole = reader.body
    answer = reader.ask("GET", path, range=asked)
    assert answer.status == status
    if told is None:
        assert reader.error() == "RANGE_INVALID"
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
        return
    wanted = whole[told[0] : told[1]]
    assert reader.body == wanted
    if status == 206:
        begin = len(whole) - len(wanted) if told[1] is None else told[0]
        assert answer.headers["Content-Range"] == f"bytes {begin}-{begin + len(wanted) - 1}/{len(whole)}"
    assert reader.ask("GET", path, range=asked, if_range='"another"').status == 200


def test_what_the_client_has_already(repo: Repository, reader: Client) -> None:
    imported(repo, "a:1")
    etag = reader.ask("GET", "/v2/a/manifests/1").headers["ETag"]
    answer = reader.ask("GET", "/v2/a/manifests/1", if_none_match=etag)
    assert (answer.status, reader.body) == (304, b"")


def test_lists_and_their_pages(repo: Repository, reader: Client) -> None:
    imported(repo, "a:1")
    for name in ("a:2", "a:10", "quay.io/team/b:1", "registry.example:5000/c:1", "localhost/d:1"):
        give_tag(repo, "a:1", name)
    reader.ask("GET", "/v2/_catalog")
    assert reader.json() == {"repositories": ["a", "d", "quay.io/team/b", "registry.example_5000/c"]}
    for name in reader.json()["repositories"]:
        assert reader.ask("GET", f"/v2/{name}/manifests/1").status == 200
    reader.ask("GET", "/v2/a/tags/list")
    assert reader.json() == {"name": "a", "tags": ["1", "10", "2"]}
    first = reader.ask("GET", "/v2/a/tags/list?n=2")
    assert reader.json()["tags"] == ["1", "10"]
    assert first.headers["Link"] == '</v2/a/tags/list?n=2&last=10>; rel="next"'
    last = reader.ask("GET", "/v2/a/tags/list?n=2&last=10")
    assert (reader.json()["tags"], "Link" in last.headers) == (["2"], False)
    assert reader.ask("GET", "/v2/a/tags/list?n=0").status == 200
    assert reader.json()["tags"] == []
    for bad in ("x", "-1", "1" * 12):
        assert reader.ask("GET", f"/v2/_catalog?n={bad}").status == 400
        assert reader.error() == "PAGINATION_NUMBER_INVALID"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/none/manifests/1", 404, "NAME_UNKNOWN"),
        ("/v2/a/manifests/none", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/a/manifests/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/a/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        ("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/a/manifests/sha256:00", 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/md5:00", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/x", 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/.bad", 404, "TAG_INVALID"),
        ("/v2/A/tags/list", 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list", 400, "NAME_INVALID"),
        ("/v2/../a/tags/list", 400, "NAME_INVALID"),
        (f"/v2/{'a' * 300}/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/referrers/x", 400, "DIGEST_INVALID"),
        ("/", 404, "UNSUPPORTED"),
        ("/v2/a", 404, "UNSUPPORTED"),
        ("/v1/search", 404, "UNSUPPORTED"),
    ],
)
def test_what_is_not_there(repo: Repository, reader: Client, path: str, status: int, code: str) -> None:
    imported(repo, "a:1")
    assert reader.ask("GET", path).status == status
    assert reader.error() == code


def test_a_blob_of_another_repository_is_not_shown(repo: Repository, reader: Client) -> None:
    imported(repo, "a:1", "one")
    imported(repo, "b:1", "two")
    reader.ask("GET", "/v2/a/manifests/1")
    layer = reader.json()["layers"][0]["digest"]
    assert reader.ask("HEAD", f"/v2/a/blobs/{layer}").status == 200
    assert reader.ask("HEAD", f"/v2/b/blobs/{layer}").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", f"/v2/a/blobs/uploads/{'0' * 32}"),
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", "/v2/a/manifests/1"),
        ("DELETE", f"/v2/a/blobs/sha256:{'0' * 64}"),
        ("GET", "/v2/a/blobs/uploads/"),
        ("TRACE", "/v2/"),
    ],
)
def test_read_only(repo: Repository, reader: Client, method: str, path: str) -> None:
    imported(repo, "a:1")
    before = repo.refs()
    assert reader.ask(method, path, b"x").status == 405
    assert reader.error() == "UNSUPPORTED"
    assert repo.refs() == before


# --- pushing


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


# --- who may


def test_who_may_push(repo: Repository) -> None:
    registry = Registry(repo, Door(Accounts(token=TOKEN)), push=True)
    stranger = Client(registry)
    answer = stranger.ask("GET", "/v2/")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="http://registry.example:5000/v2/token",service="wherry"'
    )
    answer = stranger.ask("POST", "/v2/a/blobs/uploads/")
    assert (answer.status, stranger.error()) == (401, "UNAUTHORIZED")
    assert 'scope="repository:a:pull,push"' in answer.headers["WWW-Authenticate"]
    stranger.ask("GET", "/v2/token")
    with_token = Client(registry, authorization=f"Bearer {stranger.json()['token']}")
    assert with_token.ask("GET", "/v2/").status == 200
    assert with_token.ask("GET", "/v2/_catalog").status == 200
    assert with_token.ask("POST", "/v2/a/blobs/uploads/").status == 401
    basic = "Basic " + base64.b64encode(f"someone:{TOKEN}".encode()).decode()
    owner = Client(registry, authorization=basic)
    owner.ask("GET", "/v2/token")
    for authorization in (basic, f"Bearer {owner.json()['token']}", f"Bearer {TOKEN}"):
        assert Client(registry, authorization=authorization).ask("POST", "/v2/a/blobs/uploads/").status == 202
    for wrong in ("Bearer x", "Bearer a.b", "Basic x", "Basic " + base64.b64encode(b"a:b").decode(), "Digest x"):
        assert Client(registry, authorization=wrong).ask("GET", "/v2/_catalog").status == 401
    nobody = Client(registry, authorization="Basic " + base64.b64encode(b":").decode())
    assert nobody.ask("GET", "/v2/_catalog").status == 200


def test_login_to_read(repo: Repository) -> None:
    imported(repo, "a:1")
    registry = Registry(repo, Door(Accounts(token=TOKEN), read_needs_login=True))
    stranger = Client(registry)
    for path in ("/v2/_catalog", "/v2/a/manifests/1", "/v2/a/tags/list", "/v2/token", "/v2/"):
        assert stranger.ask("GET", path).status == 401
    assert Client(registry, authorization=f"Bearer {TOKEN}").ask("GET", "/v2/a/manifests/1").status == 200


def test_an_error_inside_is_told_to_the_owner_alone(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    registry = Registry(repo, Door(Accounts()), report=told.append)

    def broken(*_args: object) -> None:
        raise ValueError("a secret path")

    monkeypatch.setattr(registry._reading, "catalog", broken)
    client = Client(registry)
    assert client.ask("GET", "/v2/_catalog").status == 500
    assert b"secret" not in client.body
    assert "secret" in told[0]
