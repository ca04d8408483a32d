"""A device made of simulators."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulators.device_rig import Rig


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: these tests sync a thousand times, and cut no real power."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="wherry-device-", dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def rig(memory: Path) -> Rig:
    return Rig(memory / "rig")
