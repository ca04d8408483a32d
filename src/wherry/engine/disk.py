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
    """Returns how images share their files; several names of one image are that image.

    Returns:
        For each commit the bytes that it shares with another image, and those that it has alone; and the bytes of all.
    """
    from wherry.image.catalog import DIGEST_KEY

    trees: dict[str, tuple[Checksum, object]] = {}
    for commit in dict.fromkeys(commits):
        loaded = repo.load_commit(Checksum(commit))
        trees[commit] = (loaded.tree, loaded.metadata.get(DIGEST_KEY))
    sizes: dict[Checksum, int] = {}
    below: dict[Checksum, frozenset[Checksum]] = {}
    held: dict[object, set[Checksum]] = {}
    count: dict[Checksum, int] = {}
    for image in dict.fromkeys(trees.values()):
        files: set[Checksum] = set()
        _collect(repo, image[0], files, set(), below)
        held[image] = files
        for checksum in files:
            count[checksum] = count.get(checksum, 0) + 1
    for checksum in count:
        sizes[checksum] = _file_bytes(repo, checksum)
    result = {}
    for commit, image in trees.items():
        whole = sum(sizes[checksum] for checksum in held[image])
        own = sum(sizes[checksum] for checksum in held[image] if count[checksum] == 1)
        result[commit] = (whole - own, own)
    return result, sum(sizes.values())


def bytes_beyond(repo: Repository, commits: list[Checksum], others: list[Checksum]) -> tuple[dict[Checksum, int], int]:
    """Returns the bytes that commits have and others have not: of each, and of all together."""
    known: dict[Checksum, frozenset[Checksum]] = {}

    def files_of(commit: Checksum) -> set[Checksum]:
        files: set[Checksum] = set()
        _collect(repo, repo.load_commit(commit).tree, files, set(), known)
        return files

    elsewhere = {checksum for commit in others for checksum in files_of(commit)} if commits else set()
    sizes: dict[Checksum, int] = {}
    found: dict[Checksum, int] = {}
    for commit in commits:
        own = files_of(commit) - elsewhere
        sizes.update({checksum: _file_bytes(repo, checksum) for checksum in own if checksum not in sizes})
        found[commit] = sum(sizes[checksum] for checksum in own)
    return found, sum(sizes.values())


def _collect(
    repo: Repository,
    tree: Checksum,
    files: set[Checksum],
    seen: set[Checksum],
    known: dict[Checksum, frozenset[Checksum]],
) -> None:
    """Adds the files below a tree; `known` has what another walk found below one without further directories."""
    if tree in seen:
        return
    seen.add(tree)
    found = known.get(tree)
    if found is not None:
        files |= found
        return
    entries = repo.load_dirtree(tree)
    own = frozenset(checksum for _, checksum in entries.files)
    files |= own
    if not entries.dirs:
        known[tree] = own
    for _, below, _ in entries.dirs:
        _collect(repo, below, files, seen, known)


def _file_bytes(repo: Repository, checksum: Checksum) -> int:
    from wherry.image.unpacking import file_size

    return file_size(repo, checksum)
