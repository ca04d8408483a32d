"""A commit's tree, ready to be mounted: an EROFS image of names, modes and owners over the repository's objects.

Overlayfs takes everything about a file from the image but its bytes, which it finds by the attribute
``trusted.overlay.redirect`` below ``objects/``. So a tree of any size is mounted in the time of a few system calls,
and two containers with equal files share them in the page cache; ``mounting.py`` does that, ``images.py`` keeps images.

An image is made from the commit alone and is, byte for byte, what ``mkcomposefs`` 1.0 writes for that tree. Its
fs-verity digest names the whole tree: commits may carry it as ``ostree.composefs.digest.v0``
(docs/internals/composefs.md).

Refused: images of archive repositories, whose objects are compressed; only the digest is computed there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error, replacing
from wherry.core.errors import IntegrityError, NotFound, Unsupported
from wherry.store.disk.files import OSTREEMETA
from wherry.store.format import objects
from wherry.store.format.objects import DirMeta, Mode, ObjectType, Xattrs, object_name
from wherry.store.mount import overlay_tree, verity
from wherry.store.mount.erofs import Inode, Link, build
from wherry.store.repository import Repository
from wherry.store.tree.walk import check_depth

DIGEST_KEY = "ostree.composefs.digest.v0"
"""In a commit's metadata (``ay``): the fs-verity digest of the image with digests and top folders."""
TOP_FOLDERS = (b"boot", b"etc", b"sysroot", b"usr", b"var")
"""What OSTree adds to the root of an image where it is missing, to mount other file systems on."""

_READ_BYTES = 1024 * 1024


def write_image(
    repo: Repository, commit: Checksum, out: Path, *, digests: bool = False, top_folders: bool = False
) -> bytes:
    """Writes the image of a commit, durably: `out` is whole or as it was.

    Args:
        repo: holds the commit and all its objects; any mode but archive.
        commit: the commit.
        out: the file to make or to replace.
        digests: put the fs-verity digest of every content into the image; all of them are read for that, unless
            the kernel knows it.
        top_folders: add OSTree's folders to the root where they are missing.

    Returns:
        The image's own fs-verity digest.

    Raises:
        NotFound: an object is missing.
        Unsupported: the repository is an archive, or EROFS cannot hold the tree.
        NoSpace: the disk is full.
    """
    if repo.mode is Mode.ARCHIVE:
        raise Unsupported(
            "the objects of an archive repository are compressed and cannot be mounted",
            where=repo.path,
            hint="pull the commit into a bare-user repository (`wherry store pull-local`)",
        )
    found = repo.load_commit(commit)
    data = image_of_tree(repo, found.tree, found.meta, digests=digests, top_folders=top_folders)
    with replacing(out) as file:
        file.write(data)
    return verity.digest_pieces((data,))


def checkout_image(repo: Repository, commit: Checksum, out: Path, *, digests: bool = True) -> bytes:
    """Writes the image that ``ostree checkout --composefs`` writes, checked against the commit's own digest.

    Args:
        repo: holds the commit and all its objects.
        commit: the commit.
        out: the file to make or to replace.
        digests: else, ``--composefs-noverity``, they are left out and nothing is checked.

    Returns:
        The image's fs-verity digest.

    Raises:
        IntegrityError: the commit says another digest; `out` is as it was.
    """
    found = repo.load_commit(commit)
    data = image_of_tree(repo, found.tree, found.meta, digests=digests, top_folders=True)
    digest = verity.digest_pieces((data,))
    expected = expected_digest(repo, commit)
    if digests and expected is not None and digest != expected:
        raise IntegrityError(
            f"Generated composefs image digest ({digest.hex()}) doesn't match expected digest ({expected.hex()})",
            where=commit,
        )
    with replacing(out) as file:
        file.write(data)
    return digest


def digest_of_tree(repo: Repository, tree: Checksum, meta: Checksum) -> bytes:
    """Returns what ``ostree.composefs.digest.v0`` is for a tree, in a repository of any mode.

    Args:
        repo: holds the tree and all its files; they may be of this thread's transaction.
        tree: its dirtree.
        meta: its dirmeta.
    """
    return verity.digest_pieces((image_of_tree(repo, tree, meta, digests=True, top_folders=True),))


def expected_digest(repo: Repository, commit: Checksum) -> bytes | None:
    """Returns the image digest that a commit carries; None when it carries none.

    Raises:
        IntegrityError: it is no SHA-256 digest.
    """
    value = repo.load_commit(commit).metadata.get(DIGEST_KEY)
    raw = getattr(value, "value", value)
    if raw is None:
        return None
    if not isinstance(raw, bytes) or len(raw) != verity.DIGEST_BYTES:
        raise IntegrityError(f"the {DIGEST_KEY} of the commit has the wrong size", where=commit)
    return raw


def image_of_tree(
    repo: Repository, tree: Checksum, meta: Checksum, *, digests: bool = False, top_folders: bool = False
) -> bytearray:
    """Returns the image of a tree that lies in a repository; see `write_image`."""
    root = _Trees(repo, digests=digests).directory(tree, meta, 0)
    if top_folders:
        folder = Inode(mode=stat.S_IFDIR | 0o755)
        children: dict[bytes, Inode | Link] = {**dict.fromkeys(TOP_FOLDERS, folder), **root.children}
        root = Inode(mode=root.mode, uid=root.uid, gid=root.gid, xattrs=root.xattrs, children=children)
    return build(overlay_tree.top(root))


class _Trees:
    """Reads objects, each once."""

    def __init__(self, repo: Repository, *, digests: bool) -> None:
        self._repo = repo
        self._digests = digests
        self._files: dict[Checksum, Inode] = {}
        self._metas: dict[Checksum, DirMeta] = {}
        self._load: Callable[[Checksum], Inode] = self._load_any
        if repo.mode is Mode.BARE_USER and not digests:
            self._load = self._load_bare_user

    def directory(self, tree: Checksum, meta: Checksum, depth: int) -> Inode:
        check_depth(depth, tree)
        entries = self._repo.load_dirtree(tree)
        children: dict[bytes, Inode | Link] = {name.encode(): self._file(checksum) for name, checksum in entries.files}
        for name, subtree, submeta in entries.dirs:
            children[name.encode()] = self.directory(subtree, submeta, depth + 1)
        found = self._metas.get(meta)
        if found is None:
            found = self._metas[meta] = self._repo.load_dirmeta(meta)
        xattrs = overlay_tree.escape(found.xattrs)
        return Inode(mode=found.mode, uid=found.uid, gid=found.gid, xattrs=xattrs, children=children)

    def _file(self, checksum: Checksum) -> Inode:
        inode = self._files.get(checksum)
        if inode is None:
            try:
                inode = self._load(checksum)
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
        return _regular(checksum, mode, uid, gid, size, xattrs, b"")

    def _load_any(self, checksum: Checksum) -> Inode:
        header, content = self._repo.load_file(checksum)
        if content is None:
            return Inode(
                mode=header.mode,
                uid=header.uid,
                gid=header.gid,
                target=header.symlink_target.encode(),
                xattrs=overlay_tree.escape(header.xattrs),
            )
        with content:
            size, digest = self._measure(content)
        return _regular(checksum, header.mode, header.uid, header.gid, size, header.xattrs, digest)

    def _measure(self, content: BinaryIO) -> tuple[int, bytes]:
        """Returns size and, when wanted, digest of a file's content; by the kernel's word where it checks it."""
        from wherry.linux import fsverity

        if self._repo.mode is Mode.ARCHIVE:
            digester = verity.Digester()
            size = 0
            while piece := content.read(_READ_BYTES):
                size += len(piece)
                if self._digests:
                    digester.update(piece)
            return size, digester.digest() if self._digests else b""
        fd = content.fileno()
        size = os.fstat(fd).st_size
        if not size or not self._digests:
            return size, b""
        return size, fsverity.measure(fd) or verity.digest_file(content)


def _regular(checksum: Checksum, mode: int, uid: int, gid: int, size: int, xattrs: Xattrs, digest: bytes) -> Inode:
    if size:
        name = object_name(ObjectType.FILE, checksum, Mode.BARE_USER)
        xattrs = overlay_tree.with_redirect(xattrs, name.encode(), digest)
    else:
        xattrs = overlay_tree.escape(xattrs)
    return Inode(mode=mode, uid=uid, gid=gid, size=size, xattrs=xattrs)
