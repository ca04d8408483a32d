"""The root of a stage in the making: a tree in memory over objects of the store, with paths followed as inside.

A build changes trees, not directories: COPY puts checksums of files into a tree, and nothing is written twice. Symbolic
links on the way are followed as in a root of its own, ``..`` at the top included, so nothing leads out.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.image.layers import Flattener
from wherry.store.format.objects import DirMeta, FileHeader
from wherry.store.tree.mutable import TreeBuilder

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_SMALL_FILE_BYTES = 1024 * 1024
_FOLDER_MODE = stat.S_IFDIR | 0o755


class StageTree:
    """One root.

    Args:
        repo: where its objects are.
        tree: dirtree that it begins with; None: an empty one.
        meta: dirmeta of that.
    """

    def __init__(self, repo: Repository, tree: Checksum | None = None, meta: Checksum | None = None) -> None:
        self.repo = repo
        self._builder = TreeBuilder(repo)
        if tree is not None and meta is not None:
            self._builder.overlay_tree(tree, meta)
        self._paths = Flattener(repo=repo, tree=self._builder, note=lambda text: None)

    def write(self) -> tuple[Checksum, Checksum]:
        """Writes its directories; returns dirtree and dirmeta."""
        return self._builder.write()

    # --- looking

    def follow(self, path: str) -> str:
        """Returns where a path really is, every link followed; it need not be there.

        Raises:
            InvalidInput: a file is in the place of a directory, or the links go in circles.
        """
        found = self._paths.follow(path)
        if found is None:
            raise InvalidInput("a file is in the way of a directory", where=f"/{path.strip('/')}")
        return found

    def follow_parent(self, path: str) -> str:
        """Returns the same, but does not follow a link that is the last part."""
        above, _, name = path.strip("/").rpartition("/")
        parent = self.follow(above)
        return f"{parent}/{name}".strip("/")

    def lookup(self, path: str) -> DirMeta | Checksum | None:
        """Returns what is at a real path: a directory's meta, a file's checksum, or None."""
        return self._builder.lookup(path)

    def is_directory(self, path: str) -> bool:
        """Tells whether a directory is at a real path."""
        return isinstance(self._builder.lookup(path), DirMeta)

    def names(self, path: str) -> list[str]:
        """Returns the names in a directory, sorted."""
        return self._builder.listdir(path)

    def walk(self, path: str) -> Iterator[tuple[str, DirMeta | Checksum]]:
        """Gives all below a directory, by paths relative to it; a directory before what is in it."""
        pending = [("", path)]
        while pending:
            relative, real = pending.pop()
            for name in self.names(real):
                below = f"{real}/{name}".lstrip("/")
                told = f"{relative}/{name}".lstrip("/")
                found = self._builder.lookup(below)
                if found is not None:
                    yield told, found
                if isinstance(found, DirMeta):
                    pending.append((told, below))

    def read_small(self, path: str) -> bytes:
        """Returns the content of a small file, links followed; empty where there is none."""
        found = self._builder.lookup(self.follow(path))
        if not isinstance(found, str):
            return b""
        header, content = self.repo.load_file(found)
        if content is None or header.is_symlink:
            return b""
        with content:
            return content.read(MAX_SMALL_FILE_BYTES)

    # --- changing

    def make_directories(self, path: str, *, uid: int = 0, gid: int = 0, mode: int = 0o755) -> str:
        """Makes a directory and those above it that are missing; returns where it really is.

        Raises:
            InvalidInput: a file is in the way.
        """
        real = self.follow(path)
        parts = real.split("/") if real else []
        for count in range(1, len(parts) + 1):
            each = "/".join(parts[:count])
            found = self._builder.lookup(each)
            if isinstance(found, str):
                raise InvalidInput("a file is in the way of a directory", where=f"/{each}")
            if found is None:
                self._builder.mkdir(each, DirMeta(uid=uid, gid=gid, mode=stat.S_IFDIR | mode))
        return real

    def set_directory(self, path: str, meta: DirMeta) -> None:
        """Makes a directory at a real path with this owner and mode, or gives them to the one that is there."""
        self._builder.mkdir(path, meta)

    def remove(self, path: str) -> None:
        """Removes what is at a real path, if anything is."""
        if path and self._builder.lookup(path) is not None:
            self._builder.remove(path)
            self._forget()

    def put(self, path: str, checksum: Checksum) -> None:
        """Puts a file object at a real path.

        Raises:
            InvalidInput: a directory is there.
        """
        if self.is_directory(path):
            raise InvalidInput("a directory is in the way of a file", where=f"/{path}")
        self._builder.add_existing(path, checksum)
        self._forget()

    def write_file(self, path: str, header: FileHeader, content: bytes) -> Checksum:
        """Writes a file to a real path."""
        if self.is_directory(path):
            raise InvalidInput("a directory is in the way of a file", where=f"/{path}")
        return self._builder.add_file(path, header, content)

    def with_header(self, checksum: Checksum, *, uid: int | None, gid: int | None, mode: int | None) -> Checksum:
        """Returns the same file with another owner or mode, written if need be; a link has no mode."""
        header, content = self.repo.load_file(checksum)
        wanted = replace(
            header,
            uid=header.uid if uid is None else uid,
            gid=header.gid if gid is None else gid,
            mode=header.mode if mode is None or header.is_symlink else stat.S_IFMT(header.mode) | mode,
        )
        try:
            if wanted == header:
                return checksum
            with self.repo.transaction() as transaction:
                return transaction.write_file(wanted, content)
        finally:
            if content is not None:
                content.close()

    def overlay_builder(self) -> TreeBuilder:
        """Returns the tree itself, for who lays layers over it."""
        return self._builder

    def _forget(self) -> None:
        self._paths.forget()


def require(tree: StageTree, path: str, *, where: object) -> DirMeta | Checksum:
    """Returns what is at a real path.

    Raises:
        NotFound: nothing is.
    """
    found = tree.lookup(path)
    if found is None:
        raise NotFound(f"no such file or directory: /{path}", where=where)
    return found
