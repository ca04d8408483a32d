"""What stands on images: containers, mounts, and deployments that keep a commit. It is asked before an image goes.

An image does not stand on the image that it was built from: it is one commit of its whole tree, and equal files are
one object, which stays as long as anything needs it. Projects of Compose are their containers; revisions of a project
have the commits of their images in the project's own store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wherry.core.digest import Checksum

if TYPE_CHECKING:
    from collections.abc import Collection

    from wherry.engine.engine import Engine
    from wherry.store.repository import Repository


def containers_of(engine: Engine) -> dict[Checksum, list[str]]:
    """Returns the commits that containers are made from, running or not, with the containers' names."""
    found: dict[Checksum, list[str]] = {}
    for info in engine.list():
        if info.commit:
            found.setdefault(Checksum(info.commit), []).append(info.name)
    return found


def users_of(engine: Engine, repo: Repository) -> dict[Checksum, list[str]]:
    """Returns the commits that something stands on, with what that is, in words for an error."""
    from wherry.store.care.keep import kept_commits
    from wherry.store.mount.seen import mounts

    found = {
        commit: [f"containers are made from it: {', '.join(names)}"] for commit, names in containers_of(engine).items()
    }
    for seen in mounts():
        found.setdefault(seen.commit, []).append(f"it is mounted at {seen.target}")
    for commit in kept_commits(repo):
        found.setdefault(commit, []).append("a deployment on this machine needs it")
    return found


def nameless(repo: Repository, used: Collection[Checksum]) -> list[Checksum]:
    """Returns the commits of images, indexes and trees of layers that no ref names and nothing stands on."""
    from wherry.image.catalog import CONFIG_KEY
    from wherry.image.indexes import INDEX_KEY
    from wherry.image.layercache import SIZE_KEY

    named = set(repo.refs().values())
    found = []
    for commit in repo.commits():
        if commit in named or commit in used:
            continue
        metadata = repo.load_commit(commit).metadata
        if not metadata.keys().isdisjoint((CONFIG_KEY, INDEX_KEY, SIZE_KEY)):
            found.append(commit)
    return found


def free(
    repo: Repository, commits: Collection[Checksum], used: Collection[Checksum], *, parts_too: bool = False
) -> int:
    """Removes the files that only these commits need, unless a name still leads to them or something stands on them.

    Args:
        repo: where.
        commits: that are to go.
        used: those that something stands on.
        parts_too: also parts of blobs that a broken pull could go on from.

    Returns:
        The bytes that this freed.
    """
    from wherry.image.tidying import tidy
    from wherry.store.care.prune import prune

    tidied = tidy(repo, parts_too=parts_too)
    doomed = (set(commits) | tidied.commits) - set(repo.refs().values()) - set(used)
    freed = prune(repo, delete_commits=doomed).freed_bytes if doomed else 0
    return freed + tidied.freed_bytes
