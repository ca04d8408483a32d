"""Pulling commits from another repository on this machine, by hard links where modes and file system allow.

A linked object is trusted as it lies there; with `untrusted`, as between repositories of different owners, every
object is copied and its hash checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Ref, is_checksum
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.store.disk.receive import RULES, Rules
from wherry.store.format.bindings import check_bindings
from wherry.store.pull.adopt import Copies, Source
from wherry.store.pull.scan import Arrived, Scan, ScanOptions
from wherry.store.pull.stats import Counts, PullStats
from wherry.store.refs import parse_ref
from wherry.store.summary import leaves_tombstones

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_TELL_S = 0.1


def pull_local(
    dest: Repository,
    src: Repository,
    revs: Iterable[str] | None = None,
    *,
    remote: str = "",
    depth: int = 0,
    untrusted: bool = False,
    commits_only: bool = False,
    rules: Rules = RULES,
    verify_bindings: bool = False,
    progress: Progress = QUIET,
) -> PullStats:
    """Copies commits.

    Args:
        dest: where to.
        src: where from.
        revs: refs, which are set in `dest` too, or checksums; None: every local ref of `src`.
        remote: the refs are set as ``REMOTE:REF``.
        depth: how many parents of each too; -1 for all that are there.
        untrusted: copy and check, do not link.
        commits_only: commits without their trees.
        rules: what is asked of files.
        verify_bindings: whether commits must have been made for the refs that they are pulled for.
        progress: is told how many objects are done.

    Returns:
        What it took.

    Raises:
        NotFound: `src` lacks something.
        Conflict: `src` has the commit only in part.
        IntegrityError: an object of `src` is damaged.
        TrustError: a commit was made for other refs.
    """
    began_s = time.monotonic()
    moved: dict[Ref, Checksum] = {}
    made_for: dict[Checksum, list[str]] = {}
    for rev in revs if revs is not None else [ref for ref in src.refs() if ":" not in ref]:
        commit = src.resolve(rev)
        names = made_for.setdefault(commit, [])
        if not is_checksum(rev):
            name = rev.rpartition(":")[2]
            names.append(name)
            moved[parse_ref(f"{remote}:{name}" if remote else name)] = commit

    def check(arrived: Arrived) -> None:
        for name in made_for.get(arrived.checksum, ()) if verify_bindings else ():
            check_bindings(arrived.checksum, arrived.commit, ref=name, collection=src.collection_id)

    counts = Counts()
    with dest.transaction() as transaction:
        source = Source(src, transaction, untrusted=untrusted, rules=rules)
        tombstones = depth != 0 and leaves_tombstones(src)
        options = ScanOptions(commits_only=commits_only, rules=rules, tombstones=tombstones)
        scan = Scan(transaction, (source,), check=check, options=options, counts=counts)
        for commit in made_for:
            scan.want(commit, depth=depth)
        told_s = 0.0
        with Copies(scan.written) as scan.copies:
            while scan.work():
                if time.monotonic() - told_s > _TELL_S:
                    told_s = time.monotonic()
                    progress.update("copying objects", counts.content_imported, None, unit="objects")
            scan.copies.finish()
        transaction.checkpoint(last=True)
        if not commits_only:
            for commit in scan.taken:
                reach("store.pull.complete")
                dest.mark_complete(commit)
        for ref, commit in moved.items():
            transaction.set_ref(ref, commit)
    return PullStats(
        counts=counts,
        bytes_received=counts.content_bytes,
        linked=source.linked,
        seconds=time.monotonic() - began_s,
    )
