"""An image store for the session, and an engine root for each test, checked for leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.engine.support import Cli, make_store, nothing_left

from wherry.engine.engine import Engine
from wherry.store.repository import Repository


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    make_store(folder / "store", folder / "tree")
    return folder / "store"


@pytest.fixture
def cli(tmp_path: Path, store: Path) -> Iterator[Cli]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "store").symlink_to(store)
    command = Cli(root, tmp_path / "run")
    with nothing_left(root, tmp_path / "run"):
        yield command
        command.remove_all()


@pytest.fixture
def engine(cli: Cli, store: Path) -> Engine:
    return Engine(cli.root, cli.run_root, Repository.open(store))
