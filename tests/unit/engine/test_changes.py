"""``diff``: from an upper directory to A, C and D, without an overlay and without root where that is possible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.core.errors import InvalidInput
from wherry.engine import changes
from wherry.engine.changes import MAX_DEPTH, Change, DirectoryLower, NeedsMerged, find_changes


class Tree:
    """An upper and a lower directory, and what they come to."""

    def __init__(self, folder: Path) -> None:
        self.upper, self.lower = folder / "upper", folder / "lower"
        self.upper.mkdir()
        self.lower.mkdir()

    def find(self, merged: Path | None = None, engine_made: tuple[str, ...] = ()) -> list[str]:
        upper_fd = os.open(self.upper, os.O_RDONLY)
        merged_fd = None if merged is None else os.open(merged, os.O_PATH)
        lower = DirectoryLower(str(self.lower))
        try:
            return [
                f"{change.kind} {change.path}"
                for change in find_changes(upper_fd, merged_fd, lower, engine_made=engine_made)
            ]
        finally:
            lower.close()
            os.close(upper_fd)
            if merged_fd is not None:
                os.close(merged_fd)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_added_and_changed(tree: Tree) -> None:
    (tree.lower / "etc").mkdir()
    (tree.lower / "etc/old").write_text("x")
    (tree.upper / "etc").mkdir()
    (tree.upper / "etc/old").write_text("y")
    (tree.upper / "etc/new").write_text("z")
    (tree.upper / "dir/inner").mkdir(parents=True)
    assert tree.find() == ["A /dir", "A /dir/inner", "C /etc", "A /etc/new", "C /etc/old"]


def test_a_whiteout_of_what_was_never_there_is_nothing(tree: Tree) -> None:
    (tree.lower / "gone").write_text("x")
    for name in ("gone", "never"):
        os.mknod(tree.upper / name, 0o600 | 0o020000, os.makedev(0, 0))
    assert tree.find() == ["D /gone"]


def test_mount_points_of_the_engine_are_not_the_containers(tree: Tree) -> None:
    made = ("/proc", "/etc/hosts", "/data/volume")
    for path in ("proc", "etc", "data/volume"):
        (tree.upper / path).mkdir(parents=True)
    (tree.upper / "etc/hosts").touch()
    assert tree.find(engine_made=made) == []
    (tree.upper / "etc/own").touch()
    (tree.upper / "proc/x").touch()
    assert tree.find(engine_made=made) == ["A /etc", "A /etc/own", "A /proc", "A /proc/x"]


def test_a_directory_made_anew_is_compared(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "gone"):
        (tree.lower / "d").mkdir(exist_ok=True)
        (tree.lower / "d" / name).write_text("x")
    (tree.upper / "d").mkdir()
    (tree.upper / "d/kept").write_text("y")
    (tree.upper / "d/new").write_text("y")
    # the attribute itself only root may set; tests/integration/container_cli/test_copy.py has real ones
    monkeypatch.setattr(changes, "_attribute", lambda fd, name: b"y" if name == changes._OPAQUE else b"")
    with pytest.raises(NeedsMerged):
        tree.find()
    assert tree.find(merged=tree.upper) == ["C /d", "D /d/gone", "C /d/kept", "A /d/new"]


def test_links_in_the_lower_tree_are_not_followed(tree: Tree) -> None:
    (tree.lower / "link").symlink_to("/etc")
    (tree.upper / "link").mkdir()
    (tree.upper / "link/passwd").write_text("x")
    assert tree.find() == ["C /link", "A /link/passwd"]


def test_a_tree_that_is_too_deep(tree: Tree) -> None:
    path = tree.upper
    for _ in range(MAX_DEPTH + 2):
        path = path / "d"
    path.mkdir(parents=True)
    with pytest.raises(InvalidInput, match="deep"):
        tree.find()


def test_a_change_is_a_pair() -> None:
    assert Change("A", "/x") == ("A", "/x")
