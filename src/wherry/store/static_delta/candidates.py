"""What a delta must bring, and what each new file most likely was before.

OSTree takes the smallest old file with the same base name and about the same size; in a tree with a hundred
``copyright`` and ``__init__.py`` that is seldom the right one. Here the path decides first: the same one, then the
same but for its numbers (a new version's folder), then the same base name in the nearest folder, then the beginning
of the base name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.store.disk import content
from wherry.store.format.objects import FileHeader, Mode, ObjectType
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_NUMBERS = re.compile(r"\d+")
_MAX_CANDIDATES = 3
_READABLE_BY_ALL = 0o004
_SIZE_FACTOR = 4
"""A file is looked at when it is at most so many times larger or smaller."""


@dataclass(slots=True)
class NewFile:
    """A file object that the old commit does not have."""

    checksum: Checksum
    header: FileHeader
    size: int
    path: str
    sources: tuple[Checksum, ...] = ()
    """Files of the old commit that it may have come from, the likeliest first."""


@dataclass(slots=True)
class Changes:
    """What a delta must bring."""

    metadata: list[tuple[ObjectType, Checksum]] = field(default_factory=list)
    files: list[NewFile] = field(default_factory=list)
    symlinks: list[NewFile] = field(default_factory=list)


class _Old:
    """The files of the old commit, by what they may be found by."""

    def __init__(self) -> None:
        self.seen: set[tuple[ObjectType, Checksum]] = set()
        self.by_path: dict[str, Checksum] = {}
        self.by_stripped: dict[str, list[str]] = {}
        self.by_name: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}

    def add(self, path: str, checksum: Checksum) -> None:
        self.by_path[path] = checksum
        self.by_stripped.setdefault(_NUMBERS.sub("", path), []).append(path)
        name = path.rpartition("/")[2]
        self.by_name.setdefault(name, []).append(path)
        stem = _stem(name)
        if stem:
            self.by_stem.setdefault(stem, []).append(path)

    def likely(self, path: str) -> list[Checksum]:
        """Returns the files that one at `path` may have come from."""
        name = path.rpartition("/")[2]
        found: dict[Checksum, None] = {}
        if path in self.by_path:
            found[self.by_path[path]] = None
        for paths in (
            self.by_stripped.get(_NUMBERS.sub("", path), ()),
            self.by_name.get(name, ()),
            self.by_stem.get(_stem(name), ()),
        ):
            for item in sorted(paths, key=lambda other: (-_nearness(path, other), other))[:_MAX_CANDIDATES]:
                found.setdefault(self.by_path[item], None)
            if len(found) >= _MAX_CANDIDATES:
                break
        return list(found)[:_MAX_CANDIDATES]


def find_changes(repo: Repository, origin: Checksum | None, target: Checksum) -> Changes:
    """Returns what `target` has and `origin` has not.

    Args:
        repo: where both are, whole.
        origin: the old commit; None: nothing.
        target: the new commit.

    Raises:
        NotFound: something is missing.
    """
    old = _Old()
    if origin is not None:
        for path, kind, checksum in _entries(repo, origin):
            old.seen.add((kind, checksum))
            if kind is ObjectType.FILE:
                old.add(path, checksum)
    changes = Changes()
    seen = set(old.seen)
    headers: dict[Checksum, tuple[FileHeader, int]] = {}
    for path, kind, checksum in _entries(repo, target, without=old.seen):
        if (kind, checksum) in seen:
            continue
        seen.add((kind, checksum))
        if kind is not ObjectType.FILE:
            changes.metadata.append((kind, checksum))
            continue
        header, size = header_and_size(repo, checksum)
        found = NewFile(checksum=checksum, header=header, size=size, path=path)
        if header.is_symlink:
            changes.symlinks.append(found)
            continue
        changes.files.append(found)
        if size:
            found.sources = _usable(repo, old.likely(path), found, headers)
    return changes


def header_and_size(repo: Repository, checksum: Checksum) -> tuple[FileHeader, int]:
    """Returns a file object's header, and the size of its content (of a symbolic link: of its target)."""
    if repo.mode is Mode.ARCHIVE:
        path = repo.object_path(ObjectType.FILE, checksum)
        with open(path, "rb") as file:
            header, size = content.read_archive_head(file, where=path)
    else:
        header, opened = repo.load_file(checksum)
        size = 0
        if opened is not None:
            with opened:
                size = os.fstat(opened.fileno()).st_size
    return header, len(header.symlink_target.encode()) if header.is_symlink else size


def _usable(
    repo: Repository, likely: Iterable[Checksum], new: NewFile, headers: dict[Checksum, tuple[FileHeader, int]]
) -> tuple[Checksum, ...]:
    """Leaves out what is empty, no regular file, of quite another size, or what not everybody may read.

    The last because a device may keep the old objects where whoever applies the delta cannot read them.
    """
    found = []
    for checksum in likely:
        if checksum not in headers:
            headers[checksum] = header_and_size(repo, checksum)
        header, size = headers[checksum]
        if header.is_symlink or not size or not header.mode & _READABLE_BY_ALL:
            continue
        if max(size, new.size) <= _SIZE_FACTOR * min(size, new.size):
            found.append(checksum)
    return tuple(found)


def _entries(
    repo: Repository, commit: Checksum, *, without: Container[tuple[ObjectType, Checksum]] = ()
) -> Iterator[tuple[str, ObjectType, Checksum]]:
    """Gives the objects of a commit's tree with their paths; a directory that stands there twice is gone through once.

    Args:
        repo: where it is.
        commit: which.
        without: directories that are not gone through.
    """
    top = repo.load_commit(commit)
    yield "/", ObjectType.DIRMETA, top.meta
    seen: set[Checksum] = set()
    pending = [("", top.tree, 0)]
    while pending:
        folder, tree, depth = pending.pop()
        check_depth(depth, folder)
        if tree in seen or (ObjectType.DIRTREE, tree) in without:
            continue
        seen.add(tree)
        yield folder or "/", ObjectType.DIRTREE, tree
        loaded = repo.load_dirtree(tree)
        for name, checksum in loaded.files:
            yield f"{folder}/{name}", ObjectType.FILE, checksum
        for name, subtree, meta in reversed(loaded.dirs):
            yield f"{folder}/{name}", ObjectType.DIRMETA, meta
            pending.append((f"{folder}/{name}", subtree, depth + 1))


def _stem(name: str) -> str:
    """Returns the part of a base name before its first dot or number, when that says something."""
    stem = re.split(r"[.\d]", name, maxsplit=1)[0]
    return stem if len(stem) >= 3 and stem != name else ""


def _nearness(path: str, other: str) -> int:
    """Returns how many folders, from the end and from the beginning, two paths share."""
    first, second = path.split("/")[:-1], other.split("/")[:-1]
    ahead = 0
    for one, two in zip(first, second, strict=False):
        if one != two:
            break
        ahead += 1
    behind = 0
    for one, two in zip(reversed(first), reversed(second), strict=False):
        if one != two:
            break
        behind += 1
    return 2 * ahead + behind
