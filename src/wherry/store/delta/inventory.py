"""What a delta has to make, and in which order: what is copied from comes before what copies from it.

First the files, alike beside alike; then those with large payloads, which are made of the others (an initial RAM disk
holds the modules of the tree that it lies in); then symbolic links; then directories, those within before those around;
last the commits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.store.delta.sources import Name, NameList, old_objects
from wherry.store.format.objects import FileHeader, ObjectType
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_DIGITS = re.compile(r"\d+")


@dataclass(slots=True, kw_only=True)
class Inventory:
    """The objects on both sides."""

    old: NameList
    """In the order in which a delta counts them."""
    numbers: dict[Name, int] = field(default_factory=dict)
    files: list[Checksum] = field(default_factory=list)
    """New regular files, in order."""
    links: list[Checksum] = field(default_factory=list)
    metadata: list[Name] = field(default_factory=list)
    headers: dict[Checksum, FileHeader] = field(default_factory=dict)
    """Of the new files and links."""
    old_paths: dict[Name, str] = field(default_factory=dict)
    new_paths: dict[Name, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many objects there are to make."""
        return len(self.files) + len(self.links) + len(self.metadata)

    def namesakes(self) -> dict[str, Name]:
        """Returns the old objects by what their paths look like without numbers."""
        found: dict[str, Name] = {}
        for name, path in self.old_paths.items():
            found.setdefault(plain_path(path), name)
        found.update({path: name for name, path in self.old_paths.items()})
        return found


def plain_path(path: str) -> str:
    """Returns a path with its numbers taken out, so that it is the same for another version."""
    return _DIGITS.sub("#", path)


def take_inventory(repo: Repository, old: Iterable[Checksum], new: Iterable[Checksum]) -> Inventory:
    """Returns what a delta between two sets of commits has to make.

    Raises:
        NotFound: a commit, or an object of a new one, is not here.
    """
    before = tuple(old)
    after = tuple(new)
    names = old_objects(repo, before)
    found = Inventory(old=names, numbers={name: number for number, name in enumerate(names)})
    for commit in before:
        _paths(repo, commit, found.old_paths)
    last: list[Name] = []
    directories: list[Name] = []
    for commit in after:
        _paths(repo, commit, found.new_paths, directories)
        if repo.has(ObjectType.COMMITMETA, commit):
            last.append((ObjectType.COMMITMETA, commit))
        if (ObjectType.COMMIT, commit) not in found.numbers:
            last.append((ObjectType.COMMIT, commit))
    for name in sorted(found.new_paths, key=lambda item: _order(found.new_paths[item])):
        if name[0] is not ObjectType.FILE or name in found.numbers:
            continue
        header = found.headers[name[1]] = repo.load_file_header(name[1])
        (found.links if header.is_symlink else found.files).append(name[1])
    fresh = [name for name in dict.fromkeys(directories) if name not in found.numbers]
    metas = [name for name in fresh if name[0] is ObjectType.DIRMETA]
    found.metadata = metas + [name for name in fresh if name[0] is ObjectType.DIRTREE] + last
    return found


def _order(path: str) -> tuple[str, str]:
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    ending = name[dot + 1 :] if dot > 0 else ""
    return ("" if any(char.isdigit() for char in ending) else ending, path)


def _paths(repo: Repository, commit: Checksum, paths: dict[Name, str], directories: list[Name] | None = None) -> None:
    """Notes the first path of everything in a commit; directories also in a list, those within first."""
    loaded = repo.load_commit(commit)
    seen: set[Checksum] = set()

    def visit(tree: Checksum, meta: Checksum, path: str, depth: int) -> None:
        check_depth(depth, path)
        paths.setdefault((ObjectType.DIRMETA, meta), path + ".")
        if directories is not None:
            directories.append((ObjectType.DIRMETA, meta))
        if tree in seen:
            return
        seen.add(tree)
        entries = repo.load_dirtree(tree)
        for name, checksum in entries.files:
            paths.setdefault((ObjectType.FILE, checksum), path + name)
        for name, subtree, submeta in entries.dirs:
            visit(subtree, submeta, f"{path}{name}/", depth + 1)
        paths.setdefault((ObjectType.DIRTREE, tree), path)
        if directories is not None:
            directories.append((ObjectType.DIRTREE, tree))

    visit(loaded.tree, loaded.meta, "", 0)
