"""Reading a stranger's tree: nothing leads out of it, and nothing is read without a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.image.sbom.parts import committed, put

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.sbom import tree as trees
from wherry.image.sbom.describe import describe_directory
from wherry.image.sbom.tree import Tree, Unreadable, commit_tree, directory_tree

FILES: dict[str, bytes | str] = {
    "etc/hostname": "inside",
    "etc/up": "-> ../../../../../../etc/hostname",
    "etc/absolute": "-> /etc/hostname",
    "etc/chain": "-> up",
    "loop": "-> loop",
    "one": "-> two",
    "two": "-> one",
    "dangling": "-> nowhere",
    "folder": "-> etc",
    "bin/run": "#!",
    "etc/through": "-> hostname/x",
}


@pytest.fixture(params=["commit", "directory"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    if request.param == "commit":
        return commit_tree(*committed(tmp_path, FILES))
    root = put(tmp_path / "root", FILES)
    os.mkfifo(root / "pipe")
    return directory_tree(root)


def test_links_stay_inside(tree: Tree) -> None:
    for path in ("etc/hostname", "etc/up", "etc/absolute", "etc/chain", "folder/hostname", "../../etc/./hostname"):
        assert tree.real(path) == "etc/hostname"
        assert tree.read(path, max_bytes=6) == b"inside"
    for path in ("loop", "one", "dangling", "etc/hostname/x", "etc/through", "none", "pipe"):
        assert tree.real(path) is None
        assert not tree.is_file(path)
        with pytest.raises(Unreadable):
            tree.read(path, max_bytes=6)
    with pytest.raises(Unreadable):
        tree.read("etc", max_bytes=6)
    with pytest.raises(Unreadable, match="longer than 5 bytes"):
        tree.read("etc/up", max_bytes=5)
    assert tree.real("etc/../..") == ""
    assert tree.listdir("folder") == ["absolute", "chain", "hostname", "through", "up"]
    assert tree.listdir("etc/hostname") == []
    assert list(tree.files()) == [("bin/run", True), ("etc/hostname", False)]


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path / "root", FILES)
    monkeypatch.setattr(trees, "MAX_PATHS", 5)
    with pytest.raises(InvalidInput, match="more than 5 paths"):
        directory_tree(root)
    with pytest.raises(InvalidInput, match="more than 5 paths"):
        commit_tree(*committed(tmp_path, {}))


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        describe_directory(tmp_path / "none")


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"a/file": "x"})
    (tmp_path / "secret").write_text("secret")
    found = directory_tree(root)
    (root / "a/file").unlink()
    (root / "a/file").symlink_to(tmp_path / "secret")
    with pytest.raises(Unreadable):
        found.read("a/file", max_bytes=100)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"x/node_modules/a/package.json": '{"name": "a\\u0007\\ud800b", "version": "1\\n2"}'})
    os.rename(os.fsencode(root / "x"), os.fsencode(root) + b"/\xff")
    component = describe_directory(root).components[0]
    assert (component.name, component.version) == ("a  b", "1 2")
    component.found_in.encode()
