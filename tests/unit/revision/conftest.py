"""A machine with images made from a few files, and a hub; no root, no network beyond this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulators.hub_simulator import HubSimulator, hub_simulator
from tests.simulators.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubSimulator]:
    with hub_simulator(tmp_path / "hub") as running:
        yield running
