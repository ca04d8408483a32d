"""Further names, other names, names that go; and the steps that made an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, directory, file, make_repo, make_tar

from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.image import layercache
from wherry.image.catalog import ImageRecord, Images
from wherry.image.history import history
from wherry.image.importing import import_image
from wherry.image.naming import rename, tag
from wherry.store.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def image(repo: Repository, tmp_path: Path) -> ImageRecord:
    (tmp_path / "root.tar").write_bytes(make_tar(file("bin/sh", "x")))
    return import_image(repo, str(tmp_path / "root.tar"), name="app:1")


def names(repo: Repository) -> list[str]:
    return [record.reference.familiar for record in Images(repo).list()]


def test_a_further_name_is_the_same_image(repo: Repository, image: ImageRecord) -> None:
    made = tag(repo, "app:1", "registry.example/team/app:2")
    assert (made.identifier, made.digest, made.size_bytes) == (image.identifier, image.digest, image.size_bytes)
    assert Images(repo).get("registry.example/team/app:2") == made
    assert repo.load_commit(made.commit).tree == repo.load_commit(image.commit).tree
    assert [item.familiar for item in Images(repo).names_of(image)] == ["app:1", "registry.example/team/app:2"]
    assert repo.fsck(verify_bindings=True).ok  # a commit says which ref it is for
    assert tag(repo, image.identifier[7:15], "app:3").identifier == image.identifier


def test_by_an_id_all_names_go(repo: Repository, image: ImageRecord) -> None:
    tag(repo, "app:1", "b:1")
    assert sorted(item.familiar for item in Images(repo).remove(image.identifier)) == ["app:1", "b:1"]
    assert not names(repo)


def test_rename(repo: Repository, image: ImageRecord, tmp_path: Path) -> None:
    rename(repo, "app:1", "app:2")
    assert names(repo) == ["app:2"]
    rename(repo, "app:2", "app:2")
    assert names(repo) == ["app:2"]
    rename(repo, image.identifier, "c:1")
    (tmp_path / "other.tar").write_bytes(make_tar(file("other")))
    import_image(repo, str(tmp_path / "other.tar"), name="other:1")
    with pytest.raises(Conflict, match="another image has that name"):
        rename(repo, "c:1", "other:1")
    assert names(repo) == ["c:1", "other:1"]
    rename(repo, "c:1", "other:1", force=True)
    assert names(repo) == ["other:1"]
    assert Images(repo).get("other:1").identifier == image.identifier
    tag(repo, "other:1", "more:1")
    with pytest.raises(Conflict, match="several names"):
        rename(repo, image.identifier, "x:1")


@pytest.mark.parametrize(
    ("source", "name", "error"),
    [
        ("none:1", "b:1", NotFound),
        ("app:1", "Bad Name", InvalidInput),
        ("app:1", "b@sha256:" + "0" * 64, InvalidInput),
    ],
)
def test_bad_names(repo: Repository, image: ImageRecord, source: str, name: str, error: type[Exception]) -> None:
    for work in (tag, rename):
        with pytest.raises(error):
            work(repo, source, name)
    assert names(repo) == ["app:1"]


def test_trees_whose_configs_are_alike_are_two_images(repo: Repository, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        import_image(repo, f"dir:{tmp_path / name}", name=f"{name}:1")
    with pytest.raises(Conflict, match="several images begin with"):
        Images(repo).get(Images(repo).get("a:1").identifier)
    assert len(Images(repo).names_of(Images(repo).get("a:1"))) == 1


def told(path: Path, *steps: dict[str, object], layers: list[bytes]) -> Path:
    """Makes a layout whose config tells a history."""
    layout = Layout(path)
    descriptor = layout.image(layers)
    manifest = json.loads((path / "blobs/sha256" / descriptor["digest"][7:]).read_bytes())
    config = json.loads((path / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes())
    config["history"] = list(steps)
    manifest["config"] = layout.blob(json.dumps(config).encode(), manifest["config"]["mediaType"])
    layout.add(layout.blob(json.dumps(manifest).encode(), descriptor["mediaType"]))
    return path


def test_history(repo: Repository, tmp_path: Path) -> None:
    layers = [
        make_tar(directory("d"), file("d/a", "1234"), file("b", "12")),
        make_tar(file("d/a", "12345"), file("c", "1")),
    ]
    path = told(
        tmp_path / "layout",
        {"created": "2026-01-02T03:04:05Z", "created_by": "ADD root"},
        {"created_by": "CMD sh", "empty_layer": True},
        {"created": "nonsense", "created_by": "RUN x", "comment": "why", "author": 7},
        layers=layers,
    )
    record = import_image(repo, str(path), name="app:1")
    steps = history(repo, record)
    assert [(step.created_by, step.size_bytes, step.empty) for step in steps] == [
        ("RUN x", 6, False),
        ("CMD sh", 0, True),
        ("ADD root", 6, False),
    ]
    assert (steps[0].created_s, steps[0].comment, steps[0].author) == (0, "why", "")
    assert steps[2].created_s == 1767323045
    layercache.forget_unused(repo, [])
    assert [step.size_bytes for step in history(repo, record)] == [None, 0, None]


def test_history_of_an_image_that_tells_none(repo: Repository, image: ImageRecord) -> None:
    assert [(step.created_by, step.size_bytes) for step in history(repo, image)] == [("", 1)]
