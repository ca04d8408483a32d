"""A repository, and clients of its endpoint: one that reads, one that pushes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.image.serving.client import TOKEN, Client

from wherry.image.serving.access import Accounts, Door
from wherry.image.serving.registry import Registry
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository.init(tmp_path / "repo", Mode.BARE_USER)
    made.config.set("core", "fsync", "false")
    made.save_config()
    return made


@pytest.fixture
def reader(repo: Repository) -> Client:
    return Client(Registry(repo, Door(Accounts())))


@pytest.fixture
def pusher(repo: Repository) -> Client:
    registry = Registry(repo, Door(Accounts(token=TOKEN)), push=True, delete=True)
    return Client(registry, authorization=f"Bearer {TOKEN}")
