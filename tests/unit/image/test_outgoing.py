"""Images on their way out: as they came, or made of a commit, the same each time."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, directory, file, make_tar

from wherry.core.digest import Checksum
from wherry.core.errors import NotFound
from wherry.image import layercache, measuring
from wherry.image.catalog import ImageRecord, Images
from wherry.image.importing import import_image
from wherry.image.indexes import record_index
from wherry.image.kept import KeptBlobs
from wherry.image.layering import layers_of
from wherry.image.layertar import LayerTar
from wherry.image.mediatypes import INDEX_TYPE
from wherry.image.outgoing import OutgoingImage, outgoing
from wherry.image.outgoingindex import outgoing_index
from wherry.image.pressing import KINDS, Kind
from wherry.image.reference import Reference
from wherry.image.tidying import tidy
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository
from wherry.store.tree.compression import HashingReader, decompressed

LAYERS = [make_tar(file("a", "one"), file("b", "two")), make_tar(file(".wh.a"), file("c", "three"))]


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


def layout(path: Path, **more: Any) -> Layout:
    made = Layout(path)
    made.add(made.image(LAYERS, **more))
    return made


def write_layout(path: Path, image: OutgoingImage) -> Path:
    made = Layout(path)
    made.blob(image.config)
    for layer in image.layers:
        with layer.open() as source:
            assert made.blob(source.read()) == {
                "mediaType": "application/octet-stream",
                "digest": layer.digest,
                "size": layer.size,
            }
    made.add(made.blob(image.manifest, image.media_type))
    return path


def check(image: OutgoingImage) -> dict[str, Any]:
    """Checks every digest and size, and returns the manifest."""
    manifest: dict[str, Any] = json.loads(image.manifest)
    assert image.digest == "sha256:" + hashlib.sha256(image.manifest).hexdigest()
    assert manifest["config"]["digest"] == image.config_digest
    assert image.config_digest == "sha256:" + hashlib.sha256(image.config).hexdigest()
    assert manifest["config"]["size"] == len(image.config)
    diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
    assert len(manifest["layers"]) == len(image.layers) == len(diff_ids)
    for item, layer, diff_id in zip(manifest["layers"], image.layers, diff_ids, strict=True):
        assert (item["digest"], item["size"], item["mediaType"]) == (layer.digest, layer.size, layer.media_type)
        with layer.open() as source:
            data = source.read()
        assert layer.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert layer.size == len(data)
        with layer.open() as source:
            plain = HashingReader(decompressed(source))
            plain.drain()
            assert plain.digest == diff_id
        with layer.open(layer.size - 10) as source:
            assert source.read() == data[-10:]
    return manifest


def test_as_it_came(repo: Repository, tmp_path: Path) -> None:
    made = layout(tmp_path / "in")
    record = import_image(repo, str(made.path), name="a:1", keep_layers=True)
    found = outgoing(repo, record, KeptBlobs(repo))
    assert found.kept
    assert found.digest == record.digest == made.manifests[0]["digest"]
    assert found.manifest == record.manifest
    assert found.media_type == "application/vnd.oci.image.manifest.v1+json"
    check(found)
    assert not (repo.path / "oci/outgoing").exists(), "nothing was measured"
    assert not outgoing(repo, record).kept, "who does not ask for kept blobs gets none"


def test_made_of_a_commit_when_a_blob_has_gone(repo: Repository, tmp_path: Path) -> None:
    record = import_image(repo, str(layout(tmp_path / "in").path), name="a:1", keep_layers=True)
    kept = KeptBlobs(repo)
    kept.path(kept.listed()[0]).unlink()
    found = outgoing(repo, record, kept)
    assert not found.kept
    assert found.digest != record.digest
    manifest = check(found)
    plain = "application/vnd.oci.image.layer.v1.tar"
    assert sorted(item["mediaType"] for item in manifest["layers"]) == [plain, f"{plain}+gzip"], "one is kept still"


def test_the_same_on_another_machine(tmp_path: Path) -> None:
    made = layout(tmp_path / "in", config={"Cmd": ["x"]})
    digests = set()
    for mode in (Mode.BARE_USER, Mode.ARCHIVE):
        repo = Repository.init(tmp_path / mode, mode)
        digests.add(outgoing(repo, import_image(repo, str(made.path), name="a:1")).digest)
    assert len(digests) == 1


def test_what_leaves_and_comes_back_leaves_the_same(repo: Repository, tmp_path: Path) -> None:
    first = outgoing(repo, import_image(repo, str(layout(tmp_path / "in").path), name="a:1"))
    record = import_image(repo, str(write_layout(tmp_path / "again", first)), name="b:1")
    assert record.digest == first.digest
    second = outgoing(repo, record)
    assert (second.digest, second.config) == (first.digest, first.config)
    original = repo.load_commit(Images(repo).get("a:1").commit)
    assert repo.load_commit(record.commit).tree == original.tree


def with_history(repo: Repository, tmp_path: Path, history: Any, layers: list[bytes]) -> ImageRecord:
    made = Layout(tmp_path / "in")
    document = {
        "architecture": "arm64",
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "unknown": 1.5,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": [made.blob(layer)["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": made.blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [made.blob(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        "annotations": {"a": "b"},
    }
    made.add(made.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json"))
    return import_image(repo, str(made.path), name="a:1", platform="linux/arm64")


STEPS = [{"created_by": "one"}, {"created_by": "env", "empty_layer": True}, {"created_by": "two"}]


def test_the_layers_that_it_came_in_and_their_history(repo: Repository, tmp_path: Path) -> None:
    found = outgoing(repo, with_history(repo, tmp_path, STEPS, LAYERS))
    assert len(check(found)["layers"]) == 2
    assert json.loads(found.config)["history"] == STEPS


def test_a_layer_below_is_the_same_in_every_image_on_it(repo: Repository, tmp_path: Path) -> None:
    layers = [make_tar(file(name, name)) for name in ("base", "one", "other")]
    steps = [{"created": "2020-01-01T00:00:00Z"}, {"created": "2026-01-01T00:00:00Z"}]
    one = outgoing(repo, with_history(repo, tmp_path / "1", steps, layers[:2]))
    other = outgoing(repo, with_history(repo, tmp_path / "2", steps, [layers[0], layers[2]]))
    assert one.layers[0].digest == other.layers[0].digest
    assert one.layers[1].digest != other.layers[1].digest


def test_one_layer_where_the_trees_below_are_gone(repo: Repository, tmp_path: Path) -> None:
    record = with_history(repo, tmp_path, STEPS, LAYERS)
    layercache.forget_unused(repo, [])
    found = outgoing(repo, record)
    assert check(found)["annotations"] == {"a": "b"}
    config = json.loads(found.config)
    assert config["unknown"] == 1.5
    assert [step.get("created_by") for step in config["history"]] == ["one", "env", "two", None]
    assert [step.get("empty_layer", False) for step in config["history"]] == [True, True, True, False]
    assert config["history"][-1]["created"] == "2026-01-02T03:04:05Z"


def test_the_history_of_one_layer_stays(repo: Repository, tmp_path: Path) -> None:
    steps = [{"created_by": "one"}, {"created_by": "env", "empty_layer": True}]
    found = outgoing(repo, with_history(repo, tmp_path, steps, LAYERS[:1]))
    check(found)
    assert json.loads(found.config)["history"] == steps


@pytest.mark.parametrize("history", [None, "x", [1], [{"empty_layer": True}]])
def test_a_history_that_says_nothing(repo: Repository, tmp_path: Path, history: Any) -> None:
    found = outgoing(repo, with_history(repo, tmp_path, history, LAYERS[:1]))
    check(found)
    assert [step.get("empty_layer", False) for step in json.loads(found.config)["history"]][-1] is False


@pytest.mark.parametrize("kind", KINDS)
def test_compressed(repo: Repository, tmp_path: Path, kind: Kind) -> None:
    record = import_image(repo, str(layout(tmp_path / "in").path), name="a:1")
    found = outgoing(repo, record, compress=kind)
    manifest = check(found)
    assert manifest["layers"][0]["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{kind}"
    assert found.config == outgoing(repo, record).config
    again = outgoing(repo, record, compress=kind)
    assert again.digest == found.digest
    if kind == "gzip":
        with found.layers[0].open() as source:
            assert gzip.decompress(source.read())


def test_a_layer_is_read_once(repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = import_image(repo, str(layout(tmp_path / "in").path), name="a:1")
    first = outgoing(repo, record)
    notes = list((repo.path / "oci/outgoing").iterdir())
    assert len(notes) == len(LAYERS)

    def never(*_args: object, **_more: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(LayerTar, "measure", never)
        assert outgoing(repo, record).digest == first.digest
    bad_mark = b'{"version":1,"plain":{"digest":"sha256:%s","size":1,"marks":[["a",1]]}}' % (b"0" * 64)
    for text in (b"", b"[]", b'{"version":2}', b'{"version":1,"plain":{"digest":"x","size":1}}', bad_mark):
        notes[0].write_bytes(text)
        assert outgoing(repo, record).digest == first.digest


def test_where_nobody_may_write(repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = import_image(repo, str(layout(tmp_path / "in").path), name="a:1")
    monkeypatch.setattr(Repository, "writable", property(lambda _repo: False))
    check(outgoing(repo, record))
    assert not (repo.path / "oci/outgoing").exists()


def test_what_is_known_goes_with_the_image(repo: Repository, tmp_path: Path) -> None:
    made = layout(tmp_path / "in")
    for name in ("a:1", "b:1"):
        outgoing(repo, import_image(repo, str(made.path), name=name))
    folder = repo.path / "oci/outgoing"
    assert len(list(folder.iterdir())) == len(LAYERS), "two names of one image"
    Images(repo).remove("a:1")
    tidy(repo)
    assert len(list(folder.iterdir())) == len(LAYERS)
    Images(repo).remove("b:1")
    assert tidy(repo).freed_bytes > 0
    assert not list(folder.iterdir())
    assert measuring.remove_all_but(Repository.init(tmp_path / "none", Mode.BARE_USER), []) == 0


def test_an_image_of_a_tree(repo: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").write_text("x")
    record = import_image(repo, str(root), name="a:1")
    config = json.loads(outgoing(repo, record).config)
    check(outgoing(repo, record))
    assert config["rootfs"]["type"] == "layers"
    assert len(config["history"]) == 1


def test_an_object_that_is_missing(repo: Repository, tmp_path: Path) -> None:
    source = tmp_path / "root.tar"
    source.write_bytes(make_tar(directory("./"), file("x", b"content")))
    record = import_image(repo, str(source), name="a:1")
    tree = repo.load_dirtree(layers_of(repo, record)[0].tree)
    from wherry.store.format.objects import ObjectType

    repo.object_path(ObjectType.FILE, Checksum(tree.files[0][1])).unlink()
    with pytest.raises(NotFound):
        outgoing(repo, record)
    assert not (repo.path / "oci/outgoing").exists()


def test_an_index(repo: Repository, tmp_path: Path) -> None:
    members = []
    descriptors = []
    for architecture in ("amd64", "arm64"):
        made = layout(tmp_path / architecture, architecture=architecture)
        descriptors.append(made.manifests[0])
        members.append(
            import_image(repo, str(made.path), name=f"{architecture}:1", platform=architecture, keep_layers=True)
        )
    raw = json.dumps({"schemaVersion": 2, "manifests": descriptors}, indent=1).encode()
    index = record_index(repo, Reference.parse("both:1"), members, raw)
    kept = KeptBlobs(repo)
    found = outgoing_index(repo, index, kept)
    assert (found.manifest, found.digest, found.kept) == (raw, index.digest, True)
    assert found.media_type == INDEX_TYPE
    made_here = outgoing_index(repo, index, None)
    assert not made_here.kept
    document = json.loads(made_here.manifest)
    assert [item["platform"] for item in document["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    for item, member in zip(document["manifests"], made_here.members, strict=True):
        assert (item["digest"], item["size"]) == (member.digest, len(member.manifest))
        check(member)
    more = {"schemaVersion": 2, "manifests": [*descriptors, {"digest": "sha256:" + "1" * 64}]}
    partial = record_index(repo, Reference.parse("part:1"), members, json.dumps(more).encode())
    assert not outgoing_index(repo, partial, kept).kept, "it names what is not here"
