"""Copying refs to a medium that is carried around, where ``find-remotes`` and ``ostree`` look for them.

::

    MOUNT/.ostree/repo                          an archive; refs below refs/mirrors/COLLECTION
    MOUNT/.ostree/repos.d/NN-generated          link to a repository that lies elsewhere on the medium
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import fsync_dir, map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.store.format.objects import Mode
from wherry.store.pull.local import pull_local
from wherry.store.refs import CollectionRef

if TYPE_CHECKING:
    from wherry.store.repository import Repository

DEFAULT_PLACE = ".ostree/repo"
WELL_KNOWN_PLACES = (DEFAULT_PLACE, "ostree/repo")
REPOS_D = ".ostree/repos.d"
_MAX_LINKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied."""

    path: Path
    """The repository on the medium."""
    commits: Mapping[CollectionRef, Checksum]


def copy_to_media(
    repo: Repository,
    mount: Path,
    refs: list[CollectionRef],
    *,
    place: str = DEFAULT_PLACE,
    commit: Checksum | None = None,
    durable: bool = True,
    progress: Progress = QUIET,
) -> Copied:
    """Copies refs with all that they are made of into an archive on a mounted medium.

    Args:
        repo: where they are.
        mount: the medium's root, which is there.
        refs: of collections.
        place: the repository's path below it.
        commit: copied in place of what the only ref names.
        durable: whether it is on the medium when this returns.
        progress: is told how many objects are done.

    Raises:
        NotFound: there is no such directory, or no such ref in that collection.
        InvalidInput: `place` leads out of the medium.
        Conflict: a repository of another mode is there, or it is `repo` itself.
    """
    from wherry.store.repository import Repository
    from wherry.store.summary import update_summary

    known = repo.collection_refs()
    wanted: dict[CollectionRef, Checksum] = {}
    for ref in refs:
        found = commit or known.get(ref)
        if found is None:
            raise NotFound(f"No such branch {ref} in the repository", where=repo.path)
        wanted[ref] = found
    parts = PurePosixPath(place).parts
    if not parts or ".." in parts or place.startswith("/"):
        raise InvalidInput(f"--destination-repo must be a path below the mount: {place!r}")
    path = mount.joinpath(*parts)
    try:
        device = os.stat(mount).st_dev
        path.mkdir(parents=True, exist_ok=True)
        if os.stat(path).st_dev != device:
            raise InvalidInput("--destination-repo must be a descendent of MOUNT-PATH", where=path)
    except OSError as error:
        raise map_os_error(error, "cannot use the medium", where=mount) from error
    dest = Repository.init(path, Mode.ARCHIVE)
    if os.path.samefile(dest.path, repo.path):
        raise Conflict("--destination-repo must not be the source repository", where=path)
    dest.fsync = dest.fsync and durable
    with dest.transaction() as transaction:
        pull_local(dest, repo, dict.fromkeys(wanted.values()), progress=progress)
        for ref, found in wanted.items():
            transaction.set_collection_ref(ref, found)
    update_summary(dest)
    if place not in WELL_KNOWN_PLACES:
        _link(mount, path)
    return Copied(path=path, commits=wanted)


def _link(mount: Path, path: Path) -> None:
    """Makes a link to a repository in an unusual place, unless there is one."""
    folder = mount / REPOS_D
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if entry.exists() and os.path.samefile(entry, path):
                return
        target = os.path.relpath(path, folder)
        for number in range(_MAX_LINKS):
            try:
                os.symlink(target, folder / f"{number:02d}-generated")
            except FileExistsError:
                continue
            fsync_dir(folder)
            return
    except OSError as error:
        raise map_os_error(error, "cannot link to the repository", where=folder) from error
    raise Conflict("Could not find an unused symlink name for the repository", where=folder)


def repositories_on(mount: Path) -> list[Path]:
    """Returns the repositories on a medium, in the order in which they count: the well-known places first."""
    found = [mount / place for place in WELL_KNOWN_PLACES]
    try:
        found += sorted((mount / REPOS_D).iterdir())
    except OSError:
        pass
    real: dict[str, Path] = {}
    root = os.path.realpath(mount)
    for path in found:
        target = os.path.realpath(path)
        if target.startswith(f"{root}/") and (path / "config").is_file():  # a link must not lead out of the medium
            real.setdefault(target, path)
    return list(real.values())
