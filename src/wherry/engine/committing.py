"""``commit``, ``diff`` and ``export``: what a container has become, as an image, a list and an archive.

A commit takes the image's tree from the store and does to it what `changes` found, so that its cost is that of the
changes; where a container has no image, or layers of its own, its whole root is read. It reads the root as it was
frozen (unless that is turned off), never through a link, and files of the same content become the same objects.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import Conflict, NotFound, Unsupported
from wherry.engine.changes import DELETED, ENGINE_PATHS, Change, DirectoryLower, Lower, NeedsMerged, find_changes
from wherry.engine.events import emit
from wherry.engine.idranges import AS_SEEN
from wherry.engine.view import open_root, owners_of

if TYPE_CHECKING:
    from wherry.engine.idranges import Owners
    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths
    from wherry.image.catalog import ImageRecord
    from wherry.image.config import ImageConfig
    from wherry.image.layertar import Tree
    from wherry.store.format.objects import Xattrs
    from wherry.store.repository import Repository
    from wherry.store.tree.mutable import TreeBuilder

MAX_COMMENT_CHARS = 4096
_OVERLAY = "user.overlay."
"""Marks of an overlay in a user namespace."""
_KEPT = ("user.", "security.capability", "system.posix_acl_")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Note = Callable[[str], None]


def _quiet(text: str) -> None:
    return None


class _TreeLower:
    """A tree of the store as what lies below."""

    def __init__(self, tree: TreeBuilder) -> None:
        self._tree = tree

    def kind(self, path: str) -> str | None:
        found = self._tree.lookup(path)
        return None if found is None else "file" if isinstance(found, str) else "dir"

    def names(self, path: str) -> list[str]:
        return self._tree.listdir(path)


def diff(paths: Paths, repo: Repository | None, info: ContainerInfo) -> list[Change]:
    """Returns what a container has changed against its image.

    Raises:
        NotFound: the store with its image is not there.
    """
    with _lower(repo, info) as lower:
        return _changes(paths, repo, info, lower, None)


def _changes(
    paths: Paths, repo: Repository | None, info: ContainerInfo, lower: Lower, merged_fd: int | None
) -> list[Change]:
    upper_fd = os.open(Path(paths.container(info.id)) / "upper", _DIRECTORY)
    made = (*ENGINE_PATHS, *(mount.target.rstrip("/") for mount in info.config.mounts))
    try:
        try:
            return find_changes(upper_fd, merged_fd, lower, engine_made=made)
        except NeedsMerged:
            with open_root(paths, repo, info, with_mounts=False) as root_fd:
                return find_changes(upper_fd, root_fd, lower, engine_made=made)
    finally:
        os.close(upper_fd)


@contextmanager
def _lower(repo: Repository | None, info: ContainerInfo) -> Iterator[Lower]:
    config = info.config
    if config.commit:
        if repo is None:
            raise NotFound(f"the store with image {config.image} is not there")
        yield _TreeLower(_tree_of(repo, config.commit))
        return
    if config.spec.rootfs_direct or not os.path.isdir(config.spec.rootfs):
        raise Unsupported("changes are told of images and directories that are not written to themselves")
    lower = DirectoryLower(*config.spec.layers, config.spec.rootfs)
    try:
        yield lower
    finally:
        lower.close()


def _tree_of(repo: Repository, commit: str) -> TreeBuilder:
    from wherry.store.tree.mutable import TreeBuilder

    tree = TreeBuilder(repo)
    tree.overlay_commit(Checksum(commit))
    return tree


def export(paths: Paths, repo: Repository | None, info: ContainerInfo, out: BinaryIO, *, note: Note = _quiet) -> None:
    """Writes a container's root, without what is mounted in it, as a tar archive."""
    from wherry.engine.tarring import write_root

    with open_root(paths, repo, info, with_mounts=False) as root_fd:
        write_root(root_fd, out, owners=owners_of(info), note=note)
    emit(paths, "export", actor_id=info.id, name=info.name, attributes={**info.labels, "image": info.image})


def commit(
    paths: Paths,
    repo: Repository,
    info: ContainerInfo,
    *,
    name: str | None = None,
    changes: Sequence[str] = (),
    author: str = "",
    message: str = "",
    pause: bool = True,
    note: Note = _quiet,
) -> Digest:
    """Makes an image of a container.

    Args:
        paths: of the engine root.
        repo: where the image goes, and where the container's own comes from.
        info: the container.
        name: the reference that the image gets; None: one that is made of its digest.
        changes: ``CMD ["x"]``, ``ENV A=b`` ..., done to the config.
        author: who made it.
        message: one line about it.
        pause: freeze the container meanwhile, so that the image is of one moment.
        note: is told what was left out.

    Returns:
        The image's ID.

    Raises:
        InvalidInput: the name or a change is malformed.
        Conflict: the message is too long.
    """
    from wherry.engine.pausing import frozen
    from wherry.image.catalog import Images
    from wherry.image.layering import size_on
    from wherry.image.layertar import Tree
    from wherry.image.recording import record_image, tree_digest
    from wherry.image.reference import Reference

    if len(message) > MAX_COMMENT_CHARS or len(author) > MAX_COMMENT_CHARS:
        raise Conflict(f"a message has at most {MAX_COMMENT_CHARS} characters")
    reference = Reference.parse(name) if name else None
    now_s = int(time.time())
    document = _image_config(repo, info, changes, author=author, message=message, now_s=now_s)
    with repo.transaction():
        with frozen(paths, info, wanted=pause):
            tree, meta = write_changes(paths, repo, info, note)
        base = Images(repo).record_of(Checksum(info.config.commit)) if info.config.commit else None
        config = _with_layers(repo, base, document, Tree(tree, meta))
        digest = tree_digest(config, tree, meta)
        if reference is None:
            reference = Reference.parse(f"localhost/commit:{digest[7:19]}")
        record_image(
            repo,
            reference,
            tree=tree,
            meta=meta,
            size_bytes=size_on(repo, base, tree),
            config=config,
            digest=digest,
            body=message,
            timestamp_s=now_s,
        )
    attributes = {**info.labels, "image": info.image, "comment": message, "imageID": config.digest}
    emit(paths, "commit", actor_id=info.id, name=info.name, attributes=attributes)
    return config.digest


def write_changes(paths: Paths, repo: Repository, info: ContainerInfo, note: Note) -> tuple[Checksum, Checksum]:
    """Writes what a container's root has become, within ``with repo.transaction()``; returns dirtree and dirmeta."""
    with open_root(paths, repo, info, with_mounts=False) as root_fd:
        if info.config.commit and not info.config.spec.layers:
            tree = _tree_of(repo, info.config.commit)
            found = _changes(paths, repo, info, _TreeLower(_tree_of(repo, info.config.commit)), root_fd)
            _Applier(repo, tree, root_fd, owners_of(info), note).apply(found)
            return tree.write()
        if owners_of(info) != AS_SEEN:
            raise Conflict("its files have other owners while it runs", where=info.name, hint="stop it first")
        from wherry.store.tree.commit import write_directory
        from wherry.store.tree.modifier import Modifier

        hidden = frozenset(path for path in ENGINE_PATHS if path.startswith("/etc/"))
        modifier = Modifier(skip_special=True, skip=lambda path: path in hidden and _is_empty(root_fd, path))
        fd = os.open(f"/proc/self/fd/{root_fd}", _DIRECTORY)
        try:
            return write_directory(repo, Path(f"/proc/self/fd/{fd}/."), modifier)
        finally:
            os.close(fd)


def _is_empty(root_fd: int, path: str) -> bool:
    try:
        return os.stat(path.lstrip("/"), dir_fd=root_fd, follow_symlinks=False).st_size == 0
    except OSError:
        return False


class _Applier:
    """Does to a tree of the store what a container did to its root."""

    def __init__(self, repo: Repository, tree: TreeBuilder, root_fd: int, owners: Owners, note: Note) -> None:
        self._repo, self._tree, self._root_fd, self._note = repo, tree, root_fd, note
        self._owners = owners

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            path = change.path.lstrip("/")
            if change.kind == DELETED:
                if self._tree.exists(path):
                    self._tree.remove(path)
            else:
                self._put(path)

    def _put(self, path: str) -> None:
        from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

        above, _, name = path.rpartition("/")
        try:
            parent = openat2(self._root_fd, above or ".", os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError:
            return  # it went while it was being read (--pause=false)
        try:
            place = os.open(name, _PLACE, dir_fd=parent)
        except FileNotFoundError:
            return
        finally:
            os.close(parent)
        try:
            self._take(path, place, os.fstat(place))
        finally:
            os.close(place)

    def _take(self, path: str, place: int, status: os.stat_result) -> None:
        from wherry.store.format.objects import DirMeta, FileHeader

        kind = stat.S_IFMT(status.st_mode)
        uid, gid = self._owners.of(status)
        there = self._tree.lookup(path)
        if kind == stat.S_IFDIR:
            if isinstance(there, str):
                self._tree.remove(path)
            meta = DirMeta(uid=uid, gid=gid, mode=status.st_mode, xattrs=_attributes(place))
            self._tree.mkdir(path, meta, parents=True)
            return
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            self._note(f"left out what is no file: /{path}")
            if there is not None:
                self._tree.remove(path)
            return
        if there is not None and not isinstance(there, str):
            self._tree.remove(path)
        if kind == stat.S_IFLNK:
            target = os.readlink("", dir_fd=place)
            mode = stat.S_IFLNK | 0o777
            self._tree.add_file(path, FileHeader(uid=uid, gid=gid, mode=mode, symlink_target=target, xattrs=()))
            return
        header = FileHeader(uid=uid, gid=gid, mode=status.st_mode, symlink_target="", xattrs=_attributes(place))
        with open(f"/proc/self/fd/{place}", "rb") as file:
            self._tree.add_file(path, header, file)


def _attributes(place: int) -> Xattrs:
    path = f"/proc/self/fd/{place}"
    names = sorted(name for name in os.listxattr(path) if name.startswith(_KEPT) and not name.startswith(_OVERLAY))
    return tuple((name.encode(), os.getxattr(path, name)) for name in names)


def _image_config(
    repo: Repository, info: ContainerInfo, changes: Sequence[str], *, author: str, message: str, now_s: int
) -> dict[str, Any]:
    """Returns the config of the new image: the old one's, what the container was asked for, and the changes."""
    from wherry.image.catalog import Images
    from wherry.image.changes import apply_changes
    from wherry.image.platforms import Platform

    config, spec = info.config, info.config.spec
    if config.commit:
        document = Images(repo).record_of(Checksum(config.commit)).config.document()
    else:
        machine = Platform.of_this_machine()
        document = {"architecture": machine.architecture, "os": machine.os, "config": {}}
    inner: dict[str, Any] = dict(document.get("config") or {})
    hidden = {f"HOSTNAME={config.hostname}"} | ({"TERM=xterm"} if spec.tty else set())
    inner["Env"] = [item for item in config.env if item not in hidden]
    if spec.entrypoint is not None:
        inner["Entrypoint"], inner["Cmd"] = list(spec.entrypoint) or None, None
    if spec.args is not None:
        inner["Cmd"] = list(spec.args)
    inner["User"] = config.user
    inner["WorkingDir"] = config.working_dir if config.working_dir != "/" else inner.get("WorkingDir", "")
    inner["Labels"] = dict(config.labels)
    if spec.ports:
        ports: dict[str, Any] = {f"{port.container_port}/{port.protocol}": {} for port in spec.ports}
        inner["ExposedPorts"] = {**(inner.get("ExposedPorts") or {}), **ports}
    document["config"] = apply_changes(inner, changes) if changes else inner
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
    document["created"] = created
    if author:
        document["author"] = author
    entry = {"created": created, "created_by": " ".join(config.argv), "comment": message, "author": author}
    document["history"] = [{key: value for key, value in entry.items() if value}]
    return document


def _with_layers(repo: Repository, image: ImageRecord | None, document: dict[str, Any], made: Tree) -> ImageConfig:
    """Returns the config of an image that has the layers below the container, and one of what it has changed."""
    from wherry.image.config import make_config
    from wherry.image.layering import Below, below, stack

    base = below(repo, image) if image is not None else Below()
    same = bool(base.trees) and base.trees[-1] == made
    own = [{**step, "empty_layer": True} if same else step for step in document["history"]]
    document["history"] = [*base.history, *own]
    stack(repo, document, base, [] if same else [made])
    return make_config(document, where="--change")
