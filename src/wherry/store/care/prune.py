"""Removing what nothing needs any more. What is kept: all that the chosen commits reach, and nothing else.

Commits that are mounted, and those of ``extensions/wherry/keep/`` (``keep.py``), are kept like those that refs name.

The repository's lock is held alone meanwhile, so that no transaction counts on an object that goes. Commits go first,
durably, then the rest: a crash in between never leaves a commit without its objects. With commits that are gone go the
static deltas to them, their images and partial marks, leftovers in ``tmp/``, and empty folders of ``objects/``.

Memory: about 100 bytes for each object that is kept, nothing for those that go.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict, NotFound, Unsupported
from wherry.core.trace import reach
from wherry.store import refs
from wherry.store.care.keep import kept_commits
from wherry.store.disk import payload, staging
from wherry.store.disk.objectset import ObjectSet
from wherry.store.format.objects import Mode, ObjectType, object_name
from wherry.store.mount.seen import mounted_commits
from wherry.store.tree.walk import add_tree

if TYPE_CHECKING:
    from wherry.store.repository import Repository

TMP_EXPIRY_S = 86400
"""Leftovers in ``tmp/``, parts of broken transfers among them, go after this time (OSTree's tmp-expiry-secs)."""
_UNCOUNTED = (ObjectType.COMMITMETA, ObjectType.TOMBSTONE)
"""What stands beside a commit or in its place is none of the objects that OSTree counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStats:
    """What was found and removed."""

    total: int
    pruned: int
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which commits are kept, beside those that ``prune`` is told by name."""

    refs_only: bool = False
    """Only what refs reach; else every commit, and only stray objects go. The fields below imply it."""
    depth: int = -1
    """How many parents of each ref's commit are kept; -1: all."""
    younger_than_s: int | None = None
    """Of each ref, its commit, and its parents up to the first that was made before this time (since 1970)."""
    branch_depth: Mapping[str, int] = field(default_factory=dict)
    """Other depths for certain refs, by name."""
    only_branches: Collection[str] = ()
    """Only these refs lose parents; all others keep all of theirs."""

    @property
    def by_refs(self) -> bool:
        """Whether a commit without a ref goes."""
        return bool(self.refs_only or self.younger_than_s is not None or self.branch_depth or self.only_branches)


def prune(
    repo: Repository,
    *,
    refs_only: bool = False,
    depth: int = -1,
    keep: Collection[Checksum] = (),
    keep_younger_than_s: int | None = None,
    branch_depth: Mapping[str, int] | None = None,
    only_branches: Collection[str] = (),
    delete_commits: Collection[Checksum] = (),
    commit_only: bool = False,
    dry_run: bool = False,
) -> PruneStats:
    """Removes the objects that no kept commit needs.

    Args:
        repo: the repository.
        refs_only: only what refs reach, and `keep`; else every commit is kept, and only stray objects go.
        depth: how many parents of each ref's commit are kept; -1: all.
        keep: further commits that are kept, with all they need (their parents are not).
        keep_younger_than_s: see ``Keep.younger_than_s``; implies `refs_only`, as do the next two.
        branch_depth: see ``Keep.branch_depth``.
        only_branches: see ``Keep.only_branches``.
        delete_commits: these go.
        commit_only: only commits go, no other objects (quick; a later prune removes those).
        dry_run: only counts.

    Returns:
        How much there was, and how much went.

    Raises:
        Conflict: a ref names one of `delete_commits`.
        NotFound: one of them is not there, or one of `only_branches`.
        Unsupported: the repository's mode is only read.
    """
    if repo.mode is Mode.BARE_SPLIT_XATTRS and not dry_run:
        raise Unsupported("a bare-split-xattrs repository can be read, not pruned", where=repo.path)
    choice = Keep(
        refs_only=refs_only,
        depth=depth,
        younger_than_s=keep_younger_than_s,
        branch_depth=branch_depth or {},
        only_branches=only_branches,
    )
    for branch in only_branches:
        repo.resolve(branch)
    with repo.lock(shared=dry_run):
        return _Prune(repo, dry_run=dry_run, commit_only=commit_only).run(choice, keep, delete_commits)


def prune_deltas(repo: Repository, target: Checksum | None = None, *, dry_run: bool = False) -> int:
    """Removes static deltas: those to one commit, or those to commits that are not there any more.

    Returns:
        How many.
    """
    with repo.lock(shared=False):
        return _prune_deltas(repo, target, dry_run=dry_run)


def _prune_deltas(repo: Repository, target: Checksum | None, *, dry_run: bool) -> int:
    from wherry.store.static_delta import names

    def doomed(commit: Checksum) -> bool:
        return commit == target if target else not repo.has(ObjectType.COMMIT, commit)

    found = [name for name in names.list_deltas(repo) if doomed(name[1])]
    indexes = [commit for commit in names.list_indexes(repo) if doomed(commit)]
    if not dry_run:
        for name in found:
            names.delete_delta(repo, name)
        for commit in indexes:
            (repo.path / names.index_path(commit)).unlink(missing_ok=True)
    return len(found)


class _Prune:
    def __init__(self, repo: Repository, *, dry_run: bool, commit_only: bool) -> None:
        self._repo = repo
        self._dry_run = dry_run
        self._commit_only = commit_only
        self._total = self._pruned = self._freed = 0

    def run(self, choice: Keep, keep: Collection[Checksum], delete_commits: Collection[Checksum]) -> PruneStats:
        repo = self._repo
        mounted = mounted_commits()
        named = set(repo.refs().values()) | set(refs.list_mirrors(repo.path).values())
        for commit in delete_commits:
            if not (repo.objects_dir / object_name(ObjectType.COMMIT, commit, repo.mode)).exists():
                raise NotFound(f"No such commit {commit}", where=repo.path)
            if commit in named:
                raise Conflict(f"Commit '{commit}' is referenced by a ref", hint="delete or move the ref first")
            if commit in mounted:
                raise Conflict(f"Commit '{commit}' is mounted", where=mounted[commit], hint="unmount it first")
        there = ObjectSet((ObjectType.COMMIT, commit) for commit in repo.commits())
        gone = ObjectSet((ObjectType.COMMIT, commit) for commit in delete_commits)
        kept = self._chosen(choice, gone)
        others = there.of(ObjectType.COMMIT) if not choice.by_refs else (*keep, *mounted, *kept_commits(repo))
        kept.update((ObjectType.COMMIT, commit) for commit in others)
        kept = ObjectSet(item for item in kept if item in there and item not in gone)
        needed = self._needed(kept)
        for commit in there.of(ObjectType.COMMIT):
            self._total += 1
            if (ObjectType.COMMIT, commit) not in needed:
                self._remove(ObjectType.COMMIT, commit)
        if self._pruned and not self._dry_run:
            repo.sync()  # before anything that they need goes
        del there
        if not self._commit_only:
            self._remove_others(needed)
        if not self._dry_run:
            repo.sync()
            self._clean(kept)
        return PruneStats(total=self._total, pruned=self._pruned, freed_bytes=self._freed)

    def _chosen(self, choice: Keep, gone: ObjectSet) -> ObjectSet:
        """Returns the commits that refs keep."""
        found = ObjectSet()
        best: dict[Checksum, int] = {}
        for ref, commit in self._repo.refs().items():
            depth = choice.branch_depth.get(ref)
            if depth is None and choice.only_branches and ref not in choice.only_branches:
                depth = -1
            if depth is None and choice.younger_than_s is not None:
                self._follow_young(commit, choice.younger_than_s, found, gone)
            else:
                self._follow(commit, choice.depth if depth is None else depth, best, gone)
        for commit in refs.list_mirrors(self._repo.path).values():
            self._follow(commit, choice.depth, best, gone)
        found.update((ObjectType.COMMIT, commit) for commit in best)
        return found

    def _follow(self, commit: Checksum, left: int, best: dict[Checksum, int], gone: ObjectSet) -> None:
        """Notes a commit and its parents; `best` says for each how many further parents were asked for."""
        current: Checksum | None = commit
        while current is not None and (ObjectType.COMMIT, current) not in gone:
            if current in best and (best[current] == -1 or 0 <= left <= best[current]):
                return
            try:
                parent = self._repo.load_commit(current).parent
            except NotFound:
                return
            best[current] = left
            if left == 0:
                return
            left = left - 1 if left > 0 else -1
            current = parent

    def _follow_young(self, commit: Checksum, since_s: int, found: ObjectSet, gone: ObjectSet) -> None:
        current: Checksum | None = commit
        while current is not None and (ObjectType.COMMIT, current) not in gone:
            try:
                loaded = self._repo.load_commit(current)
            except NotFound:
                return
            if current != commit and loaded.timestamp_s < since_s:
                return
            found.add((ObjectType.COMMIT, current))
            current = loaded.parent if loaded.timestamp_s >= since_s else None

    def _needed(self, kept: ObjectSet) -> ObjectSet:
        needed = ObjectSet(kept)
        for _, commit in kept:
            needed.add((ObjectType.COMMITMETA, commit))
            if not self._commit_only:
                loaded = self._repo.load_commit(commit)
                add_tree(self._repo, loaded.tree, loaded.meta, needed, partial=self._repo.is_partial(commit))
        return needed

    def _remove_others(self, needed: ObjectSet) -> None:
        """Removes what is no commit and not needed."""
        digests = {kind: needed.digests(kind) for kind in ObjectType}
        for kind, checksum in self._repo.list_objects():
            if kind is ObjectType.COMMIT:
                continue
            self._total += kind not in _UNCOUNTED
            if bytes.fromhex(checksum) in digests[kind] or kind is ObjectType.TOMBSTONE:
                continue
            if not self._holds_link(kind, checksum, needed):
                self._remove(kind, checksum)

    def _remove(self, kind: ObjectType, checksum: Checksum) -> None:
        repo = self._repo
        self._pruned += kind not in _UNCOUNTED
        if self._dry_run:
            status = os.lstat(repo.objects_dir / object_name(kind, checksum, repo.mode))
            self._freed += status.st_size if status.st_nlink == 1 else 0
        else:
            self._freed += repo.delete_object(kind, checksum)
            reach("store.prune.object")

    def _holds_link(self, kind: ObjectType, checksum: Checksum, needed: ObjectSet) -> bool:
        """Tells whether it is a payload link to a file that is kept."""
        if kind is not ObjectType.PAYLOAD_LINK:
            return False
        target = payload.link_target(self._repo.objects_dir / object_name(kind, checksum, self._repo.mode))
        return target is not None and (ObjectType.FILE, target) in needed

    def _clean(self, kept: ObjectSet) -> None:
        repo = self._repo
        _prune_deltas(repo, None, dry_run=False)
        _clean_summaries(repo)
        if (repo.path / "extensions" / "wherry").is_dir():
            from wherry.store.mount.images import prune_images

            prune_images(repo, lambda commit: (ObjectType.COMMIT, commit) in kept)
        for path in (repo.path / "state").glob("*.commitpartial"):
            if (ObjectType.COMMIT, Checksum(path.name.partition(".")[0])) not in kept:
                path.unlink(missing_ok=True)
        oldest = time.time() - repo.config.get_int("core", "tmp-expiry-secs", TMP_EXPIRY_S)
        staging.cleanup(repo.path, expired=lambda path: _is_old(path, oldest))
        for entry in os.scandir(repo.objects_dir):
            if len(entry.name) == 2 and entry.is_dir(follow_symlinks=False):
                try:
                    os.rmdir(entry.path)
                except OSError:
                    continue  # it is not empty


def _clean_summaries(repo: Repository) -> None:
    """Removes the summaries that were kept of remotes that the config does not name any more."""
    try:
        cached = list((repo.path / "tmp" / "cache" / "summaries").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    if cached:
        from wherry.store.pull.remote import list_remotes

        remotes = set(list_remotes(repo))
        for path in cached:
            if path.name.removesuffix(".sig") not in remotes and path.name not in remotes:
                path.unlink(missing_ok=True)


def _is_old(path: Path, oldest: float) -> bool:
    if path.name == "wherry-parts":
        for part in path.iterdir():
            if part.stat().st_mtime < oldest:
                part.unlink(missing_ok=True)
        return False
    return os.lstat(path).st_mtime < oldest
