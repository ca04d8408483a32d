"""Whatever is asked of the endpoint, it answers, and never with an error inside; the store stays as it is."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.image.makers import file, make_tar

from wherry.image.importing import import_image
from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.messages import Answer, Request, Stream
from wherry.image.serving.registry import Registry
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

TOKEN = "0123456789abcdef"
HEX = "0" * 64

names = st.sampled_from(["a", "a/b", "A", "..", "", "localhost/a", "docker.io/library/a", "x_5000/a", HEX, "a" * 300])
references = st.sampled_from(["1", "none", f"sha256:{HEX}", "sha256:1", "md5:x", "", "-", "ü", "a:b", "1" * 129])
kinds = st.sampled_from(["manifests/{}", "blobs/{}", "blobs/uploads/{}", "tags/list", "referrers/{}", "{}", "x/{}"])
paths = st.one_of(
    st.builds(lambda name, kind, reference: f"/v2/{name}/{kind.format(reference)}", names, kinds, references),
    st.text(max_size=30).map("/v2/".__add__),
    st.text(max_size=20),
    st.sampled_from(["/v2/", "/v2", "/v2/_catalog", "/v2/token", "/v2/a/blobs/uploads/"]),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "x" * 50])
fields = st.dictionaries(
    st.sampled_from(["n", "last", "digest", "mount", "from", "artifactType", "scope"]), st.text(max_size=20), max_size=3
)
headers = st.dictionaries(
    st.sampled_from(
        ["accept", "range", "content-range", "content-length", "if-none-match", "if-range", "content-type"]
    ),
    st.one_of(st.text(max_size=20), st.sampled_from(["bytes=0-1", "bytes=-5", "0-0", "*/*"])),
    max_size=3,
)
authorization = st.one_of(
    st.sampled_from([f"Bearer {TOKEN}", "Basic Og==", "Bearer ", "Basic", ""]),
    st.text(max_size=40).map("Basic ".__add__),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.text(max_size=10), st.just(f"sha256:{HEX}")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["config", "layers", "manifests", "mediaType", "digest", "size", "subject", "platform", "annotations"]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=15,
)
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["config", "layers", "manifests", "mediaType"]), json_values).map(
        lambda value: json.dumps({"schemaVersion": 2, **value}).encode()
    ),
)


@pytest.fixture(scope="module")
def repo() -> Iterator[Repository]:
    with tempfile.TemporaryDirectory() as folder:
        made = Repository.init(Path(folder) / "repo", Mode.BARE_USER)
        made.config.set("core", "fsync", "false")
        made.save_config()
        (Path(folder) / "root.tar").write_bytes(make_tar(file("x", "content")))
        import_image(made, f"tar:{folder}/root.tar", name="a:1")
        yield made


def ask(registry: Registry, request: Request) -> Answer:
    answer = registry.answer(request)
    if isinstance(answer.body, Stream):
        with answer.body.open() as opened:
            assert len(opened.read(answer.size)) == answer.size
    if answer.status >= 400:
        assert isinstance(answer.body, bytes)
        assert json.loads(answer.body)["errors"][0]["code"]
    assert all("\n" not in value and "\r" not in value for value in answer.headers.values())
    return answer


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(methods, paths, fields, headers, authorization, bodies, st.booleans())
def test_any_request(
    repo: Repository,
    method: str,
    path: str,
    query: dict[str, str],
    more: dict[str, str],
    login: str,
    body: bytes,
    push: bool,
) -> None:
    told: list[str] = []
    before = repo.refs("image")
    registry = Registry(repo, Door(Accounts(token=TOKEN)), push=push, delete=push, report=told.append)
    sent = {**more, **({"authorization": login} if login else {})}
    request = Request(method=method, path=path, query=query, headers=sent, body=io.BytesIO(body), origin="http://x:1")
    answer = ask(registry, request)
    assert answer.status < 500, told
    assert not told
    assert repo.refs("image") == before
    if answer.status == 202 and "Location" in answer.headers:
        where = answer.headers["Location"]
        for following in ("PATCH", "PUT", "GET", "DELETE"):
            again = Request(method=following, path=where, query=query, headers=sent, body=io.BytesIO(body))
            assert ask(registry, again).status < 500, told
    registry.close()
