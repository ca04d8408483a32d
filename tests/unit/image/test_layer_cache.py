"""Layers that are unpacked once, blobs that are kept, and what goes with the last image that needs them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, file, make_tar

from wherry.core.digest import Digest, checksum_of
from wherry.core.errors import IntegrityError, NotFound
from wherry.image import layercache
from wherry.image.catalog import Images
from wherry.image.importing import import_image
from wherry.image.kept import KeptBlobs
from wherry.image.tidying import blobs_of, tidy
from wherry.store.care.prune import prune
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository
from wherry.store.tree.walk import read_path

BASE = make_tar(file("base", b"base"), file("changed", b"before"))


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


def layout(path: Path, *layers: bytes) -> Layout:
    made = Layout(path)
    made.add(made.image(list(layers)))
    return made


def blob_of(made: Layout, index: int) -> Path:
    manifest = made.path / "blobs" / "sha256" / made.manifests[0]["digest"].removeprefix("sha256:")
    return Path(made.path, "blobs/sha256", json.loads(manifest.read_bytes())["layers"][index]["digest"][7:])


def test_layers_in_common_are_read_once(repo: Repository, tmp_path: Path) -> None:
    first = layout(tmp_path / "first", BASE, make_tar(file("one", b"1")))
    second = layout(tmp_path / "second", BASE, make_tar(file("changed", b"after")))
    import_image(repo, str(first.path), name="app:1")
    garbage = blob_of(second, 0)
    garbage.write_bytes(bytes(garbage.stat().st_size))
    record = import_image(repo, str(second.path), name="app:2")
    assert read_path(repo, record.commit, "base", max_bytes=10) == b"base"
    assert read_path(repo, record.commit, "changed", max_bytes=10) == b"after"
    with pytest.raises(NotFound):
        read_path(repo, record.commit, "one", max_bytes=10)
    empty = Repository.init(tmp_path / "other", Mode.BARE_USER)
    with pytest.raises(IntegrityError):
        import_image(empty, str(second.path), name="app:2")
    assert not empty.refs()


def test_the_same_commit_with_and_without_the_cache(repo: Repository, tmp_path: Path) -> None:
    layers = [BASE, make_tar(file("changed", b"after"), file(".wh.base"))]
    import_image(repo, str(layout(tmp_path / "base", BASE).path), name="base:1")
    with_cache = import_image(repo, str(layout(tmp_path / "app", *layers).path), name="app:1")
    other = Repository.init(tmp_path / "other", Mode.BARE_USER)
    assert import_image(other, str(tmp_path / "app"), name="app:1").commit == with_cache.commit


def test_chain_ids_are_those_of_the_specification() -> None:
    layers = [Digest(f"sha256:{letter * 64}") for letter in "ab"]
    whole = hashlib.sha256(f"{layers[0]} {layers[1]}".encode()).hexdigest()
    assert layercache.chain_ids(layers) == [layers[0], f"sha256:{whole}"]


def test_trees_of_layers_go_with_their_images(repo: Repository, tmp_path: Path) -> None:
    import_image(repo, str(layout(tmp_path / "a", BASE, make_tar(file("x", b"x"))).path), name="a:1")
    import_image(repo, str(layout(tmp_path / "b", BASE, make_tar(file("y", b"y"))).path), name="b:1")
    assert len(repo.refs(layercache.LAYER_PREFIX)) == 3
    commit = Images(repo).get("a:1").commit
    Images(repo).remove("a:1")
    found = tidy(repo)
    assert len(found.commits) == 1
    assert len(repo.refs(layercache.LAYER_PREFIX)) == 2
    prune(repo, delete_commits={commit, *found.commits})
    assert read_path(repo, Images(repo).get("b:1").commit, "y", max_bytes=10) == b"y"
    Images(repo).remove("b:1")
    assert len(tidy(repo).commits) == 2
    assert not repo.refs()


def test_kept_blobs(repo: Repository, tmp_path: Path) -> None:
    made = layout(tmp_path / "a", BASE)
    record = import_image(repo, str(made.path), name="a:1", keep_layers=True)
    kept = KeptBlobs(repo)
    assert kept.listed() == blobs_of(record)
    with kept.open(kept.listed()[0]) as blob:
        assert blob.read() == blob_of(made, 0).read_bytes()
    assert hashlib.sha256(record.manifest).hexdigest() == checksum_of(record.digest)
    assert tidy(repo).freed_bytes == 0
    Images(repo).remove("a:1")
    assert tidy(repo).freed_bytes == blob_of(made, 0).stat().st_size
    assert kept.listed() == []


def test_blobs_are_kept_of_layers_that_are_cached(repo: Repository, tmp_path: Path) -> None:
    made = layout(tmp_path / "a", BASE)
    import_image(repo, str(made.path), name="a:1")
    assert KeptBlobs(repo).listed() == []
    record = import_image(repo, str(made.path), name="a:1", keep_layers=True)
    assert KeptBlobs(repo).listed() == blobs_of(record)


def test_what_is_kept_of_a_cached_layer_is_that_layer(repo: Repository, tmp_path: Path) -> None:
    """A manifest may name other bytes for a layer that the config says is one of those that are there."""
    made = layout(tmp_path / "a", BASE, make_tar(file("x", b"x")))
    import_image(repo, str(made.path), name="a:1")
    other = Layout(tmp_path / "lie")
    good = json.loads((made.path / "blobs/sha256" / made.manifests[0]["digest"][7:]).read_bytes())
    for descriptor in (good["config"], good["layers"][1]):
        other.blob((made.path / "blobs/sha256" / descriptor["digest"][7:]).read_bytes())
    good["layers"][0] = other.blob(make_tar(file("evil", b"evil")), good["layers"][0]["mediaType"])
    other.add(other.blob(json.dumps(good).encode(), made.manifests[0]["mediaType"]))
    with pytest.raises(IntegrityError, match="an uncompressed layer"):
        import_image(repo, str(other.path), name="lie:1", keep_layers=True)
    assert KeptBlobs(repo).listed() == []


def test_a_blob_of_another_digest_is_not_kept(repo: Repository) -> None:
    kept = KeptBlobs(repo)
    with pytest.raises(IntegrityError):
        kept.keep(io.BytesIO(b"x"), Digest(f"sha256:{'0' * 64}"))
    assert kept.listed() == []
    assert [path.name for path in (repo.path / "oci" / "blobs").iterdir()] == ["sha256"]
    with pytest.raises(NotFound):
        kept.open(Digest(f"sha256:{'0' * 64}"))


def test_an_image_keeps_its_manifest(repo: Repository, tmp_path: Path) -> None:
    made = layout(tmp_path / "a", BASE)
    record = import_image(repo, str(made.path), name="a:1")
    assert Images(repo).get("a:1").manifest == record.manifest
    changed = import_image(repo, str(made.path), name="a:2", changes=["ENV A=b"])
    assert changed.manifest == b""
