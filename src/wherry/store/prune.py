"""Removing what nothing needs any more. What is kept: all that the chosen commits reach, and nothing else.

The repository's lock is held alone meanwhile, so that no transaction counts on an object that goes. Commits go first,
durably, then the rest: a crash in between never leaves a commit without its objects.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, NotFound
from wherry.core.trace import reach
from wherry.store import refs, transaction
from wherry.store.objects import ObjectType, object_name
from wherry.store.walk import add_tree

if TYPE_CHECKING:
    from wherry.store.repository import Repository

TMP_EXPIRY_S = 86400
"""Leftovers in ``tmp/``, parts of broken transfers among them, go after this time (OSTree's tmp-expiry-secs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStats:
    """What was found and removed."""

    total: int
    pruned: int
    freed_bytes: int


def prune(
    repo: Repository,
    *,
    refs_only: bool = False,
    depth: int = -1,
    keep: Collection[Checksum] = (),
    keep_younger_than_s: int | None = None,
    delete_commits: Collection[Checksum] = (),
    dry_run: bool = False,
) -> PruneStats:
    """Removes the objects that no kept commit needs.

    Args:
        repo: the repository.
        refs_only: only what refs reach, and `keep`; else every commit is kept, and only stray objects go.
        depth: how many parents of each ref's commit are kept; -1: all.
        keep: further commits that are kept, with all they need (their parents are not).
        keep_younger_than_s: commits made at or after this time (seconds since 1970) are kept too.
        delete_commits: these go.
        dry_run: only counts.

    Returns:
        How much there was, and how much went.

    Raises:
        Conflict: a ref names one of `delete_commits`.
        NotFound: one of them is not there.
    """
    with repo.lock(shared=False):
        there = repo.list_objects()
        commits = {checksum for kind, checksum in there if kind is ObjectType.COMMIT}
        named = set(repo.refs().values()) | refs.mirrored_commits(repo.path)
        for commit in delete_commits:
            if commit not in commits:
                raise NotFound("no such commit", where=commit)
            if commit in named:
                raise Conflict("a ref names this commit", where=commit, hint="delete or move the ref first")
        kept = _chain(repo, named, depth, commits)
        if not refs_only and keep_younger_than_s is None:
            kept |= commits
        if keep_younger_than_s is not None:
            kept |= {commit for commit in commits if repo.load_commit(commit).timestamp_s >= keep_younger_than_s}
        kept = (kept | (set(keep) & commits)) - set(delete_commits)
        needed: set[tuple[ObjectType, Checksum]] = set()
        for commit in kept:
            loaded = repo.load_commit(commit)
            needed |= {(ObjectType.COMMIT, commit), (ObjectType.COMMITMETA, commit)}
            add_tree(repo, loaded.tree, loaded.meta, needed, partial=repo.is_partial(commit))
        doomed = [item for item in there if item not in needed and item[0] is not ObjectType.TOMBSTONE]
        freed = _remove(repo, doomed, dry_run=dry_run)
        if not dry_run:
            _clean_state(repo, kept)
    return PruneStats(total=_count(there), pruned=_count(doomed), freed_bytes=freed)


def _count(found: list[tuple[ObjectType, Checksum]]) -> int:
    """Counts objects as OSTree does: what stands beside a commit is none."""
    return sum(1 for kind, _ in found if kind is not ObjectType.COMMITMETA)


def _chain(repo: Repository, heads: Collection[Checksum], depth: int, commits: set[Checksum]) -> set[Checksum]:
    """Returns commits with their parents as far as `depth`, those that are there."""
    best: dict[Checksum, int] = {}
    for head in heads:
        left = depth
        current: Checksum | None = head
        while current is not None and current in commits:
            if current in best and (best[current] == -1 or 0 <= left <= best[current]):
                break
            best[current] = left
            if left == 0:
                break
            left = left - 1 if left > 0 else -1
            current = repo.load_commit(current).parent
    return set(best)


def _remove(repo: Repository, doomed: list[tuple[ObjectType, Checksum]], *, dry_run: bool) -> int:
    freed = 0
    first = [item for item in doomed if item[0] is ObjectType.COMMIT]
    rest = [item for item in doomed if item[0] is not ObjectType.COMMIT]
    for batch in (first, rest):
        for kind, checksum in batch:
            path = repo.objects_dir / object_name(kind, checksum, repo.mode)
            try:
                status = os.lstat(path)
                if not dry_run:
                    os.unlink(path)
            except FileNotFoundError:
                continue
            freed += status.st_size if status.st_nlink == 1 else 0
            reach("store.prune.object")
        if batch and not dry_run:
            repo.sync()
    return freed


def _clean_state(repo: Repository, kept: set[Checksum]) -> None:
    for path in (repo.path / "state").glob("*.commitpartial"):
        if path.name.partition(".")[0] not in kept:
            path.unlink(missing_ok=True)
    oldest = time.time() - repo.config.get_int("core", "tmp-expiry-secs", TMP_EXPIRY_S)
    transaction.cleanup(repo.path, expired=lambda path: _is_old(path, oldest))


def _is_old(path: Path, oldest: float) -> bool:
    if path.name == "wherry-parts":
        for part in path.iterdir():
            if part.stat().st_mtime < oldest:
                part.unlink(missing_ok=True)
        return False
    return os.lstat(path).st_mtime < oldest
