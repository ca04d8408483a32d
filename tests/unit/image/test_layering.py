"""What stands on an image: its layers stay below, each step is one more, and IDs are the same here and elsewhere."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.makers import Layout, file, make_tar

from wherry.image import layercache
from wherry.image.catalog import ImageRecord, Images
from wherry.image.config import make_config
from wherry.image.importing import import_image
from wherry.image.kept import KeptBlobs
from wherry.image.layering import MAX_DEPTH, Below, below, layers_of, size_on, stack
from wherry.image.layertar import Tree
from wherry.image.outgoing import outgoing
from wherry.image.recording import record_image, tree_digest
from wherry.image.reference import Reference
from wherry.image.tidying import tidy
from wherry.image.unpacking import tree_size
from wherry.store.format.objects import FileHeader, Mode
from wherry.store.repository import Repository
from wherry.store.tree.mutable import TreeBuilder

CREATED = "2026-01-02T03:04:05Z"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.init(tmp_path / "repo", Mode.BARE_USER)


def pulled(repo: Repository, folder: Path, *layers: bytes, keep_layers: bool = False) -> ImageRecord:
    made = Layout(folder)
    made.add(made.image(list(layers)))
    return import_image(repo, str(made.path), name="base:1", keep_layers=keep_layers)


def with_file(repo: Repository, tree: Tree | None, name: str) -> Tree:
    builder = TreeBuilder(repo)
    if tree is not None:
        builder.overlay_tree(*tree)
    builder.add_file(name, FileHeader(uid=0, gid=0, mode=stat.S_IFREG | 0o644), name.encode())
    return Tree(*builder.write())


def built(repo: Repository, base: Below, steps: int, *, name: str = "app:1") -> ImageRecord:
    """Records an image as a build does."""
    with repo.transaction():
        tree = base.trees[-1] if base.trees else None
        made: list[Tree] = []
        for number in range(steps):
            tree = with_file(repo, tree, f"step{number}")
            made.append(tree)
        document: dict[str, Any] = {"architecture": "amd64", "os": "linux", "created": CREATED, "config": {}}
        history = [{"created": CREATED, "created_by": f"step {number}"} for number in range(steps)]
        document["history"] = [*base.history, *history]
        stack(repo, document, base, made)
        config = make_config(document)
        last = made[-1] if made else base.trees[-1]
        digest = tree_digest(config, *last)
        return record_image(
            repo, Reference.parse(name), tree=last.tree, meta=last.meta, size_bytes=1, config=config, digest=digest
        )


def test_steps_alone_leave_as_they_were_built(repo: Repository) -> None:
    record = built(repo, Below(), 3)
    leaving = outgoing(repo, record)
    assert len(leaving.layers) == 3
    assert leaving.config == record.config.raw, "the image's ID is the same wherever it goes"


def test_on_a_pulled_image(repo: Repository, tmp_path: Path) -> None:
    base = pulled(repo, tmp_path / "in", make_tar(file("a", "1")), make_tar(file("b", "2")))
    record = built(repo, below(repo, base), 2)
    assert record.config.diff_ids[:2] == base.config.diff_ids
    leaving, its_base = outgoing(repo, record, compress="gzip"), outgoing(repo, base, compress="gzip")
    assert len(leaving.layers) == 4
    assert [layer.digest for layer in leaving.layers[:2]] == [layer.digest for layer in its_base.layers]


def test_on_an_image_whose_blobs_are_kept(repo: Repository, tmp_path: Path) -> None:
    base = pulled(repo, tmp_path / "in", make_tar(file("a", "1")), make_tar(file("b", "2")), keep_layers=True)
    record = built(repo, below(repo, base), 1)
    kept = KeptBlobs(repo)
    leaving, its_base = outgoing(repo, record, kept, compress="gzip"), outgoing(repo, base, kept)
    assert its_base.kept
    assert [layer.digest for layer in leaving.layers[:2]] == [layer.digest for layer in its_base.layers]
    assert leaving.config == record.config.raw, "the ID stays, too"
    with leaving.layers[0].open() as source:
        assert hashlib.sha256(source.read()).hexdigest() == leaving.layers[0].digest[7:]


def test_on_an_image_that_is_one_tree(repo: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").write_text("x")
    base = import_image(repo, str(root), name="base:1")
    record = built(repo, below(repo, base), 1)
    leaving = outgoing(repo, record)
    assert leaving.config == record.config.raw
    assert leaving.layers[0].digest == outgoing(repo, base).layers[0].digest
    again = built(repo, below(repo, record), 1, name="more:1")
    assert outgoing(repo, again).config == again.config.raw
    assert len(outgoing(repo, again).layers) == 3


def test_trees_below_stay_as_long_as_the_image(repo: Repository) -> None:
    record = built(repo, Below(), 2)
    tidy(repo)
    assert len(layers_of(repo, record)) == 2
    Images(repo).remove("app:1")
    tidy(repo)
    assert not repo.refs(layercache.LAYER_PREFIX)


def test_more_steps_than_an_overlay_has_layers_are_one(repo: Repository) -> None:
    record = built(repo, Below(), MAX_DEPTH + 1)
    assert record.config.diff_ids == ()
    assert len(outgoing(repo, record).layers) == 1
    assert len(outgoing(repo, built(repo, Below(), MAX_DEPTH, name="b:1")).layers) == MAX_DEPTH


def test_the_size_of_what_stands_on_an_image(repo: Repository, tmp_path: Path) -> None:
    base = pulled(repo, tmp_path / "in", make_tar(file("a/one", "1"), file("a/two", "22"), file("b/three", "333")))
    builder = TreeBuilder(repo)
    builder.overlay_tree(*below(repo, base).trees[-1])
    with repo.transaction():
        builder.remove("a/two")
        builder.mkdir("c")
        for name in ("a/one", "c/three"):
            builder.add_file(name, FileHeader(uid=1, gid=0, mode=stat.S_IFREG | 0o600), b"changed")
        tree, _ = builder.write()
    assert size_on(repo, base, tree) == tree_size(repo, tree) == 7 + 3 + 7
    assert size_on(repo, None, tree) == 17
