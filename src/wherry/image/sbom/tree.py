"""Reading the files of an image where they lie, in the store or in a directory, without running or unpacking any.

The tree was made by strangers. Symbolic links are followed within it, as the kernel would in a root of its own, and
never out of it; a file is read up to a limit that the caller names; only regular files are opened. What cannot be
read so is ``Unreadable``, which finders turn into a warning.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, WherryError

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_PATHS = 4_000_000
"""Files, links and directories of one tree."""
MAX_LINK_FOLLOWS = 40
"""As the kernel's own (MAXSYMLINKS)."""
MAX_DEPTH = 250
"""Directories within directories."""
_READ_BYTES = 1 << 20


class Unreadable(InvalidInput):
    """A file of the tree cannot be read; the finder says so and goes on."""


class Opener(Protocol):
    """Opens a regular file by its path, which no symbolic link is in."""

    def __call__(self, path: str) -> BinaryIO:
        """Returns its content, at the beginning."""
        ...


@dataclass(slots=True, kw_only=True)
class _Folder:
    entries: dict[str, _Folder | _Leaf]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    executable: bool = False
    target: str | None = None
    """Of a symbolic link."""


class Tree:
    """All paths of an image, and a way to their contents."""

    def __init__(self, root: _Folder, opener: Opener) -> None:
        self._root = root
        self._opener = opener

    def real(self, path: str) -> str | None:
        """Returns where a path leads, within the tree; None when there is nothing or the links go in circles."""
        found = self._follow(path)
        return None if found is None else "/".join(found[0])

    def is_file(self, path: str) -> bool:
        """Tells whether a path leads to a regular file."""
        found = self._follow(path)
        return found is not None and isinstance(found[1], _Leaf)

    def listdir(self, path: str) -> list[str]:
        """Returns the names in a directory, sorted; none when it is no directory."""
        found = self._follow(path)
        return sorted(found[1].entries) if found is not None and isinstance(found[1], _Folder) else []

    def files(self) -> Iterator[tuple[str, bool]]:
        """Gives every regular file and whether it may be executed, in the order of names; links are not followed."""
        pending: list[tuple[str, _Folder]] = [("", self._root)]
        while pending:
            prefix, folder = pending.pop()
            below = []
            for name, entry in sorted(folder.entries.items()):
                if isinstance(entry, _Folder):
                    below.append((f"{prefix}{name}/", entry))
                elif entry.target is None:
                    yield prefix + name, entry.executable
            pending.extend(reversed(below))

    def open(self, path: str) -> BinaryIO:
        """Opens the regular file that a path leads to; the caller closes it.

        Raises:
            Unreadable: there is none, or it cannot be read.
        """
        found = self._follow(path)
        if found is None or not isinstance(found[1], _Leaf):
            raise Unreadable("no regular file", where=path)
        try:
            return self._opener("/".join(found[0]))
        except WherryError as error:
            raise Unreadable(error.what, where=path) from error

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Returns the content of the regular file that a path leads to.

        Raises:
            Unreadable: there is none, or it is longer than `max_bytes`.
        """
        with self.open(path) as file:
            try:
                data = read_up_to(file, max_bytes + 1)
            except (OSError, WherryError) as error:
                raise Unreadable(f"cannot be read ({error})", where=path) from error
        if len(data) > max_bytes:
            raise Unreadable(f"longer than {max_bytes} bytes", where=path)
        return data

    def read_text(self, path: str, *, max_bytes: int) -> str:
        """Returns the same as text; bytes that are not UTF-8 become U+FFFD."""
        return self.read(path, max_bytes=max_bytes).decode("utf-8", "replace")

    def with_files(self, files: Mapping[str, bytes]) -> Tree:
        """Returns the same tree with some files more, in the place of whatever has their names; this one stays.

        Args:
            files: contents by paths, which are taken as they are: no link on the way is followed.
        """
        root = self._root
        for path in files:
            root = _with_leaf(root, path.split("/"))
        below = self._opener

        def open_(path: str) -> BinaryIO:
            return BytesIO(files[path]) if path in files else below(path)

        return Tree(root, open_)

    def _follow(self, path: str) -> tuple[list[str], _Folder | _Leaf] | None:
        pending = path.split("/")[::-1]
        real: list[str] = []
        above: list[_Folder | _Leaf] = [self._root]
        follows = 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del real[-1:]
                del above[len(real) + 1 :]
                continue
            here = above[-1]
            entry = here.entries.get(part) if isinstance(here, _Folder) else None
            if entry is None:
                return None
            if isinstance(entry, _Leaf) and entry.target is not None:
                follows += 1
                if follows > MAX_LINK_FOLLOWS:
                    return None
                if entry.target.startswith("/"):
                    real, above = [], [self._root]
                pending.extend(entry.target.split("/")[::-1])
                continue
            real.append(part)
            above.append(entry)
        return real, above[-1]


def _with_leaf(folder: _Folder, parts: list[str]) -> _Folder:
    entries = dict(folder.entries)
    below = entries.get(parts[0])
    if len(parts) == 1:
        entries[parts[0]] = _Leaf()
    else:
        entries[parts[0]] = _with_leaf(below if isinstance(below, _Folder) else _Folder(entries={}), parts[1:])
    return _Folder(entries=entries)


def read_up_to(file: BinaryIO, size: int) -> bytes:
    """Returns the next `size` bytes of a file, or what is left of it."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, _READ_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


# --- a commit


def commit_tree(repo: Repository, commit: Checksum) -> Tree:
    """Returns the tree of a commit.

    Raises:
        NotFound: the commit or a part of its tree is not there.
        InvalidInput: it has more than ``MAX_PATHS`` paths, or is too deep.
    """
    from wherry.store.format.objects import DirMeta
    from wherry.store.tree.walk import walk

    root = _Folder(entries={})
    folders = {"": root}
    checksums: dict[str, Checksum] = {}
    for count, (path, found) in enumerate(walk(repo, commit)):
        _check_count(count, commit)
        above, _, name = path.rpartition("/")
        if isinstance(found, DirMeta):
            if path:
                folder = folders[path] = _Folder(entries={})
                folders[above].entries[name] = folder
            continue
        checksum, header = found
        target = header.symlink_target if header.is_symlink else None
        folders[above].entries[name] = _Leaf(executable=bool(header.mode & 0o111), target=target)
        if target is None:
            checksums[path] = checksum

    def open_(path: str) -> BinaryIO:
        _, content = repo.load_file(checksums[path])
        if content is None:
            raise NotFound("a symbolic link", where=path)
        return content

    return Tree(root, open_)


# --- a directory


def directory_tree(path: Path) -> Tree:
    """Returns the tree of a directory on disk; its devices, sockets and pipes are left out.

    Raises:
        NotFound: there is no such directory.
        NotPermitted: a part of it may not be read.
    """
    if not path.is_dir():
        raise NotFound("no such directory", where=path)
    root = _Folder(entries={})
    try:
        _scan(str(path), root)
        folder_fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise map_os_error(error, "cannot read the directory", where=error.filename or path) from error
    return Tree(root, _Directory(folder_fd))


class _Directory:
    """Opens files below a directory; the kernel is told to follow no link."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        os.close(self._fd)

    def __call__(self, path: str) -> BinaryIO:
        from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

        try:
            fd = openat2(self._fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise map_os_error(error, "cannot read the file", where=path) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidInput("no regular file", where=path)
        return os.fdopen(fd, "rb")


def _scan(top: str, root: _Folder) -> None:
    count = 0
    pending = [(top, root, 0)]
    while pending:
        path, folder, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"directories nested deeper than {MAX_DEPTH}", where=path[:80])
        with os.scandir(path) as entries:
            for entry in entries:
                count += 1
                _check_count(count, top)
                if entry.is_symlink():
                    folder.entries[entry.name] = _Leaf(target=os.readlink(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    below = _Folder(entries={})
                    folder.entries[entry.name] = below
                    pending.append((entry.path, below, depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    mode = entry.stat(follow_symlinks=False).st_mode
                    folder.entries[entry.name] = _Leaf(executable=bool(mode & 0o111))


def _check_count(count: int, where: object) -> None:
    if count > MAX_PATHS:
        raise InvalidInput(f"more than {MAX_PATHS} paths", where=where)
