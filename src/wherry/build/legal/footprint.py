"""How much room the files of a host take, and which of its packages each belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from wherry.core.progress import QUIET, Progress
from wherry.image.sbom.dpkg import INFO, MAX_LIST_BYTES
from wherry.image.sbom.tree import Tree, Unreadable
from wherry.store.format.objects import DirMeta
from wherry.store.static_delta.candidates import header_and_size

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository

_EVERY = 1000


def file_sizes(repo: Repository, commit: Checksum, *, progress: Progress = QUIET) -> dict[str, int]:
    """Returns the size of each file of a tree; what has several names counts under the first of them.

    Raises:
        NotFound: a part of the commit is not there.
    """
    from wherry.store.tree.walk import walk

    sizes: dict[str, int] = {}
    seen: set[Checksum] = set()
    for count, (path, found) in enumerate(walk(repo, commit)):
        if count % _EVERY == 0:
            progress.update("looking at files", count, None, unit="files")
        if isinstance(found, DirMeta):
            continue
        checksum, _ = found
        if checksum in seen:
            continue
        seen.add(checksum)
        sizes[path] = header_and_size(repo, checksum)[1]
    return sizes


def owners_of(tree: Tree, paths: Iterable[str]) -> dict[str, str]:
    """Returns the package of dpkg's that brought each file; what none of them brought is not there.

    A package's list may leave ``usr`` out of a path, as before the two were merged.
    """
    wanted = set(paths)
    found: dict[str, str] = {}
    for name in tree.listdir(INFO):
        if not name.endswith(".list"):
            continue
        package = name.removesuffix(".list").partition(":")[0]
        with suppress(Unreadable):  # its files then belong to no package
            for line in tree.read_text(f"{INFO}/{name}", max_bytes=MAX_LIST_BYTES).split("\n"):
                path = line.removeprefix("/")
                for spelled in (path, f"usr/{path}"):
                    if spelled in wanted:
                        found.setdefault(spelled, package)
    return found
