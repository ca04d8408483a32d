"""Saved images: what is in the archive, that it is the same each time, and that it is read again."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar

from wherry.core.digest import Digest
from wherry.core.errors import Conflict, InvalidInput, NotFound, WherryError
from wherry.image.catalog import Images
from wherry.image.importing import import_image, load_images
from wherry.image.indexes import record_index
from wherry.image.kept import KeptBlobs
from wherry.image.naming import tag
from wherry.image.outgoing import OutgoingLayer, outgoing
from wherry.image.outgoingindex import outgoing_index
from wherry.image.reference import Reference
from wherry.image.saving import Format, Named, Plan, plan, save_archive, save_directory, write_archive
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository

BASE = make_tar(file("base", "b" * 5000))


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    made.config.set("core", "fsync", "false")
    made.save_config()
    return made


def image(repo: Repository, name: str, *layers: bytes, keep: bool = True, architecture: str = "") -> Named:
    path = repo.path.parent / name.replace("/", "-").replace(":", "-")
    made = Layout(path)
    made.add(made.image([BASE, *layers], architecture=architecture or "amd64"))
    record = import_image(repo, str(path), name=name, keep_layers=keep, platform=architecture or None)
    return Named(leaving=outgoing(repo, record, KeptBlobs(repo)), reference=record.reference)


def saved(*images: Named, form: Format = Format.DOCKER_ARCHIVE) -> bytes:
    out = io.BytesIO()
    write_archive(plan(images, form), out)
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for info in archive:
            assert (info.mtime, info.uid, info.gid, info.uname) == (0, 0, 0, "")
            content = archive.extractfile(info)
            found[info.name] = content.read() if content is not None else b""
        return found


def test_what_is_in_it(repo: Repository) -> None:
    one = image(repo, "team/app:1", make_tar(file("x", "1")))
    other = image(repo, "registry.example:5000/app:2", make_tar(file("x", "2")))
    found = members(saved(one, other))
    assert list(found)[:6] == ["index.json", "manifest.json", "oci-layout", "repositories", "blobs", "blobs/sha256"]
    layers = {layer.digest for item in (one, other) for layer in item.leaving.layers}  # type: ignore[union-attr]
    assert len(layers) == 3, "the base is shared"
    assert len([name for name in found if name.startswith("blobs/sha256/")]) == 3 + 2 * 2
    listed = json.loads(found["manifest.json"])
    assert [item["RepoTags"] for item in listed] == [["docker.io/team/app:1"], ["registry.example:5000/app:2"]]
    assert all(name in found for item in listed for name in (item["Config"], *item["Layers"]))
    index = json.loads(found["index.json"])
    assert [item["annotations"] for item in index["manifests"]] == [
        {
            "io.containerd.image.name": "docker.io/team/app:1",
            "org.opencontainers.image.ref.name": "1",
        },
        {
            "io.containerd.image.name": "registry.example:5000/app:2",
            "org.opencontainers.image.ref.name": "2",
        },
    ]
    assert json.loads(found["repositories"]).keys() == {"docker.io/team/app", "registry.example:5000/app"}
    oci = members(saved(one, form=Format.OCI_ARCHIVE))
    assert "manifest.json" not in oci


def test_the_same_bytes_again(repo: Repository) -> None:
    images = [image(repo, "a:1", keep=False), image(repo, "b:1", make_tar(file("x", "2")), keep=False)]
    assert saved(*images) == saved(*images)
    assert saved(*images) != saved(*images[::-1]), "their order is the user's"


def test_names_with_one_tag_are_told_apart(repo: Repository) -> None:
    index = json.loads(members(saved(image(repo, "a:1"), image(repo, "b:1")))["index.json"])
    names = [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]]
    assert names == ["docker.io/library/a:1", "docker.io/library/b:1"]


def test_two_names_of_one_image(repo: Repository) -> None:
    one = image(repo, "a:1")
    record = tag(repo, "a:1", "b:2")
    other = Named(leaving=outgoing(repo, record, KeptBlobs(repo)), reference=record.reference)
    listed = json.loads(members(saved(one, other))["manifest.json"])
    assert [item["RepoTags"] for item in listed] == [["docker.io/library/a:1", "docker.io/library/b:2"]]
    nameless = json.loads(members(saved(Named(leaving=one.leaving)))["manifest.json"])
    assert nameless[0]["RepoTags"] is None


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("form", [Format.DOCKER_ARCHIVE, Format.OCI_ARCHIVE])
def test_load_reads_it(repo: Repository, tmp_path: Path, form: Format, keep: bool) -> None:
    images = [image(repo, "a:1", keep=keep), image(repo, "b:2", make_tar(file("x", "2")), keep=keep)]
    save_archive(plan(images, form), tmp_path / "out.tar")
    fresh = Repository.init(tmp_path / "fresh", Mode.BARE_USER)
    loaded = load_images(fresh, tmp_path / "out.tar")
    assert sorted(record.reference.familiar for record in loaded) == ["a:1", "b:2"]
    for record in loaded:
        before = repo.load_commit(Images(repo).get(record.reference.familiar).commit)
        assert fresh.load_commit(record.commit).tree == before.tree


def test_a_folder(repo: Repository, tmp_path: Path) -> None:
    one = image(repo, "a:1", keep=False)
    save_directory(plan([one], Format.OCI_DIR), tmp_path / "out")
    record = import_image(repo, f"oci:{tmp_path}/out:1", name="again:1")
    assert record.digest == one.leaving.digest
    with pytest.raises(Conflict):
        save_directory(plan([one], Format.OCI_DIR), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    save_directory(plan([one], Format.OCI_DIR), tmp_path / "empty")
    assert not list(tmp_path.glob(".*tmp"))


def test_all_platforms(repo: Repository, tmp_path: Path) -> None:
    one, other = (image(repo, f"app/{name}:1", architecture=name) for name in ("amd64", "arm64"))
    records = [Images(repo).get(f"app/{name}:1") for name in ("amd64", "arm64")]
    index = record_index(repo, Reference.parse("app:1"), records)
    whole = outgoing_index(repo, index, KeptBlobs(repo))
    named = Named(leaving=whole, reference=index.reference, main=whole.members[1])
    save_archive(plan([named], Format.DOCKER_ARCHIVE), tmp_path / "out.tar")
    for platform in ("amd64", "arm64"):
        record = import_image(repo, f"oci-archive:{tmp_path}/out.tar", name="x:1", platform=f"linux/{platform}")
        assert record.config.architecture == platform
    listed = json.loads(members((tmp_path / "out.tar").read_bytes())["manifest.json"])
    assert len(listed) == 1
    assert listed[0]["Config"].endswith(other.leaving.config_digest[7:])  # type: ignore[union-attr]
    assert one.leaving.digest != other.leaving.digest


def test_nothing_stays_of_what_failed(repo: Repository, tmp_path: Path) -> None:
    one = image(repo, "a:1")
    files = plan([one], Format.DOCKER_ARCHIVE)
    (tmp_path / "old.tar").write_bytes(b"old")
    KeptBlobs(repo).path(next(iter(files.layers))).unlink()
    with pytest.raises(NotFound):
        save_archive(files, tmp_path / "old.tar")
    assert (tmp_path / "old.tar").read_bytes() == b"old"
    with pytest.raises(NotFound):
        save_directory(files, tmp_path / "dir")
    assert not (tmp_path / "dir").exists()
    assert not list(tmp_path.glob(".*tmp"))


def test_what_is_no_file_is_written_to(repo: Repository, tmp_path: Path) -> None:
    files = plan([image(repo, "a:1")], Format.DOCKER_ARCHIVE)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    save_archive(files, fifo)
    reader.join(20)
    assert fifo.is_fifo()
    (tmp_path / "link").symlink_to("file")
    save_archive(files, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert found == [(tmp_path / "file").read_bytes()]
    with pytest.raises(WherryError):
        save_archive(files, tmp_path)


def test_a_layer_of_another_size(tmp_path: Path) -> None:
    class Short:
        def open(self, offset: int = 0) -> Any:
            return io.BytesIO(b"short")

    digest = Digest(f"sha256:{'1' * 64}")
    layer = OutgoingLayer(digest=digest, size=9, media_type="x", source=Short())
    with pytest.raises(InvalidInput):
        write_archive(Plan(small={"oci-layout": b"{}"}, layers={digest: layer}), io.BytesIO())
