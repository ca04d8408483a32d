"""What is read from the registry endpoint, as OCI's own suite asks for it."""

from __future__ import annotations

import pytest
from tests.unit.image.serving.client import MANIFEST, Client, imported, sha

from wherry.image.catalog import Images
from wherry.image.naming import tag as give_tag
from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.registry import Registry
from wherry.store.repository import Repository


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
