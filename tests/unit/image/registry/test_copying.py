"""Copies of what is damaged, cut or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar
from tests.unit.image.registry.fake import FakeRegistry
from tests.unit.image.registry.sink import Sink

from wherry.core.digest import Digest
from wherry.core.errors import Conflict, IntegrityError, NetworkError, NotFound, Unsupported, UsageError
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.copying import copy
from wherry.image.registry.hosts import Hosts
from wherry.image.registry.places import Place, parse_place
from wherry.image.registry.reading import RemoteBlob

NOISE = os.urandom(300_000)


@contextmanager
def clients(domain: str, *, mirrors: bool) -> Iterator[list[RegistryClient]]:
    client = RegistryClient(Hosts().find(domain), timeout_s=10)
    yield [client]
    client.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.registry.client.backoff_s", lambda attempt: 0.01)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.add(made.image([make_tar(file("base", NOISE))]), "1")
    return made


@pytest.fixture
def registry(layout: Layout) -> Iterator[FakeRegistry]:
    with FakeRegistry(layout) as found:
        yield found


def layer_of(layout: Layout) -> dict[str, Any]:
    raw = (layout.path / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_bytes()
    found: dict[str, Any] = json.loads(raw)["layers"][0]
    return found


def do(source: str, target: str, tmp_path: Path, **more: Any) -> Digest:
    return copy(
        parse_place(source, is_source=True), parse_place(target, is_source=False), clients, scratch=tmp_path, **more
    )


@pytest.mark.parametrize("ignore_range", [False, True])
def test_a_cut_is_taken_up(registry: FakeRegistry, layout: Layout, tmp_path: Path, ignore_range: bool) -> None:
    registry.cut_after, registry.ignore_range = 100_000, ignore_range
    digest = do(f"docker://{registry.domain}/app:1", f"oci:{tmp_path}/out:1", tmp_path)
    assert digest == layout.manifests[0]["digest"]
    name = f"blobs/sha256/{layer_of(layout)['digest'][7:]}"
    assert (tmp_path / "out" / name).read_bytes() == (layout.path / name).read_bytes()


def test_one_that_breaks_off_for_good(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.cut_after, registry.cut_always, registry.ignore_range = 1000, True, True
    with pytest.raises(NetworkError):
        do(f"docker://{registry.domain}/app:1", f"oci:{tmp_path}/out:1", tmp_path)
    assert not (tmp_path / "out/index.json").exists()


@pytest.mark.parametrize("target", ["oci", "oci-archive", "docker-archive"])
def test_wrong_bytes_from_a_registry(registry: FakeRegistry, tmp_path: Path, target: str) -> None:
    registry.wrong_bytes = True
    with pytest.raises(IntegrityError, match="digest"):
        do(f"docker://{registry.domain}/app:1", f"{target}:{tmp_path}/out:1", tmp_path)
    assert not (tmp_path / "out").is_file()
    assert not (tmp_path / "out/index.json").exists()


def test_wrong_bytes_in_a_layout(layout: Layout, tmp_path: Path) -> None:
    path = layout.path / "blobs/sha256" / layer_of(layout)["digest"][7:]
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(IntegrityError, match="digest"):
        do(f"oci:{layout.path}:1", f"oci-archive:{tmp_path}/out.tar", tmp_path)
    with Sink() as sink, pytest.raises(IntegrityError, match="digest"):
        do(f"oci:{layout.path}:1", f"docker://{sink.domain}/app:1", tmp_path)
    path.write_bytes(b"short")
    with pytest.raises(IntegrityError, match="5 bytes instead of"):
        do(f"oci:{layout.path}:1", f"oci-archive:{tmp_path}/out.tar", tmp_path)
    assert not (tmp_path / "out.tar").exists()


def test_into_a_layout_that_is_there(layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "other")
    other.add(other.image([make_tar(file("other"))]), "2")
    (tmp_path / "other/index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": other.manifests, "annotations": {"mine": "kept"}})
    )
    for _ in range(2):
        do(f"oci:{layout.path}:1", f"oci:{other.path}:1", tmp_path)
    index = json.loads((other.path / "index.json").read_text())
    assert index["annotations"] == {"mine": "kept"}
    names = [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]]
    assert names == ["2", "1"]
    do(f"oci:{layout.path}:1", f"oci:{other.path}:2", tmp_path)
    index = json.loads((other.path / "index.json").read_text())
    assert {item["digest"] for item in index["manifests"]} == {layout.manifests[0]["digest"]}


def test_something_else_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter").touch()
    with pytest.raises(Conflict):
        do(f"oci:{layout.path}:1", f"oci:{tmp_path}/full:1", tmp_path)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter"]


def rewritten(layout: Layout, change: dict[str, Any], media_type: str) -> None:
    raw = json.loads((layout.path / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_bytes())
    layout.manifests.clear()
    layout.add(layout.blob(json.dumps({**raw, **change}).encode(), media_type), "1")


def test_what_is_to_be_fetched_from_elsewhere(layout: Layout, tmp_path: Path) -> None:
    layer = {**layer_of(layout), "urls": ["https://elsewhere.example/layer"]}
    rewritten(layout, {"layers": [layer]}, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(Unsupported, match="foreign"):
        do(f"oci:{layout.path}:1", f"oci-archive:{tmp_path}/out.tar", tmp_path)


def test_what_is_no_image_is_copied_too(layout: Layout, tmp_path: Path) -> None:
    change = {"artifactType": "text/plain", "config": layout.blob(b"{}", "application/vnd.oci.empty.v1+json")}
    rewritten(layout, change, "application/vnd.oci.image.manifest.v1+json")
    digest = do(f"oci:{layout.path}:1", f"oci:{tmp_path}/out:1", tmp_path)
    assert digest == layout.manifests[0]["digest"]
    assert (tmp_path / "out/blobs/sha256" / digest[7:]).is_file()


def test_an_index_within_an_index(layout: Layout, tmp_path: Path) -> None:
    for _ in range(2):
        index = json.dumps({"schemaVersion": 2, "manifests": [layout.manifests[0]]}).encode()
        layout.manifests.clear()
        layout.add(layout.blob(index, "application/vnd.oci.image.index.v1+json"), "1")
    with pytest.raises(Unsupported, match="index within"):
        do(f"oci:{layout.path}:1", f"oci:{tmp_path}/out:1", tmp_path, all_platforms=True)


def test_reading_from_the_middle(registry: FakeRegistry, layout: Layout) -> None:
    layer = layer_of(layout)
    whole = registry.blob(layer["digest"]) or b""
    with clients(registry.domain, mirrors=False) as found:
        with RemoteBlob(found, "app", Digest(layer["digest"]), layer["size"], 1000) as blob:
            assert blob.read() == whole[1000:]
        with RemoteBlob(found, "app", Digest(layer["digest"]), layer["size"] - 1) as blob:
            with pytest.raises(IntegrityError, match="longer"):
                blob.read()
        with pytest.raises(NotFound), RemoteBlob(found, "gone", Digest(layer["digest"]), 5) as blob:
            blob.read(1)


@pytest.mark.parametrize(
    ("text", "kind", "path", "choice"),
    [
        ("oci:/a/b:1.2", "oci", "/a/b", "1.2"),
        ("oci:/a/b", "oci", "/a/b", None),
        ("oci:/a:b/c", "oci", "/a:b/c", None),
        ("oci-archive:/a.tar:x", "oci-archive", "/a.tar", "x"),
        ("docker-archive:/a.tar:shop/app:7", "docker-archive", "/a.tar", "shop/app:7"),
    ],
)
def test_places(text: str, kind: str, path: str, choice: str | None) -> None:
    assert parse_place(text, is_source=False) == Place(text=text, kind=kind, path=Path(path), choice=choice)


@pytest.mark.parametrize("text", ["nginx:1", "dir:/a", "oci:", "containers-storage:x", ""])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError, match="not a place"):
        parse_place(text, is_source=False)
