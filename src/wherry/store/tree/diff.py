"""What differs between two trees: commits, or a commit and a directory on disk. No object's content is read."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wherry.core.digest import Checksum
from wherry.store.format import objects
from wherry.store.format.objects import DirTree, FileHeader, ObjectType
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.modifier import Modifier

Loader = Callable[[Checksum], DirTree]
_EMPTY = DirTree()


class Kind(enum.StrEnum):
    """How a path differs."""

    MODIFIED = "modified"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that differs."""

    kind: Kind
    path: str
    """Below the root, like ``usr/bin/sh``. Of a removed directory only itself, of an added one all that is in it."""
    root: bool = False
    """The root itself, whose owner, mode or attributes differ; ``ostree diff`` does not look at those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One side: a root, and how its dirtrees are read."""

    tree: Checksum
    meta: Checksum
    load: Loader


def diff(repo: Repository, old: Checksum | None, new: Checksum) -> list[Change]:
    """Compares two commits.

    Args:
        repo: where both lie.
        old: the older; None: an empty tree.
        new: the newer.

    Returns:
        The changes: modified, then removed, then added, each in the order of the tree (files before directories).

    Raises:
        NotFound: a commit or a directory of it is not there.
    """
    after = tree_of(repo, new)
    if old is None:
        worker = _Diff(repo.load_dirtree, after.load)
        worker.add(after.tree, "", 0)
        return worker.changes()
    return diff_trees(tree_of(repo, old), after)


def tree_of(repo: Repository, commit: Checksum) -> Tree:
    """Returns a commit as one side."""
    loaded = repo.load_commit(commit)
    return Tree(tree=loaded.tree, meta=loaded.meta, load=repo.load_dirtree)


def diff_trees(old: Tree, new: Tree) -> list[Change]:
    """Compares two sides; see ``diff``."""
    worker = _Diff(old.load, new.load)
    if old.meta != new.meta:
        worker.note(Kind.MODIFIED, "", root=True)
    worker.compare(old.tree, new.tree, "", 0)
    return worker.changes()


class _Diff:
    def __init__(self, load_old: Loader, load_new: Loader) -> None:
        self._load_old = load_old
        self._load_new = load_new
        self._found: dict[Kind, list[Change]] = {kind: [] for kind in Kind}

    def note(self, kind: Kind, path: str, *, root: bool = False) -> None:
        self._found[kind].append(Change(kind=kind, path=path, root=root))

    def changes(self) -> list[Change]:
        return [change for kind in Kind for change in self._found[kind]]

    def compare(self, old: Checksum, new: Checksum, prefix: str, depth: int) -> None:
        if old == new:
            return
        check_depth(depth, prefix)
        before, after = self._load_old(old), self._load_new(new)
        files = dict(after.files)
        dirs = {name: (tree, meta) for name, tree, meta in after.dirs}
        had = {name for name, _ in before.files}, {name for name, _, _ in before.dirs}
        for name, checksum in before.files:
            if name in files:
                if files[name] != checksum:
                    self.note(Kind.MODIFIED, prefix + name)
            else:
                self.note(Kind.MODIFIED if name in dirs else Kind.REMOVED, prefix + name)
        for name, tree, meta in before.dirs:
            if name in dirs:
                if dirs[name][1] != meta:
                    self.note(Kind.MODIFIED, prefix + name)
                self.compare(tree, dirs[name][0], f"{prefix}{name}/", depth + 1)
            else:
                self.note(Kind.MODIFIED if name in files else Kind.REMOVED, prefix + name)
        for name, _ in after.files:
            if name not in had[0] and name not in had[1]:
                self.note(Kind.ADDED, prefix + name)
        for name, tree, _ in after.dirs:
            if name in had[1]:
                continue
            if name not in had[0]:
                self.note(Kind.ADDED, prefix + name)
            self.add(tree, f"{prefix}{name}/", depth + 1)

    def add(self, tree: Checksum, prefix: str, depth: int) -> None:
        check_depth(depth, prefix)
        entries = self._load_new(tree)
        for name, _ in entries.files:
            self.note(Kind.ADDED, prefix + name)
        for name, subtree, _ in entries.dirs:
            self.note(Kind.ADDED, prefix + name)
            self.add(subtree, f"{prefix}{name}/", depth + 1)


def scan_directory(path: Path, modifier: Modifier) -> Tree:
    """Returns a directory on disk as one side: all is hashed, nothing is written.

    Raises:
        InvalidInput: something in it cannot be in a commit; names it.
    """
    from wherry.store.tree.commit import hash_directory

    hasher = _Hasher()
    tree, meta = hash_directory(hasher, path, modifier)
    return Tree(tree=tree, meta=meta, load=hasher.trees.__getitem__)


class _Hasher:
    """Stands where a transaction does, and only computes checksums."""

    def __init__(self) -> None:
        self.trees: dict[Checksum, DirTree] = {}

    def write_file(self, header: FileHeader, source: bytes | BinaryIO | None = None) -> Checksum:
        """Returns the checksum of a file object."""
        return objects.file_checksum(header, source)

    def write_metadata(self, kind: ObjectType, data: bytes) -> Checksum:
        """Returns the checksum of a metadata object, and keeps dirtrees."""
        checksum = objects.metadata_checksum(data)
        if kind is ObjectType.DIRTREE:
            self.trees[checksum] = objects.parse_dirtree(data)
        return checksum
