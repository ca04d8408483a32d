"""A command, a tree of busybox, and an app of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree
from tests.integration.pack.support import Wherry


@pytest.fixture
def wherry(tmp_path: Path) -> Wherry:
    def call(*args: str | Path, status: int = 0) -> str:
        command = [sys.executable, "-m", "wherry", "--root", f"{tmp_path}/root", "--run-root", f"{tmp_path}/run"]
        done = subprocess.run(
            [*command, *map(str, args)], capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", "sh cat echo sleep id", folders="tmp proc dev")


@pytest.fixture
def app(wherry: Wherry, tree: Path, tmp_path: Path) -> Path:
    wherry("pack", tree, "sh", "--no-trace", "--add", "/bin/*", "-o", tmp_path / "app")
    return tmp_path / "app"
