"""Going through the tree of a commit, and finding one path in it. Symbolic links are never followed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.store.disk.objectset import ObjectName, ObjectSet
from wherry.store.format.objects import DirMeta, FileHeader, ObjectType, Xattrs, object_name

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_TREE_DEPTH = 250
"""Directories within directories; deeper trees are refused."""
MAX_LINK_FOLLOWS = 40
"""As the kernel's own (MAXSYMLINKS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a commit's tree."""

    path: str
    """Below the root, like ``usr/bin/sh``; the root itself is ``""``."""
    mode: int
    """The whole ``st_mode``, type bits included."""
    uid: int
    gid: int
    xattrs: Xattrs = ()
    target: str = ""
    """Of a symbolic link."""
    checksum: Checksum | None = None
    """Of the file object; None for a directory."""

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def entries(repo: Repository, commit: Checksum) -> Iterator[Entry]:
    """Gives every path of a commit's tree, in the order of ``walk``."""
    for path, found in walk(repo, commit):
        if isinstance(found, DirMeta):
            yield Entry(path=path, mode=found.mode, uid=found.uid, gid=found.gid, xattrs=found.xattrs)
            continue
        checksum, header = found
        yield Entry(
            path=path,
            mode=header.mode,
            uid=header.uid,
            gid=header.gid,
            xattrs=header.xattrs,
            target=header.symlink_target,
            checksum=checksum,
        )


def split_path(path: str) -> tuple[str, ...]:
    """Returns the parts of a path below the root of a tree; ``/``, ``.`` and the empty path are the root.

    Raises:
        InvalidInput: it has ``..`` or a NUL in it.
    """
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in path:
        raise InvalidInput(f"not a path below the root of a tree: {path!r}")
    if len(parts) > MAX_TREE_DEPTH:
        raise InvalidInput(f"a path of more than {MAX_TREE_DEPTH} parts", where=path[:80])
    return parts


def walk(repo: Repository, commit: Checksum) -> Iterator[tuple[str, DirMeta | tuple[Checksum, FileHeader]]]:
    """Gives every path of a commit's tree with what is there, directories before their entries, in order of names.

    The root comes first, as ``""``; paths are like ``usr/bin/sh``.
    """
    found = repo.load_commit(commit)
    metas: dict[Checksum, DirMeta] = {}
    yield "", repo.load_dirmeta(found.meta)
    yield from _walk(repo, found.tree, "", metas, 0)


def _walk(
    repo: Repository, tree: Checksum, prefix: str, metas: dict[Checksum, DirMeta], depth: int
) -> Iterator[tuple[str, DirMeta | tuple[Checksum, FileHeader]]]:
    check_depth(depth, prefix)
    entries = repo.load_dirtree(tree)
    for name, checksum in entries.files:
        yield prefix + name, (checksum, repo.load_file_header(checksum))
    for name, subtree, meta in entries.dirs:
        if meta not in metas:
            metas[meta] = repo.load_dirmeta(meta)
        yield prefix + name, metas[meta]
        yield from _walk(repo, subtree, f"{prefix}{name}/", metas, depth + 1)


def check_depth(depth: int, where: object) -> None:
    """Refuses trees that are too deep.

    Raises:
        InvalidInput: `depth` is over the limit.
    """
    if depth > MAX_TREE_DEPTH:
        raise InvalidInput(f"directories nested deeper than {MAX_TREE_DEPTH}", where=str(where)[:80])


def reachable(repo: Repository, commit: Checksum, *, parents: int = 0) -> ObjectSet:
    """Returns every object that a commit is made of, itself and its detached metadata included.

    Args:
        repo: where it lies.
        commit: its checksum.
        parents: how many of its parents count too; -1 for all that are there.

    Raises:
        NotFound: a commit, dirtree or dirmeta is not there (files are not looked for).
    """
    found = ObjectSet()
    current: Checksum | None = commit
    while current is not None and found.add_new(ObjectType.COMMIT, current):
        loaded = repo.load_commit(current)
        if repo.has(ObjectType.COMMITMETA, current):
            found.add((ObjectType.COMMITMETA, current))
        add_tree(repo, loaded.tree, loaded.meta, found)
        current = loaded.parent
        if parents == 0 or (current is not None and not repo.has(ObjectType.COMMIT, current)):
            break
        parents -= 1
    return found


def add_tree(repo: Repository, tree: Checksum, meta: Checksum, found: ObjectSet, *, partial: bool = False) -> None:
    """Adds all that a directory is made of to `found`; what is in `found` already is not gone through again.

    Raises:
        NotFound: a dirtree is not there, and it is not said to be `partial`.
    """
    files, trees, metas = map(found.digests, (ObjectType.FILE, ObjectType.DIRTREE, ObjectType.DIRMETA))
    metas.add(bytes.fromhex(meta))
    pending = [bytes.fromhex(tree)]
    while pending:
        digest = pending.pop()
        current = Checksum(digest.hex())
        if digest in trees or (partial and not repo.has(ObjectType.DIRTREE, current)):
            continue
        trees.add(digest)
        below = repo.load_digests(current)
        files.update(below[0])
        metas.update(below[2])
        pending.extend(below[1])


def gaps(repo: Repository, commit: Checksum) -> Iterator[str]:
    """Gives the name of every object that a commit is made of and that is not there."""
    for kind, checksum in missing_objects(repo, commit):
        yield object_name(kind, checksum, repo.mode)


def missing_objects(repo: Repository, commit: Checksum, seen: ObjectSet | None = None) -> Iterator[ObjectName]:
    """Gives every object that a commit is made of and that is not there.

    Args:
        repo: where it should lie.
        commit: its checksum.
        seen: what need not be looked at; what was looked at is added. For several commits in a row.
    """
    seen = ObjectSet() if seen is None else seen
    if not repo.has(ObjectType.COMMIT, commit):
        yield ObjectType.COMMIT, commit
        return
    loaded = repo.load_commit(commit)
    if seen.add_new(ObjectType.DIRMETA, loaded.meta) and not repo.has(ObjectType.DIRMETA, loaded.meta):
        yield ObjectType.DIRMETA, loaded.meta
    pending = [loaded.tree]
    while pending:
        current = pending.pop()
        if not seen.add_new(ObjectType.DIRTREE, current):
            continue
        if not repo.has(ObjectType.DIRTREE, current):
            yield ObjectType.DIRTREE, current
            continue
        entries = repo.load_dirtree(current)
        for _, file in entries.files:
            if seen.add_new(ObjectType.FILE, file) and not repo.has(ObjectType.FILE, file):
                yield ObjectType.FILE, file
        for _, subtree, meta in entries.dirs:
            if seen.add_new(ObjectType.DIRMETA, meta) and not repo.has(ObjectType.DIRMETA, meta):
                yield ObjectType.DIRMETA, meta
            pending.append(subtree)


def lookup(repo: Repository, commit: Checksum, path: str) -> Checksum | tuple[Checksum, Checksum]:
    """Finds a path in a commit's tree.

    Returns:
        The checksum of a file or symbolic link, or dirtree and dirmeta of a directory.

    Raises:
        NotFound: there is nothing of that name.
    """
    loaded = repo.load_commit(commit)
    tree, meta = loaded.tree, loaded.meta
    parts = split_path(path)
    for index, part in enumerate(parts):
        entries = repo.load_dirtree(tree)
        below = next(((subtree, submeta) for name, subtree, submeta in entries.dirs if name == part), None)
        if below is not None:
            tree, meta = below
            continue
        file = next((checksum for name, checksum in entries.files if name == part), None)
        if file is not None and index == len(parts) - 1:
            return file
        what = "No such file or directory" if file is None else "Not a directory, but above the path"
        raise NotFound(f"{what}: /{'/'.join(parts)}", where=f"commit {commit}")
    return tree, meta


def follow(repo: Repository, commit: Checksum, path: str) -> Checksum | tuple[Checksum, Checksum]:
    """Finds a path in a commit's tree, through symbolic links, which lead nowhere out of the tree.

    Returns:
        As ``lookup``, but never a symbolic link.

    Raises:
        NotFound: there is nothing of that name, or a link leads to nothing.
    """
    pending = path.split("/")[::-1]
    real: list[str] = []
    found: Checksum | tuple[Checksum, Checksum] = lookup(repo, commit, "/")
    follows = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del real[-1:]
            found = lookup(repo, commit, "/".join(real))
            continue
        found = lookup(repo, commit, "/".join([*real, part]))
        target = repo.load_file_header(found).symlink_target if isinstance(found, str) else ""
        if not target:
            real.append(part)
            continue
        follows += 1
        if follows > MAX_LINK_FOLLOWS:
            raise NotFound("symbolic links go in circles", where=path)
        real = [] if target.startswith("/") else real
        pending.extend(target.split("/")[::-1])
        found = lookup(repo, commit, "/".join(real))
    return found


def read_path(repo: Repository, commit: Checksum, path: str, *, max_bytes: int) -> bytes:
    """Returns the content of one file of a commit.

    Args:
        repo: where it lies.
        commit: the commit.
        path: like ``etc/hostname``.
        max_bytes: the limit.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is no regular file, or longer than `max_bytes`.
    """
    found = lookup(repo, commit, path)
    if isinstance(found, tuple):
        raise InvalidInput("a directory, not a file", where=path)
    _, content = repo.load_file(found)
    if content is None:
        raise InvalidInput("a symbolic link, not a file", where=path)
    with content:
        data = content.read(max_bytes + 1)
        while len(data) <= max_bytes and (more := content.read(max_bytes + 1 - len(data))):
            data += more
    if len(data) > max_bytes:
        raise InvalidInput(f"longer than {max_bytes} bytes", where=path)
    return data
