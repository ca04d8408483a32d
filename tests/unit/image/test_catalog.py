"""The images of a repository: found by name, by digest, by a few digits; and removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.image.makers import Layout, file, make_repo, make_tar

from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.image.catalog import ImageRecord, Images
from wherry.image.importing import import_image
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_tree
from wherry.store.tree.mutable import TreeBuilder


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def records(repo: Repository, tmp_path: Path) -> list[ImageRecord]:
    found = []
    for number, name in enumerate(("nginx:1.2", "localhost:5000/team/app:x", "nginx:1.3")):
        made = Layout(tmp_path / f"layout{number}")
        made.add(made.image([make_tar(file("f", str(number % 2)))]))
        found.append(import_image(repo, str(made.path), name=name))
    return found


def test_listed_by_name(repo: Repository, records: list[ImageRecord]) -> None:
    assert [record.reference.familiar for record in Images(repo).list()] == [
        "nginx:1.2",
        "nginx:1.3",
        "localhost:5000/team/app:x",
    ]


def test_found(repo: Repository, records: list[ImageRecord]) -> None:
    images, first = Images(repo), records[1]
    for name in (
        "localhost:5000/team/app:x",
        first.commit,
        first.commit[:12],
        first.digest,
        first.digest[:20],
        first.identifier,
        first.identifier[7:19],
        f"localhost:5000/team/app@{first.digest}",
    ):
        assert images.get(name) == first, name
    assert images.get("docker.io/library/nginx:1.2") == records[0]
    assert images.get(records[0].identifier).identifier == records[2].identifier
    assert images.record_of(first.commit) == first


@pytest.mark.parametrize("name", ["nginx", "nginx:2", "team/app:x", "f" * 64, "abcd", "nginx@sha256:" + "0" * 64])
def test_not_found(repo: Repository, records: list[ImageRecord], name: str) -> None:
    with pytest.raises(NotFound, match="no such image"):
        Images(repo).get(name)


def test_not_found_with_a_guess(repo: Repository, records: list[ImageRecord]) -> None:
    with pytest.raises(NotFound, match=r"did you mean nginx:1\.2\?"):
        Images(repo).get("ngnx:1.2")
    with pytest.raises(InvalidInput, match="not the name of an image"):
        Images(repo).get("NOT A NAME")


def test_ambiguous(repo: Repository, records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    from wherry.image import catalog

    monkeypatch.setattr(catalog, "_ID", re.compile(r"(?:sha256:)?([0-9a-f]*)\Z"))
    with pytest.raises(Conflict, match="several images begin with"):
        Images(repo)._by_identifier("")


def test_removed_by_name_and_by_identifier(repo: Repository, records: list[ImageRecord]) -> None:
    images = Images(repo)
    import_image(repo, _source(records[0], repo), name="copy:1")
    assert [item.familiar for item in images.remove("nginx:1.2")] == ["nginx:1.2"]
    with pytest.raises(NotFound):
        images.remove("nginx:1.2")
    assert [item.familiar for item in images.remove(records[1].commit[:12])] == ["localhost:5000/team/app:x"]
    assert [record.reference.familiar for record in images.list()] == ["copy:1", "nginx:1.3"]


def _source(record: ImageRecord, repo: Repository) -> str:
    return str(repo.path.parent / "layout0")


def test_a_commit_that_is_no_image(repo: Repository) -> None:
    with repo.transaction():
        commit = commit_tree(repo, *TreeBuilder(repo).write(), timestamp_s=0)
    with pytest.raises(InvalidInput, match="no image"):
        Images(repo).record_of(commit)


def test_an_image_that_no_name_leads_to(repo: Repository, records: list[ImageRecord]) -> None:
    images = Images(repo)
    images.remove("nginx:1.2")
    found = images.get(records[0].commit)
    assert found.reference.familiar == "nginx:1.2"
    with pytest.raises(NotFound, match="no name here"):
        images.remove(records[0].commit)
