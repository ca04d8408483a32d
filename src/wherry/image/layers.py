"""Layers of images, laid over one another into one tree of the store.

What comes here was made by strangers. A name cannot leave the tree: ``..`` in one is refused, an absolute one is
taken as below the root, and symbolic links on the way to a file are followed as the kernel would in a root of its
own, ``..`` at the top included. Whiteouts hide only what lower layers brought, wherever in the archive they stand.
Device nodes and fifos are left out with a note, since the store has no place for them; the engine makes ``/dev``.

Source: OCI image-spec 1.1, layer.md ("Applying Changesets", "Whiteouts").
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.store.format.objects import DirMeta, FileHeader, Xattrs
from wherry.store.repository import Repository
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import EntryType, TarEntry, TarReader

MAX_LINK_FOLLOWS = 40
"""As the kernel's own (MAXSYMLINKS)."""

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_AUFS = ".wh..wh."
_SMALL_BYTES = 1024 * 1024
_KEPT_XATTRS = (b"user.", b"security.", b"trusted.", b"system.posix_acl_")
_LEFT_OUT_XATTRS = (b"security.selinux", b"trusted.overlay.")
"""They belong to the machine that made the archive, not to the file."""


@dataclass(slots=True, kw_only=True)
class Flattener:
    """Lays layers into a tree, the lowest first. Made for one image."""

    repo: Repository
    tree: TreeBuilder
    note: Callable[[str], None]
    """Told about what is left out."""
    sizes: dict[Checksum, int] = field(default_factory=dict)
    """The size of every regular file that was written."""
    links: dict[Checksum, str] = field(default_factory=dict)
    """The target of every symbolic link."""
    _parents: dict[str, str] = field(default_factory=dict)
    """Directories as they are written in archives, to where they really are."""
    _added: set[str] = field(default_factory=set)
    """Paths that the current layer brought, and the directories above them."""

    def apply(self, reader: TarReader, *, where: object) -> None:
        """Lays one layer over what is there.

        Args:
            reader: the layer.
            where: its name, for errors.

        Raises:
            InvalidInput: a name or a link that no layer may have.
            IntegrityError: the archive is damaged.
        """
        self._added = set()
        for entry in reader:
            try:
                self._apply(entry, reader)
            except InvalidInput as error:
                raise InvalidInput(f"{error} ({entry.type.value} {entry.name[:200]!r})", where=where) from error

    def _apply(self, entry: TarEntry, reader: TarReader) -> None:
        parts = _clean(entry.name)
        if not parts:
            if entry.type is not EntryType.DIRECTORY:
                raise InvalidInput("the root of an image is a directory")
            self.tree.mkdir("", _dir_meta(entry))
            return
        name = parts.pop()
        if name.startswith(_WHITEOUT):
            parent = self._find(parts)
            if parent is not None:  # else the layer has put a file in the directory's place: umoci writes such
                self._hide_named(parent, name)
            return
        parent = self._resolve(parts)
        path = f"{parent}/{name}" if parent else name
        if entry.type is EntryType.HARD_LINK:
            self._hard_link(path, parent, entry)
        elif entry.type is EntryType.DIRECTORY:
            self._make_room(path, parent, for_directory=True)
            self.tree.mkdir(path, _dir_meta(entry))
        elif entry.type is EntryType.FILE:
            self._make_room(path, parent)
            header = _header(entry, stat.S_IFREG | entry.mode)
            content = reader.read_all() if entry.size <= _SMALL_BYTES else cast(BinaryIO, reader)
            self.sizes[self.tree.add_file(path, header, content)] = entry.size
        elif entry.type is EntryType.SYMLINK:
            self._make_room(path, parent)
            header = _header(entry, stat.S_IFLNK | 0o777, target=entry.target)
            self.links[self.tree.add_file(path, header)] = entry.target
        else:
            if self.tree.lookup(path) is not None:
                self._remove(path)
            self.note(f"left out a {entry.type.value}: /{path}")
            return
        self._mark(path)

    def _hard_link(self, path: str, parent: str, entry: TarEntry) -> None:
        parts = _clean(entry.target)
        if not parts:
            raise InvalidInput("a hard link to a directory")
        name = parts.pop()
        above = self._resolve(parts)
        target = f"{above}/{name}" if above else name
        if target == path:
            raise InvalidInput("a hard link to itself")
        if not isinstance(self.tree.lookup(target), str):
            raise InvalidInput(f"a hard link to what is no file of the image: {entry.target[:200]!r}")
        self._make_room(path, parent)
        if self.tree.lookup(target) is None:
            raise InvalidInput("a hard link to a file below itself")
        self.tree.hardlink(path, target)

    def _make_room(self, path: str, parent: str, *, for_directory: bool = False) -> None:
        """Takes away what is in the way of a new file, and makes the directories above it."""
        found = self.tree.lookup(path)
        if found is None:
            if parent and self.tree.lookup(parent) is None:
                self.tree.mkdir(parent, parents=True)
        elif isinstance(found, DirMeta) != for_directory:
            self._remove(path)

    def _mark(self, path: str) -> None:
        while path and path not in self._added:
            self._added.add(path)
            path = path.rpartition("/")[0]

    # --- whiteouts

    def _hide_named(self, parent: str, name: str) -> None:
        if not isinstance(self.tree.lookup(parent), DirMeta):
            return
        prefix = f"{parent}/" if parent else ""
        if name == _OPAQUE:
            for below in self.tree.listdir(parent):
                self._hide(prefix + below)
        elif name.startswith(_AUFS):
            self.note(f"left out a file of AUFS: /{prefix}{name}")
        else:
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise InvalidInput("a whiteout of no name")
            if self.tree.lookup(prefix + hidden) is not None:
                self._hide(prefix + hidden)

    def _hide(self, path: str) -> None:
        """Removes what lower layers brought to `path`."""
        if path not in self._added:
            self._remove(path)
        elif isinstance(self.tree.lookup(path), DirMeta):
            for name in self.tree.listdir(path):
                self._hide(f"{path}/{name}")

    def _remove(self, path: str) -> None:
        self.tree.remove(path)
        self._parents.clear()

    # --- where a path really is

    def _resolve(self, parts: list[str]) -> str:
        """Returns where a directory is, once the links on the way to it are followed; it need not be there yet.

        Raises:
            InvalidInput: there is a file on the way, or a loop.
        """
        found = self._find(parts)
        if found is None:
            raise InvalidInput(f"a file is in the way of a directory: {'/'.join(parts)[:200]!r}")
        return found

    def _find(self, parts: list[str]) -> str | None:
        """Does the same, but returns None where a file is on the way."""
        written = "/".join(parts)
        found = self._parents.get(written)
        if found is None:
            found = self.follow(written)
            if found is None or isinstance(self.tree.lookup(found), str):
                return None
            self._parents[written] = found
        return found

    def follow(self, path: str) -> str | None:
        """Returns `path` with every symbolic link in it followed, the last part's too, within the tree.

        Returns:
            The real path, which need not be there; None when a file is in the place of a directory.

        Raises:
            InvalidInput: the links go in circles.
        """
        pending = path.split("/")[::-1]
        real: list[str] = []
        follows = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del real[-1:]
                continue
            real.append(part)
            found = self.tree.lookup("/".join(real))
            if not isinstance(found, str):
                continue
            target = self._link_target(found)
            if not target:
                return None if any(pending) else "/".join(real)
            follows += 1
            if follows > MAX_LINK_FOLLOWS:
                raise InvalidInput(f"symbolic links go in circles: {path[:200]!r}")
            real = [] if target.startswith("/") else real[:-1]
            pending.extend(target.split("/")[::-1])
        return "/".join(real)

    def forget(self) -> None:
        """Has paths be followed anew, after the tree was changed by others."""
        self._parents.clear()

    def _link_target(self, checksum: Checksum) -> str:
        """Returns the target of a symbolic link, "" for a regular file."""
        if checksum in self.sizes:
            return ""
        if checksum not in self.links:
            self.links[checksum] = self.repo.load_file_header(checksum).symlink_target
        return self.links[checksum]


def _clean(name: str) -> list[str]:
    """Returns the parts of a name in an archive.

    Raises:
        InvalidInput: it leaves the image.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput("a name that leaves the image")
    return parts


def _xattrs(entry: TarEntry) -> Xattrs:
    if not entry.xattrs:
        return ()
    return tuple(item for item in entry.xattrs if is_kept_xattr(item[0]))


def is_kept_xattr(name: bytes) -> bool:
    """Tells whether an extended attribute belongs to the file, and not to the machine that it was on."""
    return name.startswith(_KEPT_XATTRS) and not name.startswith(_LEFT_OUT_XATTRS)


def _header(entry: TarEntry, mode: int, *, target: str = "") -> FileHeader:
    return FileHeader(uid=entry.uid, gid=entry.gid, mode=mode, symlink_target=target, xattrs=_xattrs(entry))


def _dir_meta(entry: TarEntry) -> DirMeta:
    return DirMeta(uid=entry.uid, gid=entry.gid, mode=stat.S_IFDIR | entry.mode, xattrs=_xattrs(entry))
