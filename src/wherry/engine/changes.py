"""``diff``: what a container has changed, read from its overlay's upper directory and compared with what lies below.

Docker's marks: A for what was added, C for what was changed (a directory: something in it was), D for what is gone.
Where the upper directory speaks for itself only it is walked. Where it does not, because a directory is opaque (it was
removed and made again) or was moved (a ``redirect``), the merged directory is compared with the lower one, entry by
entry.
Mount points that the engine made are not the container's doing, and are left out, as podman leaves them out.

Source: Linux, Documentation/filesystems/overlayfs.rst; docker's command line reference, "docker container diff".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from wherry.core.errors import InvalidInput

MAX_DEPTH = 256
MAX_CHANGES = 5_000_000
ADDED, CHANGED, DELETED = "A", "C", "D"
_OPAQUE, _REDIRECT, _WHITEOUT = ".overlay.opaque", ".overlay.redirect", ".overlay.whiteout"
_PLACES = ("trusted", "user")
"""Where overlayfs keeps its marks: the latter in a user namespace (``userxattr``)."""
_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ENGINE_PATHS = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/secrets", "/.wherry")
"""What is mounted in every container."""


class Change(NamedTuple):
    """One change."""

    kind: str
    path: str
    """Absolute, in the container."""


class Lower(Protocol):
    """What lies below the upper directory: the image, or a root directory."""

    def kind(self, path: str) -> str | None:
        """Returns ``dir``, ``file``, or None when nothing is there; `path` has no slash at its ends."""

    def names(self, path: str) -> Iterable[str]:
        """Returns the names in a directory."""


class DirectoryLower:
    """A directory on disk, such as that of ``--rootfs``, with those laid over it."""

    def __init__(self, *folders: str) -> None:
        """Takes directories, the uppermost first."""
        self._fds = [os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders]

    def close(self) -> None:
        """Closes them."""
        for fd in self._fds:
            os.close(fd)

    def _status(self, path: str) -> tuple[os.stat_result, int] | None:
        from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

        above, _, name = path.rpartition("/")
        for fd in self._fds:
            try:
                parent = openat2(fd, above or ".", os.O_PATH, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
            except OSError:
                continue
            try:
                return os.stat(name or ".", dir_fd=parent, follow_symlinks=False), fd
            except OSError:
                continue
            finally:
                os.close(parent)
        return None

    def kind(self, path: str) -> str | None:
        """See `Lower`."""
        found = self._status(path)
        return None if found is None else "dir" if stat.S_ISDIR(found[0].st_mode) else "file"

    def names(self, path: str) -> Iterable[str]:
        """See `Lower`."""
        from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

        found: set[str] = set()
        for fd in self._fds:
            try:
                inner = openat2(
                    fd, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                )
            except OSError:
                continue
            try:
                found.update(os.listdir(inner))
            finally:
                os.close(inner)
        return found


def find_changes(
    upper_fd: int, merged_fd: int | None, lower: Lower, *, engine_made: Iterable[str] = ENGINE_PATHS
) -> list[Change]:
    """Returns what a container has changed, sorted by path.

    Args:
        upper_fd: its overlay's upper directory.
        merged_fd: its root, without what is mounted in it; None when nothing in it was moved or removed and made anew,
            which is told by `NeedsMerged`.
        lower: what lies below.
        engine_made: absolute paths of mount points.

    Raises:
        NeedsMerged: `merged_fd` is None and the upper directory does not tell everything.
        InvalidInput: the tree is too deep or too large.
    """
    walk = _Walk(merged_fd, lower, frozenset(engine_made))
    walk.directory(upper_fd, "", 0)
    return sorted(walk.found, key=lambda change: change.path)


class NeedsMerged(Exception):
    """The merged tree must be looked at as well."""


class _Walk:
    def __init__(self, merged_fd: int | None, lower: Lower, engine_made: frozenset[str]) -> None:
        self._merged_fd, self._lower, self._engine_made = merged_fd, lower, engine_made
        self._above = {above for path in engine_made for above in _parents(path)}
        self.found: list[Change] = []

    def _tell(self, kind: str, path: str) -> None:
        if len(self.found) >= MAX_CHANGES:
            raise InvalidInput(f"more than {MAX_CHANGES} changes")
        self.found.append(Change(kind, f"/{path}"))

    def directory(self, upper: int, path: str, depth: int) -> bool:
        """Looks at one directory of the upper tree; tells whether anything of the container's is in it."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested more than {MAX_DEPTH} deep", where=path[:200])
        with os.scandir(upper) as entries:
            names = sorted(entry.name for entry in entries)
        ours = not names
        for name in names:
            inner = f"{path}/{name}" if path else name
            ours = self._entry(upper, name, inner, depth) or ours
        return ours

    def _entry(self, upper: int, name: str, path: str, depth: int) -> bool:
        try:
            status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        except FileNotFoundError:
            return False
        below = self._lower.kind(path)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below is not None:
                self._tell(DELETED, path)
            return True
        if not stat.S_ISDIR(status.st_mode):
            if f"/{path}" in self._engine_made and not status.st_size:
                return False
            if below == "dir":
                self._tell(CHANGED, path)
            else:
                self._tell(ADDED if below is None else CHANGED, path)
            return True
        fd = os.open(name, _READ_DIRECTORY, dir_fd=upper)
        try:
            if f"/{path}" in self._engine_made and not os.listdir(fd):
                return False
            place = len(self.found)
            if below == "dir" and (_attribute(fd, _OPAQUE) == b"y" or _attribute(fd, _REDIRECT)):
                self._compare(path, depth)
                ours = True
            elif below is None and _attribute(fd, _REDIRECT):
                self._all_added(path, depth)
                ours = True
            else:
                ours = self.directory(fd, path, depth + 1)
            if ours or f"/{path}" not in self._above:
                self.found.insert(place, Change(ADDED if below is None else CHANGED, f"/{path}"))
                return True
            return False
        finally:
            os.close(fd)

    def _open_merged(self, path: str) -> int:
        if self._merged_fd is None:
            raise NeedsMerged
        from wherry.linux.beneath import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

        flags = os.O_RDONLY | os.O_DIRECTORY
        return openat2(self._merged_fd, path, flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)

    def _all_added(self, path: str, depth: int) -> None:
        """Tells of all that is in a directory that came with another name."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested more than {MAX_DEPTH} deep", where=path[:200])
        for name, is_directory in self._merged(path):
            inner = f"{path}/{name}"
            self._tell(ADDED, inner)
            if is_directory:
                self._all_added(inner, depth + 1)

    def _compare(self, path: str, depth: int) -> None:
        """Compares a directory with what lay below it, as nothing of that shines through."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"nested more than {MAX_DEPTH} deep", where=path[:200])
        there = dict(self._merged(path))
        for name in sorted({*there, *self._lower.names(path)}):
            inner = f"{path}/{name}"
            below = self._lower.kind(inner)
            if name not in there:
                self._tell(DELETED, inner)
                continue
            self._tell(ADDED if below is None else CHANGED, inner)
            if there[name] and below == "dir":
                self._compare(inner, depth + 1)
            elif there[name]:
                self._all_added(inner, depth + 1)

    def _merged(self, path: str) -> list[tuple[str, bool]]:
        fd = self._open_merged(path)
        try:
            with os.scandir(fd) as entries:
                return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        finally:
            os.close(fd)


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]


def _attribute(fd: int, name: str) -> bytes:
    for place in _PLACES:
        try:
            return os.getxattr(fd, place + name)
        except OSError:
            continue
    return b""
