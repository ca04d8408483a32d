"""A hub's parts on a database in a temporary folder, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wherry.hub.accounts import Accounts
from wherry.hub.broker import Broker
from wherry.hub.database import Database, open_database
from wherry.hub.registry import Registry


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(tmp_path / "hub.db")
    yield found
    found.close()


@pytest.fixture
def accounts(database: Database, clock: Clock) -> Accounts:
    return Accounts(database, clock)


@pytest.fixture
def registry(database: Database, clock: Clock) -> Registry:
    return Registry(database, Broker(), clock, poll_interval_s=30)
