"""The build context: what COPY and ADD may take, written to the store as one tree.

A context is a directory, or a tar archive. What ``.dockerignore`` leaves out is not even read. Everything belongs to
root and keeps its mode; times are not kept, as the store knows none. So the checksum of a file or folder of the
context says what a build makes of it, and the cache asks no more.

In a directory no symbolic link is followed on the way in, and what is no file, link or folder is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.build.stagetree import StageTree
from wherry.image.layers import Flattener
from wherry.store.tree.commit import write_directory
from wherry.store.tree.compression import decompressed
from wherry.store.tree.modifier import Modifier
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, TarEntry, TarReader

if TYPE_CHECKING:
    from wherry.core.progress import Progress
    from wherry.store.repository import Repository
    from wherry.store.tree.compression import Readable


class Excludes(Protocol):
    """What ``.dockerignore`` says."""

    def excludes(self, path: str, /) -> bool:
        """Tells whether a path is left out."""

    def prunes(self, path: str, /) -> bool:
        """Tells whether nothing below a directory can be taken, so that it need not be looked at."""


def read_directory(repo: Repository, path: Path, ignore: Excludes, *, progress: Progress) -> StageTree:
    """Writes a directory to the store, within ``with repo.transaction()``.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is no directory, or has a name in it that cannot be kept.
    """
    if not path.exists():
        raise NotFound("no such build context", where=path)
    if not path.is_dir():
        raise InvalidInput("a build context is a directory, or a tar archive on standard input (-)", where=path)
    modifier = Modifier(
        owner_uid=0, owner_gid=0, no_xattrs=True, skip_special=True, skip=lambda name: ignore.prunes(name.strip("/"))
    )
    tree, meta = write_directory(repo, path, modifier, progress=progress)
    found = StageTree(repo, tree, meta)
    _drop(found, ignore)
    return found


def read_archive(repo: Repository, stream: Readable, *, where: str) -> StageTree:
    """Writes a tar archive, compressed or not, to the store, within ``with repo.transaction()``.

    Args:
        repo: where.
        stream: the archive.
        where: its name, for errors.

    Raises:
        InvalidInput: it is no archive, or a name in it leads out of it.
        IntegrityError: it is cut short.
    """
    builder = TreeBuilder(repo)
    plain = decompressed(stream, where=where)
    Flattener(repo=repo, tree=builder, note=lambda text: None).apply(
        _OfRoot(plain, where=where, limits=DEFAULT_LIMITS), where=where
    )
    return StageTree(repo, *builder.write())


class _OfRoot(TarReader):
    """An archive whose entries are all root's."""

    def __iter__(self) -> Iterator[TarEntry]:
        for entry in super().__iter__():
            yield replace(entry, uid=0, gid=0)


def without_ignored(tree: StageTree, ignore: Excludes) -> StageTree:
    """Returns a tree without what is left out, and without directories that only that was in."""
    found = StageTree(tree.repo, *tree.write())
    _drop(found, ignore)
    return found


def _drop(tree: StageTree, ignore: Excludes) -> None:
    doomed = [path for path, _ in tree.walk("") if ignore.excludes(path)]
    kept = {path for path, _ in tree.walk("") if not ignore.excludes(path)}
    needed = {"/".join(path.split("/")[:count]) for path in kept for count in range(1, path.count("/") + 1)}
    for path in sorted(doomed, reverse=True):
        if path not in needed:
            tree.remove(path)
