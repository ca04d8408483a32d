"""Making commits: from a tree that is written already, from a directory on disk, from another commit, changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store import refs
from wherry.store.format import objects
from wherry.store.format.objects import Commit, DirMeta, ObjectType
from wherry.store.tree.directory import Consumed, read_directory
from wherry.store.tree.modifier import Modifier, for_repo
from wherry.store.tree.mutable import Node, ObjectWriter, write_node
from wherry.store.tree.shortcuts import shortcuts
from wherry.store.tree.walk import check_depth

if TYPE_CHECKING:
    from wherry.store.repository import Repository

REF_BINDING = "ostree.ref-binding"


def commit_tree(
    repo: Repository,
    tree: Checksum,
    meta: Checksum,
    *,
    timestamp_s: int,
    subject: str = "",
    body: str = "",
    parent: Checksum | None = None,
    metadata: Mapping[str, Any] | None = None,
    ref: Ref | None = None,
    bind_ref: bool = True,
) -> Checksum:
    """Writes a commit and, when it is durable, moves a ref to it.

    Args:
        repo: where.
        tree: dirtree of the root.
        meta: dirmeta of the root.
        timestamp_s: seconds since 1970.
        subject: one line.
        body: the rest.
        parent: the commit before it.
        metadata: plain values or Variants (see ``variant.from_plain``), written in this order.
        ref: the ref to move.
        bind_ref: whether the commit says which ref it was made for (``ostree.ref-binding``).

    Returns:
        Its checksum; the same inputs give the same one.
    """
    values = dict(metadata or {})
    if bind_ref and ref is not None:
        values.setdefault(REF_BINDING, [ref])
    commit = Commit(
        tree=tree, meta=meta, timestamp_s=timestamp_s, subject=subject, body=body, parent=parent, metadata=values
    )
    if ref is not None:
        refs.parse_ref(ref)
    with repo.transaction() as transaction:
        checksum = transaction.write_metadata(ObjectType.COMMIT, objects.serialize_commit(commit))
        reach("store.commit.written")
        if ref is not None:
            transaction.set_ref(ref, checksum)
    return checksum


def commit_directory(
    repo: Repository,
    path: Path,
    *,
    timestamp_s: int,
    ref: Ref | None = None,
    subject: str = "",
    body: str = "",
    parent: Checksum | None = None,
    metadata: Mapping[str, Any] | None = None,
    bind_ref: bool = True,
    canonical_permissions: bool = False,
    owner_uid: int | None = None,
    owner_gid: int | None = None,
    no_xattrs: bool = False,
    skip: Callable[[str], bool] | None = None,
    skip_special: bool = False,
    link_speedup: bool = False,
    consume: bool = False,
    progress: Progress = QUIET,
) -> Checksum:
    """Commits a directory as it lies on disk.

    Args:
        repo: where.
        path: the directory that becomes the root.
        timestamp_s: seconds since 1970.
        ref: the ref to move.
        subject: one line.
        body: the rest.
        parent: the commit before it.
        metadata: see ``commit_tree``.
        bind_ref: see ``commit_tree``.
        canonical_permissions: see ``Modifier``; always so in a bare-user-only repository.
        owner_uid: owner of everything.
        owner_gid: group of everything.
        no_xattrs: leave extended attributes out.
        skip: see ``Modifier``.
        skip_special: see ``Modifier``.
        link_speedup: do not read files that are hard links to objects, as a checkout makes them.
        consume: remove the directory, after the commit is on the disk; files become objects without a copy where
            the mode of the repository allows.
        progress: is told how many files are done.

    Returns:
        The commit's checksum.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
        NoSpace: the disk is full, or would be; nothing stays.
    """
    modifier = Modifier(
        canonical_permissions=canonical_permissions,
        owner_uid=owner_uid,
        owner_gid=owner_gid,
        no_xattrs=no_xattrs,
        skip=skip,
        skip_special=skip_special,
    )
    consumed = Consumed(path) if consume else None
    with repo.transaction() as transaction:
        node = read_directory(
            transaction,
            path,
            for_repo(modifier, repo),
            shortcuts=shortcuts(repo, transaction, link_speedup=link_speedup, adopt=consume),
            consumed=consumed,
            progress=progress,
        )
        tree, meta = write_node(transaction, node)
        commit = commit_tree(
            repo,
            tree,
            meta,
            timestamp_s=timestamp_s,
            subject=subject,
            body=body,
            parent=parent,
            metadata=metadata,
            ref=ref,
            bind_ref=bind_ref,
        )
    if consumed is not None:
        reach("store.commit.consuming")
        consumed.remove()
    return commit


def write_directory(
    repo: Repository, path: Path, modifier: Modifier | None = None, *, progress: Progress = QUIET
) -> tuple[Checksum, Checksum]:
    """Writes all files and directories below `path` as objects.

    Returns:
        Dirtree and dirmeta of `path`.

    Raises:
        InvalidInput: something in it cannot be committed; names it.
    """
    with repo.transaction() as transaction:
        return hash_directory(transaction, path, for_repo(modifier, repo), progress=progress)


def hash_directory(
    writer: ObjectWriter, path: Path, modifier: Modifier, *, progress: Progress = QUIET
) -> tuple[Checksum, Checksum]:
    """Hands all files and directories below `path` to `writer`; see ``write_directory``."""
    return write_node(writer, read_directory(writer, path, modifier, progress=progress))


def read_commit(repo: Repository, commit: Checksum, modifier: Modifier) -> Node:
    """Returns the tree of a commit, changed by a modifier; files that change are written anew.

    Raises:
        NotFound: the commit lacks an object.
    """
    loaded = repo.load_commit(commit)
    if modifier.changes_nothing:
        return Node(loaded.meta, loaded.tree)
    with repo.transaction() as transaction:
        return _Rewriter(repo, transaction, modifier).read(loaded.tree, loaded.meta, "/", 0)


class _Rewriter:
    def __init__(self, repo: Repository, writer: ObjectWriter, modifier: Modifier) -> None:
        self._repo = repo
        self._writer = writer
        self._modifier = modifier
        self._metas: dict[Checksum, DirMeta] = {}

    def read(self, tree: Checksum, meta: Checksum, path: str, depth: int) -> Node:
        """Returns a directory of the commit; `path` is its own, ending in a slash."""
        check_depth(depth, path)
        if meta not in self._metas:
            self._metas[meta] = self._repo.load_dirmeta(meta)
        node = Node(self._modifier.directory(self._metas[meta], path.rstrip("/") or "/"))
        entries = self._repo.load_dirtree(tree)
        for name, checksum in entries.files:
            if not self._modifier.skips(path + name):
                node.files[name] = self._file(checksum, path + name)
        for name, subtree, submeta in entries.dirs:
            if not self._modifier.skips(path + name):
                node.dirs[name] = self.read(subtree, submeta, f"{path}{name}/", depth + 1)
        return node

    def _file(self, checksum: Checksum, path: str) -> Checksum:
        header, content = self._repo.load_file(checksum)
        try:
            wanted = self._modifier.file(header, path)
            return checksum if wanted is header else self._writer.write_file(wanted, content)
        finally:
            if content is not None:
                content.close()
