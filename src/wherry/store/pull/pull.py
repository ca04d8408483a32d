"""Pulling commits from a remote: refs, or commits by their checksums, over HTTP or from this machine.

::

    address, mirrors  ->  summary (kept, checked)  ->  which commits  ->  deltas, where there are any that fit
        ->  scan: commit, signature, tree, files  ->  complete  ->  refs

What has arrived is kept: it is checked, then synced and published every few seconds, so that neither an error, nor
Ctrl-C, nor a power cut has it fetched twice. Nobody's bytes are trusted: each object is hashed as it arrives, and a
commit's signature, bindings and time are checked before anything of its tree is asked for. A ref moves when nothing of
its commit is missing, or when the caller wants only a part. Step by step: docs/internals/pull.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.durable import remove_file, write_file
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.core.transfer import SETTINGS, Transfers, TransferSettings
from wherry.store.disk.receive import RULES, Rules
from wherry.store.format import objects
from wherry.store.format.bindings import check_bindings, check_newer
from wherry.store.format.objects import ObjectType
from wherry.store.pull.adopt import Source
from wherry.store.pull.delta_pull import DeltaTotals, RemoteDeltas, totals, want_delta
from wherry.store.pull.downloads import PARALLEL, RETRIES, Limits
from wherry.store.pull.local import pull_local
from wherry.store.pull.planned import Plan, RemotePull, Verify
from wherry.store.pull.remote import Remote, cookie_path
from wherry.store.pull.scan import Arrived, Paths, Scan, ScanOptions
from wherry.store.pull.session import Session
from wherry.store.pull.stats import Counts, PullStats
from wherry.store.pull.summary_cache import Fetched, SummaryCache, fetch_summary
from wherry.store.pull.targets import Target, find_targets
from wherry.store.pull.trust import RemoteTrust, remote_trust
from wherry.store.pull.web import Web, local_path, transfer_settings
from wherry.store.refs import CollectionRef, parse_ref
from wherry.store.tree.walk import split_path

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.repository import Repository
    from wherry.store.static_delta.superblock import Superblock

__all__ = [
    "Plan",
    "PullOptions",
    "PullResult",
    "PullStats",
    "RemotePull",
    "Verify",
    "pull",
    "pull_local",
    "read_remote_summary",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """What a pull does, and what it may take."""

    mirror: bool = False
    """Refs are written as they are there; all of them when none is named, with the summary."""
    depth: int = 0
    """How many parents of each commit too; -1 for all that the remote has."""
    commits_only: bool = False
    subpaths: tuple[str, ...] = ()
    """Only these of each tree; the commits stay partial."""
    url: str = ""
    """Instead of the remote's own address."""
    deltas: bool = True
    require_deltas: bool = False
    dry_run: bool = False
    """Only says what the deltas come to."""
    untrusted: bool = False
    """Checks also what comes from this machine."""
    rules: Rules = RULES
    verify_bindings: bool = True
    verify_signatures: bool = True
    timestamp_check: bool = False
    """A commit must not be older than the one that its ref names."""
    timestamp_check_from: Checksum | None = None
    """A commit must not be older than this one."""
    caches: tuple[Repository, ...] = ()
    """Repositories on this machine that are asked first."""
    transfer: TransferSettings = SETTINGS
    retries: int = RETRIES
    max_bytes: int = 0
    """Over the network; 0: no limit."""
    parallel: int = PARALLEL
    cache_dir: Path | None = None
    """Where the summary is kept; None: in the repository."""
    use_cache: bool = True
    sync: bool = True
    """False: nothing is synced, for repositories that can be made again."""
    allow_dummy: bool = False
    tell_s: float = 0.1
    """How often progress is told."""

    @property
    def paths(self) -> Paths:
        """The subpaths, split; None for everything."""
        return tuple(split_path(path) for path in self.subpaths) if self.subpaths else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullResult:
    """What a pull did."""

    stats: PullStats
    deltas: DeltaTotals | None = None
    """Of a dry run."""
    local: bool = False
    """Nothing was asked for over a network."""
    verified: tuple[str, ...] = ()
    """What to say about signatures that were found good."""
    targets: tuple[Target, ...] = ()
    delta_failed: str = ""
    """Why a delta was given up for single objects."""


def pull(
    repo: Repository,
    remote: Remote,
    names: Sequence[str] = (),
    options: PullOptions | None = None,
    *,
    progress: Progress = QUIET,
) -> PullResult:
    """Pulls from a remote.

    Args:
        repo: where to.
        remote: where from.
        names: refs, ``REF@COMMIT``, or checksums of commits; none: what the remote's section names, or all of a mirror.
        options: how.
        progress: is told how far it is.

    Returns:
        What it did.

    Raises:
        NotFound: there is no such ref, or the remote lacks something.
        IntegrityError: something came damaged twice.
        TrustError: a commit or the summary is not signed or bound as it should be, or is too old.
        NetworkError: no answer after several tries; what has come is kept.
        NoSpace: the disk is full, or would be.
        Unsupported: the remote cannot be pulled from.
    """
    return _Pull(repo, remote, options or PullOptions(), progress).run(names)


class _Pull:
    def __init__(self, repo: Repository, remote: Remote, options: PullOptions, progress: Progress) -> None:
        self._repo = repo
        self._remote = remote
        self._options = options
        self._progress = progress
        self._counts = Counts()
        self._verified: list[str] = []
        self._targets: tuple[Target, ...] = ()
        self._delta_failed = ""
        self._began_s = time.monotonic()
        self._refetched: list[str] = []

    def run(self, names: Sequence[str]) -> PullResult:
        remote, options = self._remote, self._options
        if remote.get("unconfigured-state"):
            raise Unsupported(f"remote unconfigured-state: {remote.get('unconfigured-state')}", where=remote.name)
        if remote.get("custom-backend"):
            raise Unsupported(f"remote '{remote.name}' uses custom backend '{remote.get('custom-backend')}'")
        if options.require_deltas and self._repo.mode is objects.Mode.ARCHIVE:
            raise Unsupported("Can't use static deltas in an archive repo", where=self._repo.path)
        url = options.url or remote.url
        local = local_path(url)
        trust = self._trust(local is not None)
        settings = transfer_settings(remote, options.transfer, cookie_file=self._cookies())
        if local is not None:
            settings = replace(settings, files=True)
        transfers = Transfers(settings, parallel=options.parallel)
        try:
            web = Web(transfers, url, remote.get("contenturl") if not options.url else "", retries=options.retries)
            here = None if local is None or options.require_deltas else _open(local)
            return self._pull(names, web, transfers, trust, here)
        finally:
            transfers.close()

    def _trust(self, local: bool) -> RemoteTrust:
        if not self._options.verify_signatures:
            return RemoteTrust(name=self._remote.name)
        return remote_trust(self._remote, local=local, allow_dummy=self._options.allow_dummy)

    def _cookies(self) -> Path | None:
        return cookie_path(self._repo, self._remote.name) if self._remote.name else None

    def _cache(self) -> SummaryCache | None:
        options = self._options
        if not options.use_cache or not self._remote.name or options.url:
            return None
        return SummaryCache(options.cache_dir or self._repo.path / "tmp/cache", self._remote.name)

    def _pull(
        self, names: Sequence[str], web: Web, transfers: Transfers, trust: RemoteTrust, here: Repository | None
    ) -> PullResult:
        repo, options = self._repo, self._options
        found = find_targets(
            web, self._remote, names, mirror=options.mirror, trust=trust, cache=self._cache(), local=here is not None
        )
        self._targets = found.targets
        self._trusted = trust
        deltas: list[Superblock] = []
        wants_deltas = options.deltas and here is None and not options.mirror and not options.commits_only
        if wants_deltas and repo.mode is not objects.Mode.ARCHIVE and not options.subpaths:
            deltas = self._find_deltas(RemoteDeltas(web, found.summary, self._asked))
        if options.dry_run:
            return self._result(transfers, totals(repo, deltas), local=here is not None)
        with _unsynced(repo, not options.sync), repo.transaction() as transaction:
            session = Session(
                transaction, transfers, web.mirrors, self._limits(), self._progress, tell_s=options.tell_s
            )
            if deltas:
                self._apply(session, transaction, transfers, deltas)
            sources = [Source(cache, transaction, untrusted=options.untrusted, rules=options.rules)
                       for cache in options.caches]  # fmt: skip
            if here is not None:
                sources.append(Source(here, transaction, untrusted=options.untrusted, rules=options.rules))
            scan = self._scan(transaction, sources, tombstones=found.tombstones)
            for target in found.targets:
                scan.want(target.commit, depth=options.depth)
            session.run(scan, network=here is None)
            self._refetched += session.refetched
            transaction.checkpoint(last=True)
            if not options.commits_only and not options.subpaths:
                for commit in scan.taken:
                    reach("store.pull.complete")
                    repo.mark_complete(commit)
            self._set_refs(transaction)
        if options.mirror and not names and found.summary_bytes is not None:
            _keep_summary(repo, found.summary_bytes, found.signature_bytes)
        return self._result(transfers, None, local=here is not None)

    def _limits(self) -> Limits:
        return Limits(retries=self._options.retries, max_bytes=self._options.max_bytes)

    def _scan(self, transaction: Transaction, sources: Sequence[Source], *, tombstones: bool = False) -> Scan:
        options = self._options
        scan_options = ScanOptions(
            commits_only=options.commits_only, paths=options.paths, rules=options.rules, tombstones=tombstones
        )
        return Scan(transaction, sources, check=self._check, options=scan_options, counts=self._counts)

    def _asked(self) -> None:
        self._counts.metadata_fetched += 1

    # --- deltas

    def _find_deltas(self, remote: RemoteDeltas) -> list[Superblock]:
        repo, required = self._repo, self._options.require_deltas
        found: dict[Checksum, Superblock] = {}
        for target in self._targets:
            if repo.has(ObjectType.COMMIT, target.commit) and not repo.is_partial(target.commit):
                continue
            if target.commit in found:
                continue
            current = self._current(target)
            try:
                delta = remote.superblock(repo, target.commit, current)
            except (NotFound, IntegrityError, InvalidInput) as error:
                if required:
                    raise
                self._delta_failed = str(error)
                continue
            if delta is not None:
                found[target.commit] = delta
            elif required:
                raise NotFound(
                    f"Static deltas required, but none found for {current or '(none)'} to {target.commit}",
                    hint="pull without --require-static-deltas",
                )
        return list(found.values())

    def _apply(
        self, session: Session, transaction: Transaction, transfers: Transfers, deltas: Sequence[Superblock]
    ) -> None:
        """Applies deltas; a bad one is given up, unless deltas are required."""
        scan = self._scan(transaction, [])
        try:
            with session.downloading(scan):
                for delta in deltas:
                    commit = objects.parse_commit(delta.commit_bytes, where=delta.target)
                    arrived = Arrived(checksum=delta.target, commit=commit, data=delta.commit_bytes,
                                      detached=delta.detached, wanted=True)  # fmt: skip
                    self._check(arrived)
                    if not self._repo.has(ObjectType.COMMIT, delta.target):
                        self._repo.mark_partial(delta.target)
                        reach("store.pull.partial")
                    want_delta(transaction, scan, delta)
        except (NotFound, IntegrityError, InvalidInput) as error:
            if self._options.require_deltas:
                raise
            self._delta_failed = str(error)
            transfers.cancel()

    # --- commits

    def _current(self, target: Target) -> Checksum | None:
        """Returns what the ref of a target names here."""
        if target.ref is None:
            return None
        for name in (f"{self._remote.name}:{target.ref}", target.ref):
            found = self._repo.refs(name).get(parse_ref(name)) if not name.startswith(":") else None
            if found is not None:
                return found
        return None

    def _check(self, arrived: Arrived) -> None:
        """Decides whether a commit is taken."""
        options = self._options
        detached = objects.parse_dict(arrived.detached, where=arrived.checksum) if arrived.detached else {}
        said = self._trusted.check_commit(arrived.checksum, arrived.data, detached)
        if said:
            self._verified.append(said)
        if not arrived.wanted:
            return
        base = options.timestamp_check_from
        if base is not None:
            check_newer(arrived.checksum, arrived.commit, base, self._repo.load_commit(base))
        for target in self._targets:
            if target.commit != arrived.checksum:
                continue
            if options.verify_bindings:
                check_bindings(arrived.checksum, arrived.commit, ref=target.ref, collection=self._remote.collection_id)
            current = self._current(target) if options.timestamp_check else None
            if current is not None and self._repo.has(ObjectType.COMMIT, current):
                check_newer(arrived.checksum, arrived.commit, current, self._repo.load_commit(current))

    def _set_refs(self, transaction: Transaction) -> None:
        for target in self._targets:
            if target.ref is None:
                continue
            if self._options.mirror and self._remote.collection_id:
                transaction.set_collection_ref(CollectionRef(self._remote.collection_id, target.ref), target.commit)
            elif self._options.mirror or not self._remote.name:
                transaction.set_ref(parse_ref(target.ref), target.commit)
            else:
                transaction.set_ref(parse_ref(f"{self._remote.name}:{target.ref}"), target.commit)

    def _result(self, transfers: Transfers, deltas: DeltaTotals | None, *, local: bool) -> PullResult:
        stats = PullStats(
            counts=self._counts,
            bytes_received=transfers.bytes_received if not local else 0,
            refetched=tuple(self._refetched),
            requests=transfers.requests,
            seconds=time.monotonic() - self._began_s,
        )
        return PullResult(
            stats=stats,
            deltas=deltas,
            local=local,
            verified=tuple(dict.fromkeys(self._verified)),
            targets=self._targets,
            delta_failed=self._delta_failed,
        )


def read_remote_summary(
    repo: Repository,
    remote: Remote,
    *,
    transfer: TransferSettings = SETTINGS,
    cache_dir: Path | None = None,
    use_cache: bool = True,
    allow_dummy: bool = False,
) -> Fetched:
    """Returns the summary of a remote, checked as its section wants.

    Raises:
        NotFound: it has none.
        TrustError: it is not signed as it should be.
        NetworkError: no answer.
    """
    local = local_path(remote.url) is not None
    settings = transfer_settings(remote, transfer, cookie_file=cookie_path(repo, remote.name))
    transfers = Transfers(replace(settings, files=local))
    try:
        web = Web(transfers, remote.url)
        trust = remote_trust(remote, local=local, allow_dummy=allow_dummy)
        cache = SummaryCache(cache_dir or repo.path / "tmp/cache", remote.name) if use_cache else None
        found = fetch_summary(
            lambda path, limit, headers: web.read(path, limit, headers=headers), cache, trust, where=web.name
        )
    finally:
        transfers.close()
    if found is None:
        raise NotFound("Remote refs not available; server has no summary file", where=remote.name)
    return found


def _open(path: Path) -> Repository:
    from wherry.store.repository import Repository

    return Repository.open(path)


@contextmanager
def _unsynced(repo: Repository, active: bool) -> Iterator[None]:
    """Leaves the syncs out."""
    before = repo.fsync
    repo.fsync = repo.fsync and not active
    try:
        yield
    finally:
        repo.fsync = before


def _keep_summary(repo: Repository, data: bytes, signatures: bytes | None) -> None:
    """Writes the remote's summary into a mirror."""
    remove_file(repo.path / "summary.sig")
    write_file(repo.path / "summary", data)
    if signatures is not None:
        write_file(repo.path / "summary.sig", signatures)
