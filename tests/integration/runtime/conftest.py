"""A tiny root tree of busybox, and a way to run containers in it that cleans up whatever happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.busybox import make_tree
from tests.integration.runtime.containers import Result, Runner, make_spec

APPLETS = (
    "cat chmod cp date dd echo env false find grep head hostname id kill ln ls mkdir mknod mkfifo mount mv nproc ps "
    "pwd readlink rm sed seq sh sleep sort stat stty sync tail test touch tr true tty umount unshare wc yes"
)


@pytest.fixture(scope="session")
def busybox_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root tree with /bin/busybox, its applets, and empty places."""
    tree = tmp_path_factory.mktemp("busybox") / "rootfs"
    return make_tree(tree, APPLETS, folders="dev proc sys tmp run var root", users="web:x:1000:1000::/:/bin/sh\n")


@pytest.fixture
def rootfs(busybox_tree: Path, tmp_path: Path) -> Path:
    """A copy of the tree that a test may change."""
    tree = tmp_path / "rootfs"
    shutil.copytree(busybox_tree, tree, symlinks=True)
    return tree


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    found = Runner(tmp_path / "state")
    yield found
    found.close()


@pytest.fixture
def sh(runner: Runner, busybox_tree: Path) -> Callable[..., Result]:
    """Runs a shell script in a container of the tree, with changes of the specification."""

    def run(script: str, *, tree: Path | None = None, **changes: Any) -> Result:
        return runner.run(make_spec("sh", "-c", script, **changes), tree or busybox_tree)

    return run
