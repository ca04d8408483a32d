"""A commit's tree, ready to be mounted: an EROFS image of names, modes and owners over the repository's objects.

::

    mount -t erofs IMAGE E                       (the file itself: Linux 6.12 and newer need no loop device)
    mount -t overlay -o lowerdir=E::REPO/objects,metacopy=on,redirect_dir=on ... ROOT

Overlayfs takes everything about a file from the image but its bytes, which it finds by the attribute
``trusted.overlay.redirect`` below ``objects/``. That folder is a data-only layer (two colons; Linux 6.5): nothing of
it can be seen by name. So a tree of any size is mounted in the time of two system calls, and two containers with
equal files share them in the page cache. An image is made from the commit alone and is the same bytes each time;
it is no digest of the tree, and not byte for byte what ``mkcomposefs`` writes (docs/internals/composefs.md).

Refused: archive repositories, whose objects are compressed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error, replacing
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.store import objects
from wherry.store.erofs import Inode, build
from wherry.store.files import OSTREEMETA
from wherry.store.objects import DirMeta, Mode, ObjectType, Xattrs, object_name
from wherry.store.repository import Repository

MAX_DEPTH = 1000

_OVERLAY = b"trusted.overlay."
_ESCAPED = b"trusted.overlay.overlay."
_METACOPY = (b"trusted.overlay.metacopy", b"")
_REDIRECT = b"trusted.overlay.redirect"


def write_image(repo: Repository, commit: Checksum, out: Path) -> None:
    """Writes the metadata image of a commit, durably: `out` is whole or as it was.

    Args:
        repo: holds the commit and all its objects; any mode but archive.
        commit: the commit.
        out: the file to make or to replace.

    Raises:
        NotFound: an object is missing.
        Unsupported: the repository is an archive, or EROFS has no place for an attribute.
        NoSpace: the disk is full.
    """
    data = build(read_tree(repo, commit))
    with replacing(out) as file:
        file.write(data)


def read_tree(repo: Repository, commit: Checksum) -> Inode:
    """Returns the tree of a commit as it goes into an image: file contents are redirects into ``objects/``.

    Raises:
        NotFound: an object is missing.
        Unsupported: the repository is an archive.
    """
    if repo.mode is Mode.ARCHIVE:
        raise Unsupported(
            "the objects of an archive repository are compressed and cannot be mounted",
            where=repo.path,
            hint="pull the commit into a bare-user repository",
        )
    found = repo.load_commit(commit)
    return _Trees(repo).directory(found.tree, found.meta, 0)


class _Trees:
    """Reads objects, each once."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._files: dict[Checksum, Inode] = {}
        self._metas: dict[Checksum, DirMeta] = {}

    def directory(self, tree: Checksum, meta: Checksum, depth: int) -> Inode:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"directories nested deeper than {MAX_DEPTH}", where=tree)
        entries = self._repo.load_dirtree(tree)
        children = {name.encode(): self._file(checksum) for name, checksum in entries.files}
        for name, subtree, submeta in entries.dirs:
            children[name.encode()] = self.directory(subtree, submeta, depth + 1)
        found = self._metas.get(meta)
        if found is None:
            found = self._metas[meta] = self._repo.load_dirmeta(meta)
        xattrs = _escape(found.xattrs)
        return Inode(mode=found.mode, uid=found.uid, gid=found.gid, xattrs=xattrs, children=children)

    def _file(self, checksum: Checksum) -> Inode:
        inode = self._files.get(checksum)
        if inode is None:
            load = self._load_bare_user if self._repo.mode is Mode.BARE_USER else self._load_any
            try:
                inode = load(checksum)
            except FileNotFoundError:
                raise NotFound("a file of the commit is not in the repository", where=checksum) from None
            self._files[checksum] = inode
        return inode

    def _load_bare_user(self, checksum: Checksum) -> Inode:
        """Reads a header by two system calls, without opening the object: most of the time goes here."""
        path = f"{self._repo.objects_dir}/{checksum[:2]}/{checksum[2:]}.file"
        size = os.stat(path).st_size
        try:
            raw = os.getxattr(path, OSTREEMETA)
        except OSError as error:
            raise map_os_error(error, f"a file object without {OSTREEMETA}", where=path) from error
        uid, gid, mode, xattrs = objects.parse_file_meta(raw, where=path)
        if not stat.S_ISREG(mode):
            return self._load_any(checksum)
        return _regular(checksum, mode, uid, gid, size, xattrs)

    def _load_any(self, checksum: Checksum) -> Inode:
        header, content = self._repo.load_file(checksum)
        if content is None:
            return Inode(
                mode=header.mode,
                uid=header.uid,
                gid=header.gid,
                target=header.symlink_target.encode(),
                xattrs=_escape(header.xattrs),
            )
        with content:
            size = os.fstat(content.fileno()).st_size
        return _regular(checksum, header.mode, header.uid, header.gid, size, header.xattrs)


def _regular(checksum: Checksum, mode: int, uid: int, gid: int, size: int, xattrs: Xattrs) -> Inode:
    if size:
        name = object_name(ObjectType.FILE, checksum, Mode.BARE_USER)
        xattrs = (*_escape(xattrs), _METACOPY, (_REDIRECT, b"/" + name.encode()))
    else:
        xattrs = _escape(xattrs)
    return Inode(mode=mode, uid=uid, gid=gid, size=size, xattrs=xattrs)


def _escape(xattrs: Xattrs) -> Xattrs:
    """Returns attributes so that overlayfs shows them rather than obeys them (Linux 6.7, "nesting of overlays")."""
    if not any(name.startswith(_OVERLAY) for name, _ in xattrs):
        return xattrs
    return tuple(
        (_ESCAPED + name.removeprefix(_OVERLAY) if name.startswith(_OVERLAY) else name, value) for name, value in xattrs
    )


def mount_image(image: Path, target: Path) -> None:
    """Mounts an image file at `target`, read-only and without a loop device.

    Raises:
        Unsupported: this kernel has no EROFS, or cannot mount a file.
        NotPermitted: root is needed.
        InvalidInput: it is no image.
    """
    from wherry.linux.mount import MS_NODEV, MS_RDONLY, mount

    try:
        mount(image, target, "erofs", MS_RDONLY | MS_NODEV)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENOTBLK):
            raise Unsupported(
                "this kernel cannot mount an EROFS image from a file",
                where=image,
                hint="Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE can; a checkout works everywhere",
            ) from error
        if error.errno == errno.EINVAL:
            raise InvalidInput("not an EROFS image", where=image) from error
        raise map_os_error(error, "cannot mount the image", where=image) from error


def lowerdir_options(image_mount: Path, objects: Path) -> str:
    """Returns the options of overlayfs for a mounted image over its repository's objects.

    With ``upperdir=`` and ``workdir=`` added the mount can be written to. Add ``ro`` as a flag, not as an option.

    Args:
        image_mount: where the image is mounted.
        objects: the repository's ``objects`` folder.
    """
    return f"lowerdir={escape_path(image_mount)}::{escape_path(objects)},metacopy=on,redirect_dir=on"


def escape_path(path: Path) -> str:
    """Returns a path as it stands in overlayfs' options, where colon, comma and backslash mean something."""
    return "".join("\\" + char if char in ":,\\" else char for char in str(path))
