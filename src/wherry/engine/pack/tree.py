"""A root tree on disk, resolved beneath itself: what ``/usr/bin/sh`` means for a process whose root it is.

Nothing here follows a symlink by the kernel's means, so that a link to ``/etc`` is the tree's ``/etc`` and never this
machine's. Paths are absolute, as a process in the tree would write them. The tree must not change meanwhile.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

MAX_LINKS = 40
"""As the kernel's MAXSYMLINKS (path_resolution(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a path leads to."""

    path: str
    """Without a symlink in it."""
    links: tuple[str, ...]
    """The symlinks on the way, each itself without one in its parent."""
    info: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.info.st_mode)


class Tree:
    """A folder that is a root.

    Args:
        root: the folder.

    Raises:
        NotFound: there is nothing.
        InvalidInput: it is no folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            if not os.path.lexists(root):
                raise NotFound("no such folder", where=root)
            raise InvalidInput("not a folder with a root tree", where=root)
        self.root = root
        self._real = os.path.realpath(root)

    def disk(self, path: str) -> str:
        """Returns where a path without symlinks is on this machine."""
        return self._real if path == "/" else self._real + path

    def find(self, path: str, *, base: str = "/") -> Found | None:
        """Returns what a path leads to; None when there is nothing, or the links go in circles.

        Args:
            path: a path; a relative one goes from `base`.
            base: a path without symlinks.
        """
        todo = [part for part in os.path.join(base, path).split("/") if part not in ("", ".")][::-1]
        here = "/"
        links: list[str] = []
        info = self._lstat("/")
        while todo and info is not None:
            part = todo.pop()
            if part == "..":
                here = os.path.dirname(here)
                info = self._lstat(here)
                continue
            if not stat.S_ISDIR(info.st_mode):
                return None
            there = f"{here.rstrip('/')}/{part}"
            info = self._lstat(there)
            if info is not None and stat.S_ISLNK(info.st_mode):
                if len(links) >= MAX_LINKS:
                    return None
                links.append(there)
                target = os.readlink(self.disk(there))
                todo += [step for step in target.split("/") if step not in ("", ".")][::-1]
                here = "/" if target.startswith("/") else here
                info = self._lstat(here)
                continue
            here = there
        if info is None:
            return None
        return Found(path=here, links=tuple(links), info=info)

    def read_head(self, path: str, length_bytes: int) -> bytes:
        """Returns the first bytes of a file whose path has no symlinks."""
        try:
            with open(self.disk(path), "rb") as file:
                return file.read(length_bytes)
        except OSError as error:
            raise map_os_error(error, "a file of the tree cannot be read", where=path) from error

    def names(self, path: str) -> list[str]:
        """Returns the sorted names in a folder whose path has no symlinks."""
        try:
            return sorted(os.listdir(self.disk(path)))
        except OSError as error:
            raise map_os_error(error, "a folder of the tree cannot be read", where=path) from error

    def everything(self, path: str = "/") -> list[str]:
        """Returns all paths below and including a folder, sorted; no symlink is followed."""
        found = [path]
        pending = [path]
        while pending:
            here = pending.pop()
            for name in self.names(here):
                there = f"{here.rstrip('/')}/{name}"
                found.append(there)
                info = self._lstat(there)
                if info is not None and stat.S_ISDIR(info.st_mode):
                    pending.append(there)
        return sorted(found)

    def lstat(self, path: str) -> os.stat_result:
        """Returns what is at a path whose parent has no symlinks."""
        info = self._lstat(path)
        if info is None:
            raise InvalidInput("it went away from the tree", where=path)
        return info

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self.disk(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise map_os_error(error, "the tree cannot be read", where=path) from error
