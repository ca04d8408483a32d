"""A directory tree in the making: changed in memory, its files already objects, written out as dirtrees at the end.

Paths are relative to the root (``usr/bin/sh``) and cannot leave it; symbolic links in them are not followed. What
is taken over from a commit is read from the repository only where it is changed or looked at.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.store.format import objects
from wherry.store.format.objects import DirMeta, DirTree, FileHeader, ObjectType
from wherry.store.tree.walk import split_path

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_DEFAULT_LINK = FileHeader(uid=0, gid=0, mode=stat.S_IFLNK | 0o777)


class Node:
    """One directory in memory. While `source` is set it is that dirtree, not read yet, and holds no entries."""

    __slots__ = ("dirs", "files", "meta", "source")

    def __init__(self, meta: DirMeta | Checksum | None, source: Checksum | None = None) -> None:
        self.meta = meta
        """None: not known; what is laid over it keeps its own."""
        self.source = source
        self.files: dict[str, Checksum] = {}
        self.dirs: dict[str, Node] = {}

    def opened(self, repo: Repository) -> Node:
        """Reads the dirtree that it stands for, and returns itself."""
        if self.source is not None:
            tree = repo.load_dirtree(self.source)
            self.source = None
            self.files = dict(tree.files)
            self.dirs = {name: Node(meta, subtree) for name, subtree, meta in tree.dirs}
        return self


class ObjectWriter(Protocol):
    """A transaction, or what stands in its place to compute checksums only."""

    def write_file(self, header: FileHeader, source: bytes | BinaryIO | None = None, /) -> Checksum:
        """Takes a file; returns its checksum."""

    def write_metadata(self, kind: ObjectType, data: bytes, /) -> Checksum:
        """Takes a dirtree or dirmeta; returns its checksum."""


def write_node(
    writer: ObjectWriter, node: Node, metas: dict[DirMeta, Checksum] | None = None
) -> tuple[Checksum, Checksum]:
    """Writes a directory in memory, and all below it.

    Returns:
        Dirtree and dirmeta.

    Raises:
        InvalidInput: a directory has no meta; archives may lack an entry for one.
    """
    metas = {} if metas is None else metas
    if node.meta is None:
        raise InvalidInput("Can't commit an empty tree", hint="the root directory is not in what was given")
    if isinstance(node.meta, DirMeta):
        meta = metas.get(node.meta)
        if meta is None:
            meta = writer.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(node.meta))
            metas[node.meta] = meta
    else:
        meta = node.meta
    if node.source is not None:
        return node.source, meta
    below = {name: write_node(writer, child, metas) for name, child in node.dirs.items()}
    tree = DirTree(
        files=tuple(sorted(node.files.items())),
        dirs=tuple((name, *below[name]) for name in sorted(below)),
    )
    return writer.write_metadata(ObjectType.DIRTREE, objects.serialize_dirtree(tree)), meta


class TreeBuilder:
    """A tree in the making.

    Use it within ``with repo.transaction():``, else each file is a transaction of its own.

    Args:
        repo: where its objects are written.
        root: owner and mode of the root directory.
        strict: whether a directory laid over a file, or the other way round, is a ``Conflict``; else the upper wins.
        writer: takes the files; None: the repository's transaction.
    """

    def __init__(
        self,
        repo: Repository,
        root: DirMeta | None = None,
        *,
        strict: bool = False,
        writer: ObjectWriter | None = None,
    ) -> None:
        self._repo = repo
        self._writer = writer
        self._root = Node(root or DirMeta())
        self._strict = strict

    # --- looking

    def exists(self, path: str) -> bool:
        """Tells whether there is anything at `path`."""
        return self.lookup(path) is not None

    def lookup(self, path: str) -> DirMeta | Checksum | None:
        """Returns a directory's meta, a file's checksum, or None when nothing is there."""
        parts = split_path(path)
        if not parts:
            return self._meta(self._root)
        parent = self._find(parts[:-1])
        if parent is None:
            return None
        parent.opened(self._repo)
        if parts[-1] in parent.dirs:
            return self._meta(parent.dirs[parts[-1]])
        return parent.files.get(parts[-1])

    def listdir(self, path: str) -> list[str]:
        """Returns the names in a directory, sorted.

        Raises:
            NotFound: there is no such directory.
        """
        node = self._find(split_path(path))
        if node is None:
            raise NotFound("no such directory in the tree", where=path)
        node.opened(self._repo)
        return sorted([*node.files, *node.dirs])

    # --- changing

    def mkdir(self, path: str, meta: DirMeta | None = None, *, parents: bool = False) -> None:
        """Makes a directory, or changes the meta of the one that is there.

        Args:
            path: where.
            meta: owner, mode, attributes; None: root's, 0755, and no change when it is there.
            parents: whether missing directories above it are made too (root's, 0755).

        Raises:
            NotFound: the directory above is not there (without `parents`).
            Conflict: a file is in the way.
        """
        parts = split_path(path)
        if not parts:
            self._root.meta = meta or self._root.meta
            return
        if parents:
            for count in range(1, len(parts)):
                self.mkdir("/".join(parts[:count]))
        parent, name = self._parent(parts)
        if name in parent.files:
            raise Conflict("a file is in the way of a directory", where=path)
        node = parent.dirs.get(name)
        if node is None:
            parent.dirs[name] = Node(meta or DirMeta())
        elif meta is not None:
            node.meta = meta

    def add_file(self, path: str, header: FileHeader, content: BinaryIO | bytes | None = None) -> Checksum:
        """Writes a regular file, or a symbolic link, and puts it at `path`, in the place of a file that is there.

        Args:
            path: where.
            header: owner, mode (with its type bits), attributes, and a link's target.
            content: the bytes, or a file to read them from; None for a link.

        Returns:
            The checksum of the file object.

        Raises:
            NotFound: the directory is not there.
            Conflict: a directory is in the way.
        """
        place = self._place(path)
        if header.is_symlink:
            check_target(header.symlink_target, path)
        data = b"" if content is None else content
        if self._writer is not None:
            return self._put(place, self._writer.write_file(header, data))
        with self._repo.transaction() as transaction:
            return self._put(place, transaction.write_file(header, data))

    def symlink(self, path: str, target: str, header: FileHeader | None = None) -> Checksum:
        """Puts a symbolic link at `path`; owner and attributes are those of `header`, or root's.

        Raises:
            NotFound: the directory is not there.
            Conflict: a directory is in the way.
        """
        mode = stat.S_IFLNK | 0o777
        return self.add_file(path, replace(header or _DEFAULT_LINK, mode=mode, symlink_target=target))

    def add_existing(self, path: str, checksum: Checksum) -> None:
        """Puts a file object that is in the repository at `path`.

        Raises:
            NotFound: there is no such object, or no such directory.
            Conflict: a directory is in the way.
        """
        if not self._repo.has(ObjectType.FILE, checksum):
            raise NotFound("no such file object in the repository", where=checksum)
        self._put(self._place(path), checksum)

    def hardlink(self, path: str, target_path: str) -> None:
        """Puts the file that is at `target_path` at `path` too.

        Raises:
            NotFound: there is no such file, or no such directory.
            Conflict: a directory is in the way.
        """
        found = self.lookup(target_path)
        if not isinstance(found, str):
            raise NotFound("a hard link to a file that is not in the tree", where=f"{path} -> {target_path}")
        self._put(self._place(path), found)

    def remove(self, path: str) -> None:
        """Removes a file, or a directory with all in it.

        Raises:
            NotFound: nothing is there.
        """
        parts = split_path(path)
        if not parts:
            raise InvalidInput("the root of a tree cannot be removed")
        parent, name = self._parent(parts)
        if parent.files.pop(name, None) is None and parent.dirs.pop(name, None) is None:
            raise NotFound("no such file in the tree", where=path)

    def overlay_commit(self, commit: Checksum) -> None:
        """Lays the tree of a commit over this one: its files and metas win, what it lacks stays.

        Raises:
            NotFound: the commit or one of its dirtrees is not there.
        """
        loaded = self._repo.load_commit(commit)
        self.overlay_tree(loaded.tree, loaded.meta)

    def overlay_tree(self, tree: Checksum, meta: Checksum, path: str = "") -> None:
        """Lays a dirtree over the directory at `path`, which is made when missing."""
        parts = split_path(path)
        if parts:
            self.mkdir(path)
        node = self._find(parts)
        if node is None:
            raise NotFound("no such directory in the tree", where=path)
        self._overlay(node, Node(meta, tree))

    def overlay_node(self, upper: Node, path: str = "") -> None:
        """Lays a directory in memory over the one at `path`, which must be there, and takes it over.

        Raises:
            NotFound: there is no such directory.
            Conflict: a file and a directory are in each other's way, and the builder is strict.
        """
        node = self._find(split_path(path))
        if node is None:
            raise NotFound("no such directory in the tree", where=path)
        self._overlay(node, upper)

    def _overlay(self, node: Node, upper: Node) -> None:
        if upper.meta is not None:
            node.meta = upper.meta
        if node.source is None and not node.files and not node.dirs:
            node.source, node.files, node.dirs = upper.source, upper.files, upper.dirs
            return
        if node.source is not None and node.source == upper.source:
            return
        node.opened(self._repo)
        upper.opened(self._repo)
        for name, checksum in upper.files.items():
            self._clear(node.dirs, name, "Can't replace directory with file")
            node.files[name] = checksum
        for name, child in upper.dirs.items():
            self._clear(node.files, name, "Can't replace file with directory")
            below = node.dirs.get(name)
            if below is None:
                node.dirs[name] = child
            else:
                self._overlay(below, child)

    def _clear(self, entries: dict[str, Any], name: str, complaint: str) -> None:
        if entries.pop(name, None) is not None and self._strict:
            raise Conflict(f"{complaint}: {name}", hint="leave one of them out with --skip-list")

    # --- writing

    @property
    def root(self) -> Node:
        """The root directory, for ``write_node``."""
        return self._root

    def write(self) -> tuple[Checksum, Checksum]:
        """Writes all directories.

        Returns:
            Dirtree and dirmeta of the root.
        """
        with self._repo.transaction() as transaction:
            return write_node(transaction, self._root)

    # --- finding

    def _meta(self, node: Node) -> DirMeta:
        if node.meta is None:
            return DirMeta()
        if not isinstance(node.meta, DirMeta):
            node.meta = self._repo.load_dirmeta(node.meta)
        return node.meta

    def _find(self, parts: tuple[str, ...]) -> Node | None:
        node: Node | None = self._root
        for part in parts:
            if node is None:
                return None
            node = node.opened(self._repo).dirs.get(part)
        return node

    def _parent(self, parts: tuple[str, ...]) -> tuple[Node, str]:
        node = self._find(parts[:-1])
        if node is None:
            raise NotFound("no such directory in the tree", where="/".join(parts[:-1]))
        return node.opened(self._repo), objects.check_name(parts[-1])

    def _place(self, path: str) -> tuple[Node, str]:
        parts = split_path(path)
        if not parts:
            raise Conflict("a directory is in the way of a file", where="/")
        node, name = self._parent(parts)
        if name in node.dirs:
            raise Conflict("a directory is in the way of a file", where=path)
        return node, name

    def _put(self, place: tuple[Node, str], checksum: Checksum) -> Checksum:
        node, name = place
        node.files[name] = checksum
        return checksum


def check_target(target: str, where: object) -> None:
    """Refuses targets of symbolic links that cannot be stored.

    Raises:
        InvalidInput: it is empty, has a NUL in it, or is not UTF-8.
    """
    try:
        target.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            f"a symbolic link whose target is not UTF-8 cannot be stored: {target!r}", where=where
        ) from None
    if not target or "\0" in target:
        raise InvalidInput(f"not a target of a symbolic link: {target!r}", where=where)
