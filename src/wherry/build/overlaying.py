"""Files laid over a root: what root overlays, tables of users and hooks change, as a tree of its own.

The tree is an overlay's upper layer (overlayfs): a folder in it says what a folder of the base becomes, a character
device 0/0 that something goes. Files of overlays belong to root, as they do in Buildroot's images, whoever checked them
out; their modes are theirs. A folder that the base has keeps its owner and mode. A path through a link of the base
(``lib`` to ``usr/lib``) goes where the link goes, never out of the root.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.contributions import Part

MAX_LINKS = 40
"""Followed for one path, as the kernel has it."""
_TOP = PurePosixPath()


class Over:
    """A tree over a base.

    Args:
        base: the root that it is laid over; only read.
        upper: the tree; folders are made as they are needed.
    """

    def __init__(self, base: Path, upper: Path) -> None:
        self.base = base
        self.upper = upper

    def find(self, path: PurePosixPath, *, follow: bool = False) -> Path | None:
        """Returns where what is at a path of the root lies, in the tree or in the base; None where nothing is.

        Args:
            path: below the root.
            follow: whether a link at the end is followed.

        Raises:
            InvalidInput: the links on the way go round in a circle.
        """
        return self._at(self.resolve(path, last=follow))

    def resolve(self, path: PurePosixPath, *, last: bool = False) -> PurePosixPath:
        """Returns a path with the links on its way followed, within the root.

        Raises:
            InvalidInput: they go round in a circle.
        """
        pending = [part for part in path.parts if part not in ("/", ".")]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self._at(PurePosixPath(*done, part))
            if here is not None and here.is_symlink() and (pending or last):
                links += 1
                if links > MAX_LINKS:
                    raise InvalidInput("too many links on the way", where=path)
                target = PurePosixPath(os.readlink(here))
                if target.is_absolute():
                    done = []
                pending = [each for each in target.parts if each not in ("/", ".")] + pending
                continue
            done.append(part)
        return PurePosixPath(*done)

    def _at(self, path: PurePosixPath) -> Path | None:
        for top in (self.upper, self.base):
            found = top / path
            try:
                status = os.lstat(found)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return None if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else found
        return None

    def folder(self, path: PurePosixPath, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Path:
        """Returns a folder of the tree, made when it is missing: as it is in the base, or new with this mode.

        Raises:
            InvalidInput: something else is there.
        """
        path = self.resolve(path, last=True)
        here = self.upper
        for depth in range(len(path.parts) + 1):
            part = PurePosixPath(*path.parts[:depth])
            here = self.upper / part
            found = self._at(part)
            if found is not None and not found.is_dir():
                raise InvalidInput("not a folder", where=f"/{part}")
            if here.is_dir():
                continue
            here.mkdir()
            if found is None:
                os.chmod(here, mode)
                os.chown(here, uid, gid)
            else:
                copy_attributes(found, here)
        return here

    def write(self, path: PurePosixPath, data: bytes, *, mode: int | None = None, uid: int = 0, gid: int = 0) -> None:
        """Writes a file; one that is there keeps its mode and owner unless a mode is given."""
        found = self.find(path, follow=True)
        path = self.resolve(path, last=True)
        target = self.folder(path.parent) / path.name
        status = os.stat(found) if found is not None and mode is None else None
        if os.path.lexists(target):
            os.unlink(target)
        target.write_bytes(data)
        os.chmod(target, stat.S_IMODE(status.st_mode) if status else (0o644 if mode is None else mode))
        os.chown(target, status.st_uid if status else uid, status.st_gid if status else gid)

    def read(self, path: PurePosixPath) -> bytes | None:
        """Returns a file's bytes; None where there is none."""
        found = self.find(path, follow=True)
        return found.read_bytes() if found is not None and found.is_file() else None

    def lay(self, part: Part, at: PurePosixPath = _TOP) -> None:
        """Lays a layer's folder over what is there, from a path of the root on.

        Raises:
            InvalidInput: a file stands where there is a folder, or the other way; or it is a device, pipe or socket.
        """
        try:
            self._lay(part, part.path, at)
        except OSError as error:
            raise map_os_error(error, f"cannot lay the overlay of {part.layer}", where=error.filename) from error

    def _lay(self, part: Part, source: Path, at: PurePosixPath) -> None:
        for name in sorted(os.listdir(source), key=os.fsencode):
            path, target = source / name, at / name
            status = os.lstat(path)
            found = self.find(target)
            if stat.S_ISDIR(status.st_mode):
                there = self.find(target, follow=True)
                if there is not None and not there.is_dir():
                    raise InvalidInput(f"overlay of {part.layer}: a folder where there is a file", where=f"/{target}")
                self.folder(target, mode=stat.S_IMODE(status.st_mode))
                self._lay(part, path, target)
                continue
            if found is not None and found.is_dir() and not found.is_symlink():
                raise InvalidInput(f"overlay of {part.layer}: a file where there is a folder", where=f"/{target}")
            new = self.folder(target.parent) / name
            if os.path.lexists(new):
                os.unlink(new)
            if stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(path), new)
            elif stat.S_ISREG(status.st_mode):
                shutil.copyfile(path, new)
                os.chmod(new, stat.S_IMODE(status.st_mode))
            else:
                raise InvalidInput(f"overlay of {part.layer}: neither file, folder nor link", where=path)
            os.chown(new, 0, 0, follow_symlinks=False)


def copy_attributes(source: Path, target: Path) -> None:
    """Gives a folder or file the owner, mode and extended attributes of another."""
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)


def merge_trees(base: Path, upper: Path, target: Path, *, empty: Iterable[str] = ()) -> None:
    """Makes one tree of a base and what is laid over it: files are hard links, nothing is written to.

    Args:
        base: the root.
        upper: an overlay's upper layer; need not be there.
        target: the folder to fill, which is there.
        empty: folders at the top whose content is left out (``dev``, ``proc``).
    """
    left_out = frozenset(empty)
    copy_attributes(base, target)
    _merge(base, upper if upper.is_dir() else None, target, left_out)


def _merge(base: Path | None, upper: Path | None, target: Path, empty: frozenset[str]) -> None:
    if upper is not None and _opaque(upper):
        base = None
    found: dict[str, tuple[Path | None, Path | None]] = {}
    for top, index in ((base, 0), (upper, 1)):
        for entry in os.scandir(top) if top is not None else ():
            pair = found.get(entry.name, (None, None))
            found[entry.name] = (Path(entry.path), pair[1]) if index == 0 else (pair[0], Path(entry.path))
    for name, (low, high) in sorted(found.items()):
        source = high or low
        if source is None:
            raise RuntimeError("one of the two is there")
        status = os.lstat(source)
        new = target / name
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 and high is not None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            os.link(source, new, follow_symlinks=False)
            continue
        new.mkdir()
        copy_attributes(source, new)
        if name not in empty:
            below = low if low is not None and low.is_dir() and not low.is_symlink() else None
            _merge(below, high, new, frozenset())


def _opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False
