"""What the engine holds on the disk, for ``system df``, ``ps --size`` and what ``prune`` says that it freed.

Sizes are of the blocks that files take, each file counted once however many names it has; the directories are walked
below open ones, never through a link.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import WherryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.engine.state import Paths, Place
    from wherry.store.repository import Repository

MAX_DEPTH = 256
"""Levels of directories that are counted: a container may make any number, and a walk holds one descriptor for each."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own is."""


def tree_bytes(path: Place) -> int:
    """Returns how many bytes a directory and all in it take; 0 when it is not there."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for status in _walk(path):
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        total += status.st_blocks * _BLOCK_BYTES
    return total


def written_bytes(paths: Paths, container_id: str) -> int:
    """Returns the bytes of the files that a container has written: docker's ``SizeRw``."""
    upper = f"{paths.container(container_id)}/upper"
    return sum(status.st_size for status in _walk(upper) if stat.S_ISREG(status.st_mode))


def _walk(path: Place) -> Iterator[os.stat_result]:
    """Yields what is known of a directory and of all in it, `MAX_DEPTH` levels deep; nothing when it is not there."""
    try:
        fd = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        yield from _walk_at(fd, 0)
    finally:
        os.close(fd)


def _walk_at(fd: int, depth: int) -> Iterator[os.stat_result]:
    yield os.fstat(fd)
    if depth == MAX_DEPTH:
        return
    for name in os.listdir(fd):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            inner = os.open(name, _FOLDER, dir_fd=fd) if stat.S_ISDIR(status.st_mode) else -1
        except (FileNotFoundError, NotADirectoryError):  # gone or replaced since
            continue
        if inner < 0:
            yield status
            continue
        try:
            yield from _walk_at(inner, depth + 1)
        finally:
            os.close(inner)


def image_bytes(repo: Repository | None, commit: str) -> int:
    """Returns the size of all files of an image; 0 when it is not there."""
    if repo is None or not commit:
        return 0
    from wherry.image.catalog import Images

    try:
        return Images(repo).record_of(Checksum(commit)).size_bytes
    except WherryError:
        return 0


def unique_bytes(repo: Repository, commits: list[str]) -> tuple[dict[str, tuple[int, int]], int]:
    """Returns how images share their files.

    Returns:
        For each commit the bytes that it shares with another one, and those that it has alone; and the bytes of all.
    """
    held: dict[str, dict[str, int]] = {}
    count: dict[str, int] = {}
    for commit in dict.fromkeys(commits):
        files: dict[str, int] = {}
        _collect(repo, repo.load_commit(Checksum(commit)).tree, files, set())
        held[commit] = files
        for checksum in files:
            count[checksum] = count.get(checksum, 0) + 1
    result = {}
    for commit, files in held.items():
        shared = sum(size for checksum, size in files.items() if count[checksum] > 1)
        result[commit] = (shared, sum(files.values()) - shared)
    return result, sum({checksum: size for files in held.values() for checksum, size in files.items()}.values())


def _collect(repo: Repository, tree: Checksum, files: dict[str, int], seen: set[str]) -> None:
    if tree in seen:
        return
    seen.add(tree)
    entries = repo.load_dirtree(tree)
    for _, checksum in entries.files:
        if checksum not in files:
            files[checksum] = _file_bytes(repo, checksum)
    for _, below, _ in entries.dirs:
        _collect(repo, below, files, seen)


def _file_bytes(repo: Repository, checksum: Checksum) -> int:
    from wherry.image.unpacking import file_size

    return file_size(repo, checksum)
