"""Which control groups somebody without root may use; over plain folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.runtime import cgroup_delegated
from wherry.runtime.cgroup_delegated import delegated
from wherry.runtime.cgroup_hierarchies import Hierarchy

ID = "f" * 64


def _group(path: Path) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.procs").touch()
    return str(path)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Gives the set of paths that are the user's, in the place of the kernel's answer."""
    found: set[str] = set()
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path).removesuffix("/cgroup.procs") in found)
    return found


def test_version_2_begins_at_the_topmost_group_of_the_user(
    tmp_path: Path, own: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "user.slice/user-1000.slice/user@1000.service"
    inner = _group(service / "app.slice/run-1.scope")
    own.update({inner, str(service / "app.slice"), str(service)})
    hierarchy = Hierarchy(2, ("memory",), str(tmp_path))
    monkeypatch.setattr(cgroup_delegated, "own_group", lambda _: inner)
    found, path = delegated(ID, (hierarchy,))
    assert found == (hierarchy,)
    assert path == f"/user.slice/user-1000.slice/user@1000.service/wherry/{ID}"


def test_nothing_of_version_2_is_the_users(tmp_path: Path, own: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inner = _group(tmp_path / "session-1.scope")
    monkeypatch.setattr(cgroup_delegated, "own_group", lambda _: inner)
    assert delegated(ID, (Hierarchy(2, ("memory",), str(tmp_path)),)) == ((), "")


def test_of_version_1_those_that_are_the_users(tmp_path: Path, own: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, pids = Hierarchy(1, ("memory",), str(tmp_path / "m")), Hierarchy(1, ("pids",), str(tmp_path / "p"))
    own.add(_group(tmp_path / "m/mine"))
    monkeypatch.setattr(cgroup_delegated, "own_group", lambda item: f"{item.mount}/mine")
    assert delegated(ID, (memory, pids)) == ((memory,), f"wherry/{ID}")
