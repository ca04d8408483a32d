"""How owners, modes and attributes are changed on their way into a commit, and what is left out of it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wherry.store.format.objects import DirMeta, FileHeader, Mode, Xattrs

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_WRITE_BITS = 0o222
_EXECUTE_BITS = 0o111
_CANONICAL_BITS = 0o755
OVERFLOW_ID = 65534
"""Who owns what no id of a user namespace owns: ``/proc/sys/kernel/overflowuid``, in practice always this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modifier:
    """How what is found on disk is changed on its way into a commit. Paths are below the root, like ``/usr/bin/sh``."""

    canonical_permissions: bool = False
    """Owner 0:0; of the mode only 0755 stays, and no extended attributes, as with ``ostree``."""
    owner_uid: int | None = None
    owner_gid: int | None = None
    unknown_to_root: bool = False
    """Give root what is nobody's (`OVERFLOW_ID`): in a user namespace, what no id of it owns."""
    ro_executables: bool = False
    """Take the write bits from regular files that somebody may execute."""
    no_xattrs: bool = False
    keeps_xattr: Callable[[bytes], bool] | None = None
    """Called with each attribute's name; False leaves it out."""
    skip: Callable[[str], bool] | None = None
    """Called with each path; True leaves it out."""
    skip_special: bool = False
    """Leave out devices, pipes and sockets instead of refusing them."""
    statoverride: Mapping[str, tuple[bool, int]] | None = None
    """Permission bits by path: whether they replace those that are there, or are added."""

    @property
    def changes_nothing(self) -> bool:
        """Whether everything stays as it is."""
        return self == _PLAIN

    @property
    def leaves_xattrs_out(self) -> bool:
        """Whether no extended attributes are committed."""
        return self.no_xattrs or self.canonical_permissions

    def skips(self, path: str) -> bool:
        """Tells whether a path is left out."""
        return self.skip is not None and self.skip(path)

    def file(self, header: FileHeader, path: str) -> FileHeader:
        """Returns the header of a file or symbolic link as it is committed."""
        uid, gid, mode = self._stat(header.uid, header.gid, header.mode, path)
        xattrs = self._xattrs(header.xattrs)
        if (uid, gid, mode, xattrs) == (header.uid, header.gid, header.mode, header.xattrs):
            return header
        return replace(header, uid=uid, gid=gid, mode=mode, xattrs=xattrs)

    def directory(self, meta: DirMeta, path: str) -> DirMeta:
        """Returns a directory's owner, mode and attributes as they are committed."""
        uid, gid, mode = self._stat(meta.uid, meta.gid, meta.mode, path)
        return DirMeta(uid=uid, gid=gid, mode=mode, xattrs=self._xattrs(meta.xattrs))

    def _xattrs(self, found: Xattrs) -> Xattrs:
        if self.leaves_xattrs_out:
            return ()
        if self.keeps_xattr is None or not found:
            return found
        return tuple(item for item in found if self.keeps_xattr(item[0]))

    def _stat(self, uid: int, gid: int, mode: int, path: str) -> tuple[int, int, int]:
        if self.owner_uid is not None:
            uid = self.owner_uid
        if self.owner_gid is not None:
            gid = self.owner_gid
        if self.unknown_to_root:
            uid, gid = uid if uid != OVERFLOW_ID else 0, gid if gid != OVERFLOW_ID else 0
        if self.ro_executables and stat.S_ISREG(mode) and mode & _EXECUTE_BITS:
            mode &= ~_WRITE_BITS
        if self.statoverride and path in self.statoverride:
            replaces, bits = self.statoverride[path]
            mode = (stat.S_IFMT(mode) if replaces else mode) | bits
        if self.canonical_permissions:
            uid = gid = 0
            if not stat.S_ISLNK(mode):
                mode &= stat.S_IFMT(mode) | _CANONICAL_BITS
        return uid, gid, mode


_PLAIN = Modifier()


def for_repo(modifier: Modifier | None, repo: Repository) -> Modifier:
    """Returns a modifier with what the repository itself demands."""
    modifier = modifier or _PLAIN
    if repo.mode is Mode.BARE_USER_ONLY:
        modifier = replace(modifier, canonical_permissions=True)
    if repo.disable_xattrs:
        modifier = replace(modifier, no_xattrs=True)
    return modifier
