"""An image store for the session, and a project in a folder of its own for each test, checked for leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.compose.support import Compose
from tests.integration.engine.support import Cli, make_store, nothing_left


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    make_store(folder / "store", folder / "tree")
    return folder / "store"


@pytest.fixture
def compose(tmp_path: Path, store: Path) -> Iterator[Compose]:
    root, folder = tmp_path / "root", tmp_path / "shop"
    root.mkdir()
    folder.mkdir()
    (root / "store").symlink_to(store)
    project = Compose(Cli(root, tmp_path / "run"), folder)
    with nothing_left(root, tmp_path / "run"):
        yield project
        project.cli.remove_all()
