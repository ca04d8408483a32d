"""A tree of files as overlayfs is to see it in an image: composefs' conventions over plain EROFS inodes.

==============================  ==================================================================
of the tree                     in the image
==============================  ==================================================================
content elsewhere               ``trusted.overlay.metacopy`` (empty, or with the fs-verity digest of
                                the content) and ``.redirect``, its path below the data layer
``trusted.overlay.X``           ``trusted.overlay.overlay.X``: shown, not obeyed (Linux 6.7)
a whiteout (device 0:0)         an empty file with two attributes, and marks on its directory
the top                         ``trusted.overlay.opaque=y``; whiteouts ``00`` to ``ff`` for names that
                                are free, which hide the folders of objects on kernels without
                                data-only layers (before 6.5)
==============================  ==================================================================

Source: composefs 1.0.8, its format versions 0 and 1 (1 as soon as the tree has a whiteout); the kernel's
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace

from wherry.store.mount.erofs import Inode, Link
from wherry.store.mount.erofs_xattrs import Xattr

OVERLAY = b"trusted.overlay."
ESCAPED = b"trusted.overlay.overlay."
USER = b"user.overlay."
METACOPY = OVERLAY + b"metacopy"
REDIRECT = OVERLAY + b"redirect"
OPAQUE = OVERLAY + b"opaque"

_VERITY_SHA256 = 1
_SELINUX = b"security.selinux"
_EMPTY_METACOPY = (METACOPY, b"")
_IS_WHITEOUT = ((ESCAPED + b"whiteout", b""), (USER + b"whiteout", b""))
_HAS_WHITEOUTS = (
    (ESCAPED + b"whiteouts", b""),
    (USER + b"whiteouts", b""),
    (ESCAPED + b"opaque", b"x"),
    (USER + b"opaque", b"x"),
)
_FOLDERS_OF_OBJECTS = tuple(b"%02x" % number for number in range(256))


def escape(xattrs: tuple[Xattr, ...]) -> tuple[Xattr, ...]:
    """Returns attributes so that overlayfs shows them rather than obeys them, sorted."""
    if any(name.startswith(OVERLAY) for name, _ in xattrs):
        xattrs = tuple(
            (ESCAPED + name.removeprefix(OVERLAY) if name.startswith(OVERLAY) else name, value)
            for name, value in xattrs
        )
    return tuple(sorted(xattrs))


def with_redirect(xattrs: tuple[Xattr, ...], path: bytes, digest: bytes = b"") -> tuple[Xattr, ...]:
    """Returns the attributes of a regular file whose content is elsewhere.

    Args:
        xattrs: its own.
        path: of the content, below the data layer; empty for a file at the same path there.
        digest: the fs-verity digest of the content (SHA-256), or empty.
    """
    metacopy = _EMPTY_METACOPY
    if digest:
        metacopy = (METACOPY, bytes((0, 4 + len(digest), 0, _VERITY_SHA256)) + digest)
    added = (metacopy, (REDIRECT, b"/" + path)) if path else (metacopy,)
    return tuple(sorted((*escape(xattrs), *added))) if xattrs else added


def is_whiteout(mode: int, rdev: int) -> bool:
    """Tells whether overlayfs would take a file for the mark that one is deleted."""
    return stat.S_ISCHR(mode) and rdev == 0


def whiteout(plain: Inode) -> Inode:
    """Returns what stands for a whiteout of the tree, so that it is seen as one."""
    mode = stat.S_IFREG | stat.S_IMODE(plain.mode)
    return replace(plain, mode=mode, size=0, xattrs=_with(escape(plain.xattrs), _IS_WHITEOUT))


def directory(plain: Inode, *, has_whiteouts: bool = False) -> Inode:
    """Returns a directory of the tree; `has_whiteouts` tells that one of its children was a whiteout."""
    xattrs = escape(plain.xattrs)
    return replace(plain, xattrs=_with(xattrs, _HAS_WHITEOUTS) if has_whiteouts else xattrs)


def top(root: Inode) -> Inode:
    """Returns the top of a tree, made ready: opaque, and with the whiteouts of the folders of objects.

    Args:
        root: as `directory` gave it.
    """
    label = tuple(pair for pair in root.xattrs if pair[0] == _SELINUX)
    hidden = Inode(
        mode=stat.S_IFCHR | 0o644,
        uid=root.uid,
        gid=root.gid,
        mtime_s=root.mtime_s,
        mtime_ns=root.mtime_ns,
        xattrs=label,
    )
    children: Mapping[bytes, Inode | Link] = dict.fromkeys(_FOLDERS_OF_OBJECTS, hidden) | dict(root.children)
    return replace(root, children=children, xattrs=_with(root.xattrs, ((OPAQUE, b"y"),)))


def _with(xattrs: tuple[Xattr, ...], added: Iterable[Xattr]) -> tuple[Xattr, ...]:
    return tuple(sorted((dict(xattrs) | dict(added)).items()))
