"""Images coming into the store: every kind of source, the same commit each time, and nothing from broken ones."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.unit.image.makers import Layout, device, directory, file, make_repo, make_tar, sha256, show, symlink

from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported, UsageError, WherryError
from wherry.image.catalog import ImageRecord, Images
from wherry.image.importing import import_image
from wherry.image.platforms import Platform, architecture_of, choose
from wherry.store.repository import Repository
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits

AMD64_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00"
BASE = make_tar(directory("bin"), file("bin/busybox", AMD64_ELF, mode=0o755), symlink("bin/sh", "busybox"), file("old"))
HEX = "ab" * 32
TOP = make_tar(file(".wh.old"), file("new", "n"))
TREE = {
    "": "755 0:0 dir",
    "bin": "755 0:0 dir",
    "bin/busybox": f"755 0:0 {AMD64_ELF.decode()!r}",
    "bin/sh": "-> busybox",
    "new": "644 0:0 'n'",
}
CONFIG = {"Cmd": ["/bin/sh"], "Env": ["A=b"]}


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "layout")
    made.add(made.image([BASE, TOP], config=CONFIG), "1.2")
    return made


def check(repo: Repository, record: ImageRecord) -> None:
    assert show(repo, record.commit) == TREE
    assert record.config.cmd == ("/bin/sh",)
    assert record.config.env == ("A=b",)
    assert record.size_bytes == len(AMD64_ELF) + 1
    assert Images(repo).get(str(record.reference)) == record


def empty(repo: Repository) -> bool:
    return not repo.refs() and not list(repo.list_objects())


# --- OCI layouts


def test_layout(repo: Repository, layout: Layout, tmp_path: Path) -> None:
    sources = [str(layout.path), f"oci:{layout.path}", f"oci:{layout.path}:1.2", str(layout.tar(tmp_path / "l.tar"))]
    packed = tmp_path / "l.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "l.tar").read_bytes()))
    sources += [str(packed), f"oci-archive:{packed}", f"oci-archive:{packed}:1.2"]
    records = [import_image(repo, source, name="app:1") for source in sources]
    check(repo, records[0])
    assert records[0].digest == layout.manifests[0]["digest"]
    assert str(records[0].reference) == "docker.io/library/app:1"
    assert {record.commit for record in records} == {records[0].commit}
    commit = repo.load_commit(records[0].commit)
    assert commit.timestamp_s == 1767323045
    keys = {f"wherry.image.{name}" for name in ("config", "digest", "manifest", "reference", "size")}
    assert set(commit.metadata) == keys | {"ostree.ref-binding"}


@pytest.mark.parametrize("compress", [lzma.compress, zstandard.compress])
def test_layers_of_other_compressions(
    repo: Repository, tmp_path: Path, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip, "compress", lambda data, mtime: compress(data))
    made = Layout(tmp_path / "layout")
    made.add(made.image([BASE, TOP], config=CONFIG))
    check(repo, import_image(repo, str(made.path), name="app:1"))


def test_the_platform_is_chosen(repo: Repository, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    manifests = [
        made.image([make_tar(file(f"is-{name}"))], architecture=name, variant=variant)
        for name, variant in (("amd64", ""), ("arm64", "v8"), ("arm", "v6"), ("arm", "v7"))
    ]
    index = {"schemaVersion": 2, "manifests": [*manifests, made.image([], architecture="unknown")]}
    made.add(made.blob(json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json"), "x")
    for platform, name in (("linux/amd64", "amd64"), ("arm64", "arm64"), ("linux/arm/v7", "arm"), ("arm", "arm")):
        record = import_image(repo, str(made.path), name="app:1", platform=platform)
        assert f"is-{name}" in show(repo, record.commit)
    with pytest.raises(NotFound, match=r"not there for linux/s390x.*there are: linux/amd64, linux/arm/v6"):
        import_image(repo, str(made.path), name="app:1", platform="linux/s390x")


def test_several_images_need_a_tag(repo: Repository, layout: Layout) -> None:
    layout.add(layout.image([TOP]), "registry.example/x:2")
    with pytest.raises(InvalidInput, match=r"several images.*1\.2, registry\.example/x:2"):
        import_image(repo, str(layout.path), name="a")
    with pytest.raises(NotFound, match="no image '3'"):
        import_image(repo, f"oci:{layout.path}:3", name="a")
    assert str(import_image(repo, f"oci:{layout.path}:2").reference) == "registry.example/x:2"
    check(repo, import_image(repo, f"oci:{layout.path}:1.2", name="a"))


def test_a_source_without_a_name_needs_one(repo: Repository, layout: Layout) -> None:
    with pytest.raises(UsageError, match="give --name"):
        import_image(repo, str(layout.path))
    assert empty(repo)


Breaker = Callable[[Layout], object]


def _edit(layout: Layout, path: str, change: Callable[[Any], None]) -> None:
    document = json.loads((layout.path / path).read_bytes())
    change(document)
    (layout.path / path).write_text(json.dumps(document))


def _largest(layout: Layout) -> Path:
    digest: str = json.loads((layout.path / _manifest(layout)).read_bytes())["layers"][0]["digest"]
    return layout.path / "blobs/sha256" / digest[7:]


def _manifest(layout: Layout) -> str:
    return f"blobs/sha256/{layout.manifests[0]['digest'][7:]}"


def _flip(path: Path, at: int = 40) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("break_it", "error", "what"),
    [
        (lambda made: _flip(_largest(made)), IntegrityError, "a layer has the wrong digest"),
        (lambda made: _largest(made).write_bytes(b"x"), IntegrityError, "1 bytes instead of"),
        (lambda made: _largest(made).unlink(), NotFound, "lacks a file"),
        (lambda made: _flip(made.path / _manifest(made)), IntegrityError, "a blob has the wrong digest"),
        (lambda made: (made.path / "index.json").write_text("{"), InvalidInput, "not JSON"),
        (lambda made: (made.path / "index.json").write_text("[]"), InvalidInput, "JSON object"),
        (lambda made: (made.path / "index.json").write_text('{"manifests":[]}'), NotFound, "no image"),
        (lambda made: (made.path / "index.json").write_text('{"manifests":[1]}'), InvalidInput, "descriptors"),
        (lambda made: (made.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0"}'), Unsupported, "version"),
        (
            lambda made: _edit(made, "index.json", lambda index: index["manifests"][0].update(digest="sha512:00")),
            InvalidInput,
            "not a sha256 digest",
        ),
        (
            lambda made: _edit(made, "index.json", lambda index: index["manifests"][0].update(digest="../../passwd")),
            InvalidInput,
            "not a sha256 digest",
        ),
        (
            lambda made: _edit(made, "index.json", lambda index: index["manifests"][0].pop("size")),
            InvalidInput,
            "size: missing",
        ),
    ],
)
def test_broken_layouts(
    repo: Repository, layout: Layout, break_it: Breaker, error: type[WherryError], what: str
) -> None:
    break_it(layout)
    with pytest.raises(error, match=what):
        import_image(repo, str(layout.path), name="a")
    assert empty(repo)


def test_a_layer_that_is_not_what_the_config_says(repo: Repository, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    config = {"rootfs": {"type": "layers", "diff_ids": [sha256(TOP)]}, "os": "linux", "architecture": "amd64"}
    manifest = {
        "config": made.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [made.blob(gzip.compress(BASE))],
    }
    made.add(made.blob(json.dumps(manifest).encode()))
    with pytest.raises(IntegrityError, match="an uncompressed layer has the wrong digest"):
        import_image(repo, str(made.path), name="a")
    manifest["layers"] = [*manifest["layers"], *manifest["layers"]]
    made.manifests.clear()
    made.add(made.blob(json.dumps(manifest).encode()))
    with pytest.raises(InvalidInput, match="2 layers, but a config for 1"):
        import_image(repo, str(made.path), name="a")
    assert empty(repo)


def test_an_artifact_is_no_image(repo: Repository, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    manifest = {"config": made.blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": []}
    made.add(made.blob(json.dumps(manifest).encode()))
    with pytest.raises(Unsupported, match="an artifact"):
        import_image(repo, str(made.path), name="a")


# --- docker archives


def docker_archive(path: Path, *, tags: list[str] | None = None, extra: bool = False) -> Path:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [sha256(BASE), sha256(TOP)]},
    }
    raw = json.dumps(config).encode()
    name = sha256(raw)[7:] + ".json"
    image = {
        "Config": name,
        "RepoTags": tags or ["team/app:3"],
        "Layers": [f"{HEX}/layer.tar", "b" * 64 + "/layer.tar"],
    }
    images = [image, {**image, "RepoTags": ["other:1"]}] if extra else [image]
    path.write_bytes(
        make_tar(
            file("c" * 64 + "/layer.tar", BASE),
            symlink(f"{HEX}/layer.tar", f"../{'c' * 64}/layer.tar"),
            file("b" * 64 + "/layer.tar", TOP),
            file(name, raw),
            file("manifest.json", json.dumps(images)),
        )
    )
    return path


def test_docker_archive(repo: Repository, tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "saved.tar")
    record = import_image(repo, str(path))
    assert str(record.reference) == "docker.io/team/app:3"
    check(repo, record)
    assert record.digest == record.identifier == record.config.digest
    assert import_image(repo, f"docker-archive:{path}") == record
    assert import_image(repo, f"docker-archive:{path}:team/app:3") == record
    with pytest.raises(NotFound, match=r"no image team/app:4.*there are: team/app:3"):
        import_image(repo, f"docker-archive:{path}:team/app:4")


def test_docker_archive_of_several(repo: Repository, tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "saved.tar", extra=True)
    with pytest.raises(InvalidInput, match=r"several images.*other:1, team/app:3"):
        import_image(repo, str(path), name="a")
    check(repo, import_image(repo, f"docker-archive:{path}:other:1"))


@pytest.mark.parametrize(
    ("members", "error", "what"),
    [
        ([file("manifest.json", "{}")], InvalidInput, "not a list of images"),
        ([file("manifest.json", "[]")], NotFound, "holds no image"),
        ([file("manifest.json", "[{}]")], InvalidInput, "Config: missing"),
        ([file("manifest.json", '[{"Config":"x","Layers":["y"]}]')], NotFound, "lacks a file: y"),
        ([file("manifest.json", '[{"Config":"x","Layers":[1]}]')], InvalidInput, "Layers"),
        (
            [
                file("a" * 64 + ".json", "{}"),
                file("manifest.json", json.dumps([{"Config": "a" * 64 + ".json", "Layers": []}])),
            ],
            IntegrityError,
            "wrong digest",
        ),
        ([symlink("manifest.json", "manifest.json")], InvalidInput, "neither"),
        ([file("repositories", '{"a":{"b":"../c"}}')], InvalidInput, "chain"),
        ([file("other", "x")], InvalidInput, "neither"),
    ],
)
def test_broken_docker_archives(
    repo: Repository, tmp_path: Path, members: list[Any], error: type[WherryError], what: str
) -> None:
    (tmp_path / "saved.tar").write_bytes(make_tar(*members))
    with pytest.raises(error, match=what):
        import_image(repo, f"docker-archive:{tmp_path / 'saved.tar'}", name="a")
    assert empty(repo)


def test_docker_archive_of_the_old_form(repo: Repository, tmp_path: Path) -> None:
    base, top = "b" * 64, "a" * 64
    document = {"id": top, "parent": base, "created": "2014-01-01T00:00:00Z", "config": CONFIG, "architecture": "amd64"}
    path = tmp_path / "old.tar"
    path.write_bytes(
        make_tar(
            file(f"{top}/VERSION", "1.0"),
            file(f"{top}/json", json.dumps(document)),
            file(f"{top}/layer.tar", TOP),
            file(f"{base}/json", json.dumps({"id": base})),
            file(f"{base}/layer.tar", BASE),
            file("repositories", json.dumps({"app": {"old": top}})),
        )
    )
    record = import_image(repo, str(path))
    check(repo, record)
    assert record.reference.familiar == "app:old"
    assert record.config.diff_ids == (sha256(BASE), sha256(TOP))
    assert record.created_s == 1388534400


# --- root trees and root tars


def test_root_tar(repo: Repository, tmp_path: Path) -> None:
    data = make_tar(
        file("./bin/busybox", AMD64_ELF, mode=0o755), symlink("./bin/sh", "/bin/busybox"), device("dev/null")
    )
    notes: list[str] = []
    commits = set()
    for form in (bytes, gzip.compress, lzma.compress, zstandard.compress):
        path = tmp_path / f"rootfs-{form.__name__}"
        path.write_bytes(form(data))
        record = import_image(repo, str(path), name="debian:12", note=notes.append)
        commits.add(record.commit)
        assert record.config.platform == "linux/amd64"
        assert record.config.diff_ids == (sha256(data),)
        assert record.created_s == 0
    assert len(commits) == 1
    assert notes == ["left out a character device: /dev/null"] * 4
    other = make_repo(tmp_path / "other")
    assert import_image(other, f"tar:{path}", name="debian:12").commit in commits
    (tmp_path / "link").symlink_to(path)
    assert import_image(other, str(tmp_path / "link"), name="debian:12").commit in commits


def test_root_tree(repo: Repository, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/sh").write_bytes(AMD64_ELF)
    (tree / "manifest.json").write_text("[]")
    record = import_image(repo, str(tree), name="tree")
    assert record.reference.familiar == "tree:latest"
    assert record.config.platform == "linux/amd64"
    assert record.size_bytes == len(AMD64_ELF) + 2
    assert import_image(repo, f"dir:{tree}", name="tree") == record
    (tree / "more").touch()
    assert import_image(repo, str(tree), name="tree").digest != record.digest


def test_changes(repo: Repository, layout: Layout, tmp_path: Path) -> None:
    plain = import_image(repo, str(layout.path), name="a")
    record = import_image(repo, str(layout.path), name="a", changes=["ENV C=d", 'CMD ["x"]', "EXPOSE 80"])
    assert record.config.env == ("A=b", "C=d")
    assert record.config.cmd == ("x",)
    assert record.config.exposed_ports == ("80/tcp",)
    assert record.config.diff_ids == plain.config.diff_ids
    assert record.config.created == plain.config.created
    assert record.digest == record.config.digest != plain.digest
    with pytest.raises(InvalidInput, match="changes more than the config"):
        import_image(repo, str(layout.path), name="a", changes=["RUN x"])


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda path: None, NotFound, "no such file"),
        (lambda path: path.write_bytes(b"not a tar at all" * 100), InvalidInput, "not a tar archive"),
        (lambda path: path.write_bytes(b""), IntegrityError, "no end marker"),
        (lambda path: path.write_bytes(gzip.compress(BASE)[:-200]), IntegrityError, "cut short"),
        (lambda path: path.write_bytes(BASE[:1536] + b"x" * 600), InvalidInput, "wrong checksum"),
        (lambda path: path.write_bytes(make_tar(file("../x"))), InvalidInput, "leaves the image"),
        (lambda path: path.write_bytes(b"BZh9" + bytes(99)), IntegrityError, "damaged"),
    ],
)
def test_broken_root_tars(
    repo: Repository, tmp_path: Path, make: Callable[[Path], object], error: type[WherryError], what: str
) -> None:
    make(tmp_path / "rootfs.tar")
    with pytest.raises(error, match=what) as caught:
        import_image(repo, str(tmp_path / "rootfs.tar"), name="a")
    assert "rootfs.tar" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert empty(repo)


def test_a_bomb_is_refused(repo: Repository, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        for number in range(3):
            archive.addfile(*_stream(f"zeros{number}", 4_000_000))
    with pytest.raises(InvalidInput, match="longer than the limit of 9000000 bytes"):
        import_image(repo, str(tmp_path / "bomb.tar.gz"), name="a", limits=Limits(total_bytes=9_000_000))
    assert empty(repo)


def _stream(name: str, size: int) -> tuple[tarfile.TarInfo, Any]:
    import io

    info, data = file(name, bytes(size))
    return info, io.BytesIO(data)


def test_the_limit_counts_all_layers(repo: Repository, layout: Layout) -> None:
    limits = Limits(total_bytes=len(BASE) + len(TOP) - 1)
    with pytest.raises(InvalidInput, match="longer than the limit"):
        import_image(repo, str(layout.path), name="a", limits=limits)


# --- names and platforms


def test_a_digest_in_the_name_must_be_right(repo: Repository, layout: Layout) -> None:
    digest = layout.manifests[0]["digest"]
    record = import_image(repo, str(layout.path), name=f"app@{digest}")
    assert Images(repo).get(f"app@{digest}") == record
    with pytest.raises(IntegrityError, match=digest):
        import_image(repo, str(layout.path), name="app@sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("wanted", "offered", "index"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7"], 0),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm/v7", ["linux/arm"], 0),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", [], None),
    ],
)
def test_choosing_a_platform(wanted: str, offered: list[str], index: int | None) -> None:
    assert choose(Platform.parse(wanted), [Platform.parse(item) for item in offered]) == index


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "Linux/amd64", "linux/amd64/v 1"])
def test_not_a_platform(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a platform"):
        Platform.parse(text)


def test_architectures() -> None:
    assert architecture_of(AMD64_ELF) == "amd64"
    assert architecture_of(b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x02\x00\x16") == "s390x"
    assert architecture_of(b"#!/bin/sh") == ""


def test_a_bomb(repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.image.unpacking.FREE_BYTES", 1_000_000)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(make_tar(file("zeros", bytes(4_000_000)))))
    with pytest.raises(InvalidInput, match="a few bytes that come to very many"):
        import_image(repo, str(path), name="a:1")
    assert not repo.refs()
    limits = replace(DEFAULT_LIMITS, ratio=10_000)
    assert import_image(repo, str(path), name="a:1", limits=limits).size_bytes == 4_000_000
