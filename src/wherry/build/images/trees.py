"""A tree of files as images take it: everything in the order of the names' bytes, with nothing of this machine in it.

Times, inode numbers, and the order in which a file system lists a folder are left out. So are sockets, which mean
nothing without their program, and attributes that belong to the machine on which the tree lies.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path

MAX_ENTRIES = 4_000_000
MAX_DEPTH = 200
_FOREIGN_XATTRS = ("security.selinux", "security.ima", "security.evm", "system.", "trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder, link or node of a tree."""

    path: str
    """Below the tree, with bytes that are no UTF-8 as surrogates; "" for the tree itself."""
    mode: int
    """With the kind of file (stat.S_IFMT)."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    target: str = ""
    """Of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""
    same_as: str = ""
    """The path of the first name of this file, if it has several and this is not the first."""
    links: int = 1
    """Names that the file has in this tree."""
    source: Path | bytes | None = None
    """Where a file's bytes are, or what they are."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


def walk(top: Path, *, xattrs: bool = True) -> list[Entry]:
    """Returns all of a tree: each folder before what is in it, names in the order of their bytes.

    Args:
        top: its folder.
        xattrs: whether attributes are read.

    Raises:
        NotFound: there is no such folder.
        InvalidInput: there is too much of it.
    """
    if not stat.S_ISDIR(_status(top).st_mode):
        raise InvalidInput("not a folder", where=top)
    entries = list(_walk(top, "", xattrs, 0))
    if len(entries) > MAX_ENTRIES:
        raise InvalidInput(f"more than {MAX_ENTRIES} files", where=top)
    first: dict[tuple[int, int], int] = {}
    names: dict[tuple[int, int], int] = {}
    for found in entries:
        if found.inode is not None:
            names[found.inode] = names.get(found.inode, 0) + 1
    result: list[Entry] = []
    for index, found in enumerate(entries):
        entry = found.entry
        if found.inode is not None and names[found.inode] > 1:
            earlier = first.setdefault(found.inode, index)
            same_as = entries[earlier].entry.path if earlier != index else ""
            entry = replace(entry, links=names[found.inode], same_as=same_as)
        result.append(entry)
    return result


def within(top: Path, below: str) -> Path:
    """Returns a path below a tree, where no part on the way is a symbolic link.

    Raises:
        NotFound: it is not there.
        InvalidInput: it leads through a link.
    """
    path = top
    for part in below.split("/") if below else ():
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                "the host has no such file or folder", where=f"/{below}", hint="see `below` in the layout"
            ) from None
        if stat.S_ISLNK(mode):
            raise InvalidInput("a symbolic link, which is not followed", where=path, hint="name what it leads to")
    return path


@dataclass(frozen=True, slots=True)
class _Found:
    entry: Entry
    inode: tuple[int, int] | None


def _walk(path: Path, name: str, xattrs: bool, depth: int) -> Iterator[_Found]:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"folders nested deeper than {MAX_DEPTH}", where=path)
    status = _status(path)
    if stat.S_ISSOCK(status.st_mode):
        return
    entry = Entry(
        path=name,
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if stat.S_ISREG(status.st_mode) else 0,
        target=os.readlink(path) if stat.S_ISLNK(status.st_mode) else "",
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if _is_device(status.st_mode) else (0, 0),
        source=path if stat.S_ISREG(status.st_mode) else None,
        xattrs=_xattrs(path) if xattrs else (),
    )
    directory = stat.S_ISDIR(status.st_mode)
    yield _Found(entry, None if directory or status.st_nlink < 2 else (status.st_dev, status.st_ino))
    if not directory:
        return
    try:
        names = sorted(os.listdir(path), key=os.fsencode)
    except OSError as error:
        raise map_os_error(error, "cannot read a folder of the host", where=path) from error
    for each in names:
        yield from _walk(path / each, f"{name}/{each}" if name else each, xattrs, depth + 1)


def _status(path: Path) -> os.stat_result:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        raise NotFound("the host has no such file or folder", where=path) from None
    except OSError as error:
        raise map_os_error(error, "cannot read the host's tree", where=path) from error


def _is_device(mode: int) -> bool:
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def _xattrs(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        kept = [name for name in names if not name.startswith(_FOREIGN_XATTRS)]
        return tuple((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in kept)
    except OSError:  # a file system without attributes: there are none
        return ()
