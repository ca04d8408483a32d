"""Laying a commit out as a directory: by hard links to the objects where that is right, by copies elsewhere.

Hard links are made from a bare repository, and from bare-user and bare-user-only ones in user mode, since only then
owner, mode and attributes of the object are those of the file; in user mode from an archive through
``uncompressed-objects-cache``, if that is asked for. Empty files are always copied, as in OSTree: one inode has room
for so many links only.

All is done relative to open directories. A symbolic link in the destination that stands in a directory's place is
followed within the destination only (``/lib`` to ``usr/lib``), in a file's place never. The time of everything is 0, so
that equal commits give equal trees.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, Unsupported
from wherry.store.format.objects import DirMeta, Mode
from wherry.store.tree.walk import check_depth, lookup

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BAREUSERONLY_BITS = 0o775
OPAQUE_WHITEOUT = ".wh..wh..opq"


class Union(enum.StrEnum):
    """What happens to what is there already; ``ostree checkout``'s options."""

    NONE = "none"
    """The destination must not be there."""
    FILES = "union"
    """Files are overwritten, directories kept."""
    ADD = "union-add"
    """Files that are there stay."""
    IDENTICAL = "union-identical"
    """A file that is there must be the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutStats:
    """What a checkout did."""

    links: int
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How it is laid out; see ``checkout``."""

    user_mode: bool
    union: Union
    force_copy: bool
    require_hardlinks: bool
    whiteouts: bool
    passthrough_whiteouts: bool
    bareuseronly_dirs: bool
    skip: Callable[[str], bool] | None
    cache: bool


def checkout(
    repo: Repository,
    commit: Checksum,
    dest: Path,
    *,
    user_mode: bool = False,
    subpath: str = "/",
    union: Union = Union.NONE,
    force_copy: bool = False,
    require_hardlinks: bool = False,
    whiteouts: bool = False,
    passthrough_whiteouts: bool = False,
    bareuseronly_dirs: bool = False,
    skip: Callable[[str], bool] | None = None,
    cache: bool = False,
    durable: bool = False,
) -> CheckoutStats:
    """Lays out a commit.

    Args:
        repo: where it lies.
        commit: its checksum.
        dest: the directory to make.
        user_mode: owners and attributes are not set, set-id bits neither; needs no root.
        subpath: the file or directory of the commit to lay out.
        union: what happens to what is there already.
        force_copy: no hard links: files may be changed afterwards.
        require_hardlinks: a file that cannot be linked is an error, but for those that never are: empty ones, and
            symbolic links of a bare-user repository.
        whiteouts: a file ``.wh.NAME`` removes NAME, ``.wh..wh..opq`` all that was in the directory (OCI image-spec).
        passthrough_whiteouts: a file ``.ostree-wh.NAME`` becomes the character device 0:0 NAME, overlayfs' whiteout.
        bareuseronly_dirs: of the modes of directories only 0775 is taken.
        skip: called with each path below the destination, like ``/usr/bin/sh``; True leaves it out.
        cache: in user mode from an archive, keep files unpacked in the repository and link to those.
        durable: whether it is on the disk when this returns.

    Returns:
        How many files were linked and copied.

    Raises:
        Conflict: something is in the way.
        NotFound: the commit lacks an object, or `subpath`.
        NoSpace: the disk is full; what was laid out stays.
    """
    from wherry.store.tree.placing import Placer

    options = Options(
        user_mode=user_mode or repo.mode is Mode.BARE_USER_ONLY,
        union=union,
        force_copy=force_copy,
        require_hardlinks=require_hardlinks,
        whiteouts=whiteouts,
        passthrough_whiteouts=passthrough_whiteouts,
        bareuseronly_dirs=bareuseronly_dirs or repo.mode is Mode.BARE_USER_ONLY,
        skip=skip,
        cache=cache,
    )
    found = lookup(repo, commit, subpath)
    try:
        with Placer(repo, options) as placer:
            worker = _Checkout(repo, options, placer)
            if isinstance(found, tuple):
                worker.root(dest, *found)
            else:
                worker.single(dest, Path(subpath).name, found)
        if durable:
            from wherry.linux.syncfs import syncfs

            syncfs(dest)
    except OSError as error:
        raise map_os_error(error, "cannot check out", where=error.filename or dest) from error
    return CheckoutStats(links=placer.links, copies=placer.copies)


class _Checkout:
    """Makes the directories."""

    def __init__(self, repo: Repository, options: Options, placer: Placer) -> None:
        self._repo = repo
        self._options = options
        self._placer = placer
        self._metas: dict[Checksum, DirMeta] = {}
        self._root_fd = -1
        self._base = ""

    def root(self, dest: Path, tree: Checksum, meta: Checksum) -> None:
        """Lays out the top directory."""
        self._base = str(dest)
        if self._skips("/"):
            return
        name = dest.name or "."
        parent = os.open(dest.parent if dest.name else dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._directory(parent, name, tree, meta, 0, "")
        finally:
            os.close(parent)

    def single(self, dest: Path, name: str, checksum: Checksum) -> None:
        """Lays out one file in a directory, which may be there."""
        self._base = str(dest)
        try:
            os.mkdir(dest, 0o700)  # as OSTree makes it
        except FileExistsError:
            pass
        fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check_device(fd)
            if not self._skips(f"/{name}"):
                self._placer.place(fd, name, checksum, f"{dest}/{name}")
        finally:
            os.close(fd)

    def _directory(self, parent: int, name: str, tree: Checksum, meta: Checksum, depth: int, path: str) -> None:
        """Lays out a directory; `path` is its own below the destination, without a slash at the end."""
        check_depth(depth, path)
        entries = self._repo.load_dirtree(tree)
        if self._options.whiteouts:
            opaque = any(file == OPAQUE_WHITEOUT for file, _ in entries.files)
            self._make_room(parent, name, opaque=opaque)
        made = self._make(parent, name, path)
        fd = self._open(parent, name, path, made=made)
        try:
            if not depth:
                self._root_fd = fd
                self._check_device(fd)
            for entry, checksum in entries.files:
                full = f"{path}/{entry}"
                if not self._skips(full):
                    self._placer.place(fd, entry, checksum, self._base + full)
            for entry, subtree, submeta in entries.dirs:
                full = f"{path}/{entry}"
                if not self._skips(full):
                    self._directory(fd, entry, subtree, submeta, depth + 1, full)
            if made:
                self._finish(fd, meta)
        finally:
            os.close(fd)

    def _make_room(self, parent: int, name: str, *, opaque: bool) -> None:
        """Removes what a layer of whiteouts hides: all of an opaque directory, a file in a directory's place."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if opaque or (self._options.union is Union.FILES and not stat.S_ISDIR(status.st_mode)):
            remove_tree(parent, name)

    def _make(self, parent: int, name: str, path: str) -> bool:
        """Makes a directory that only its owner can enter until it is done; False when there is something."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if self._options.union is Union.NONE:
                raise Conflict(
                    "File exists: something is in the way of a directory, and what is there already is not touched",
                    where=self._base + path,
                    hint="remove it, or use --union or --union-add",
                ) from None
            return False
        return True

    def _open(self, parent: int, name: str, path: str, *, made: bool) -> int:
        if not path and not made:
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        from wherry.linux.beneath import open_in_root

        try:  # a symbolic link, perhaps; it counts as it would for a process with the destination as its root
            return open_in_root(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except (OSError, Unsupported):
            raise Conflict("File exists: it is in the way of a directory", where=self._base + path) from None

    def _finish(self, fd: int, checksum: Checksum) -> None:
        meta = self._metas.get(checksum)
        if meta is None:
            meta = self._metas[checksum] = self._repo.load_dirmeta(checksum)
        if not self._options.user_mode:
            os.fchown(fd, meta.uid, meta.gid)
            for name, value in meta.xattrs:
                os.setxattr(fd, os.fsdecode(name), value)
        mode = stat.S_IMODE(meta.mode)
        os.fchmod(fd, mode & _BAREUSERONLY_BITS if self._options.bareuseronly_dirs else mode)
        os.utime(fd, ns=(0, 0))

    def _skips(self, path: str) -> bool:
        return self._options.skip is not None and self._options.skip(path)

    def _check_device(self, fd: int) -> None:
        if self._options.require_hardlinks and os.fstat(fd).st_dev != os.stat(self._repo.objects_dir).st_dev:
            raise Unsupported(
                "Unable to do hardlink checkout across devices: the destination is on another file system",
                where=self._base,
                hint="leave --require-hardlinks away",
            )


def remove_tree(fd: int, name: str) -> None:
    """Removes a file, or a directory with all in it; nothing happens when it is not there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        from shutil import rmtree

        rmtree(name, dir_fd=fd)


if TYPE_CHECKING:
    from wherry.store.tree.placing import Placer
