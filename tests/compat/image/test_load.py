"""Archives of several images, as podman and skopeo write them; and what comes out is what GNU tar takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, directory, file, make_repo, make_tar, show, symlink

from wherry.image.catalog import Images
from wherry.image.importing import load_images
from wherry.store.repository import Repository
from wherry.store.tree.export import export

BASE = make_tar(directory("etc"), file("etc/base", "base", mode=0o4711), symlink("etc/link", "base"))
MORE = make_tar(file("etc/more", "more"), file("etc/.wh.base"))


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


def skopeo(*args: str) -> str:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    done = subprocess.run(["skopeo", "--insecure-policy", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def layout(path: Path, layers: list[bytes], tag: str) -> Path:
    made = Layout(path)
    made.add(made.image(layers), tag)
    return path


def test_docker_archive_of_skopeo(repo: Repository, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", [BASE, MORE], "1")
    archive = tmp_path / "saved.tar"
    skopeo(
        "copy", f"oci:{source}:1", f"docker-archive:{archive}:registry.example/team/app:1",
        "--additional-tag", "registry.example/team/app:stable",
    )  # fmt: skip
    records = load_images(repo, archive)
    assert sorted(str(record.reference) for record in records) == [
        "registry.example/team/app:1", "registry.example/team/app:stable",
    ]  # fmt: skip
    assert len({record.identifier for record in records}) == 1
    assert set(show(repo, records[0].commit)) == {"", "etc", "etc/link", "etc/more"}


def test_oci_archive_of_several(repo: Repository, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for number, layers in (("1", [BASE]), ("2", [BASE, MORE])):
        source = layout(tmp_path / number, layers, number)
        skopeo("copy", f"oci:{source}:{number}", f"oci:{both}:example.org/app:{number}")
    archive = tmp_path / "both.tar"
    with tarfile.open(archive, "w") as out:
        out.add(both, arcname=".")
    records = load_images(repo, archive)
    assert [record.reference.familiar for record in records] == ["example.org/app:1", "example.org/app:2"]
    for record in records:
        assert skopeo("inspect", "--format", "{{.Digest}}", f"oci:{both}:{record.reference.familiar}").strip() == (
            record.digest
        )


def test_old_archive_of_two_images(repo: Repository, tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    archive = tmp_path / "old.tar"
    archive.write_bytes(
        make_tar(
            file("repositories", json.dumps({"app": {"1": one, "latest": one}, "other": {"1": two}})),
            file(f"{one}/json", json.dumps({"id": one, "architecture": "amd64", "os": "linux"})),
            file(f"{one}/layer.tar", BASE),
            file(f"{two}/json", json.dumps({"id": two, "parent": one, "os": "linux", "architecture": "amd64"})),
            file(f"{two}/layer.tar", MORE),
        )
    )
    load_images(repo, archive)
    assert [record.reference.familiar for record in Images(repo).list()] == ["app:1", "app:latest", "other:1"]


def test_gnu_tar_reads_what_is_exported(repo: Repository, tmp_path: Path) -> None:
    record = load_images(repo, layout(tmp_path / "layout", [BASE], "app:1"))[0]
    with open(tmp_path / "root.tar", "wb") as out:
        export(repo, record.commit, out)
    (tmp_path / "root").mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "root.tar", "-C", tmp_path / "root"], check=True)
    assert (tmp_path / "root/etc/base").read_text() == "base"
    assert oct((tmp_path / "root/etc/base").stat().st_mode & 0o7777) == "0o4711"
    assert (tmp_path / "root/etc/link").readlink() == Path("base")


def test_podman_takes_and_gives(repo: Repository, tmp_path: Path, podman: list[str]) -> None:
    """What podman saves of two images is loaded as podman loads it; what is exported, podman imports."""
    for number, layers in (("1", [BASE]), ("2", [BASE, MORE])):
        source = layout(tmp_path / number, layers, number)
        skopeo("copy", f"oci:{source}:{number}", f"docker-archive:{tmp_path}/{number}.tar:localhost/app:{number}")
        subprocess.run([*podman, "load", "-q", "-i", tmp_path / f"{number}.tar"], check=True, capture_output=True)
    saved = tmp_path / "saved.tar"
    subprocess.run(
        [*podman, "save", "-q", "-m", "-o", saved, "localhost/app:1", "localhost/app:2"],
        check=True,
        capture_output=True,
    )
    records = load_images(repo, saved)
    listed = subprocess.run(
        [*podman, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert sorted(f"{record.reference} {record.identifier}" for record in records) == sorted(listed)
    with open(tmp_path / "root.tar", "wb") as out:
        export(repo, records[0].commit, out)
    subprocess.run([*podman, "import", "-q", tmp_path / "root.tar", "again:1"], check=True, capture_output=True)
    subprocess.run(
        [*podman, "save", "-q", "-o", tmp_path / "again.tar", "localhost/again:1"], check=True, capture_output=True
    )
    again = load_images(repo, tmp_path / "again.tar")[0]
    assert repo.load_commit(again.commit).tree == repo.load_commit(records[0].commit).tree
