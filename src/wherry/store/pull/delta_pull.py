"""Static deltas of a remote in a pull: which there are, their superblocks, and their parts applied as they come.

What a delta does not bring, or brings wrong, is left to the scan that comes after it: a delta is never needed, unless
the caller says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.core.trace import reach
from wherry.store.format import objects
from wherry.store.format.objects import ObjectType
from wherry.store.pull.delta_choice import choose_delta
from wherry.store.pull.downloads import Download
from wherry.store.pull.web import Web
from wherry.store.static_delta import names
from wherry.store.static_delta.apply import apply_part, has_all
from wherry.store.static_delta.index import KEY, MAX_INDEX_BYTES, parse_deltas, parse_index
from wherry.store.static_delta.names import DeltaName
from wherry.store.static_delta.superblock import MAX_SUPERBLOCK_BYTES, PartHeader, Superblock, parse_superblock
from wherry.store.summary import Summary

if TYPE_CHECKING:
    from wherry.store.disk.transaction import Transaction
    from wherry.store.pull.scan import Scan
    from wherry.store.repository import Repository

_INDEXED = "ostree.summary.indexed-deltas"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaTotals:
    """What deltas come to."""

    parts: int = 0
    parts_here: int = 0
    size_bytes: int = 0
    unpacked_bytes: int = 0


class RemoteDeltas:
    """The deltas of a remote.

    Args:
        web: the remote.
        summary: its summary; without one there are none.
        asked: called for each file that is asked for.
    """

    def __init__(self, web: Web, summary: Summary | None, asked: Callable[[], None]) -> None:
        self._web = web
        self._summary = summary
        self._asked = asked

    def available(self, target: Checksum) -> dict[DeltaName, bytes]:
        """Returns the deltas that lead to a commit, with the SHA-256 of their superblocks.

        Raises:
            InvalidInput: what the remote says of them is malformed.
        """
        if self._summary is None:
            return {}
        listed = self._summary.metadata.get(KEY)
        found = parse_deltas(listed, where=f"summary of {self._web.name}") if listed is not None else {}
        if self._summary.metadata.get(_INDEXED) is True:
            self._asked()
            try:
                data = self._web.read(names.index_path(target), MAX_INDEX_BYTES).body
            except NotFound:
                data = b""
            found |= parse_index(data, where=f"delta index of {target}")
        return {name: digest for name, digest in found.items() if name[1] == target}

    def superblock(self, repo: Repository, target: Checksum, current: Checksum | None) -> Superblock | None:
        """Returns the superblock of the best delta to a commit; None when there is none, or the commit is here.

        Raises:
            IntegrityError: it is not the one that the summary or the index names.
            InvalidInput: malformed.
        """

        def whole(commit: Checksum) -> bool:
            return repo.has(ObjectType.COMMIT, commit) and not repo.is_partial(commit)

        available = self.available(target)
        choice = choose_delta(
            target, current, available, whole=whole, timestamp_s=lambda commit: repo.load_commit(commit).timestamp_s
        )
        if choice.delta is None:
            return None
        self._asked()
        path = names.delta_path(*choice.delta)
        data = self._web.read(path, MAX_SUPERBLOCK_BYTES).body
        if hashlib.sha256(data).digest() != available[choice.delta]:
            raise IntegrityError("Invalid checksum for static delta", where=names.delta_name(*choice.delta))
        found = parse_superblock(data, where=path)
        if (found.origin, found.target) != choice.delta:
            raise IntegrityError("a static delta is not the one that its name says", where=path)
        return found


def totals(repo: Repository, deltas: Iterable[Superblock]) -> DeltaTotals:
    """Returns what deltas come to, and how much of that is here."""
    parts = here = size = unpacked = 0
    for delta in deltas:
        parts += len(delta.parts)
        here += sum(has_all(repo, part) for part in delta.parts)
        size += delta.size_bytes
        unpacked += delta.unpacked_bytes
    return DeltaTotals(parts=parts, parts_here=here, size_bytes=size, unpacked_bytes=unpacked)


def want_delta(transaction: Transaction, scan: Scan, delta: Superblock) -> None:
    """Has the parts of a delta fetched and applied, and what it leaves out; its commit is written first.

    The caller has checked whose commit it is, and marked it partial.
    """
    if delta.parents:
        raise InvalidInput("a delta that needs other deltas applied before", where=delta.name)
    repo = transaction.repo
    transaction.write_metadata(ObjectType.COMMIT, delta.commit_bytes, delta.target)
    if delta.detached is not None:
        objects.parse_dict(delta.detached, where="detached metadata in a delta")
        transaction.write_metadata(ObjectType.COMMITMETA, delta.detached, delta.target)
    for item in delta.fallbacks:
        if item.kind is ObjectType.FILE:
            scan.want_file(item.checksum)  # metadata is left to the scan
    downloads = scan.downloads
    assert downloads is not None  # noqa: S101 deltas come over the network
    for part in delta.parts:
        if has_all(repo, part):
            continue
        if part.inline is not None:
            downloads.submit(_applier(transaction, part))
            scan.counts.parts_fetched += 1
            continue
        downloads.want(_part_download(transaction, scan, delta, part))


def _applier(transaction: Transaction, part: PartHeader) -> Callable[[], None]:
    def apply() -> None:
        apply_part(transaction, part)
        reach("store.delta.part")

    return apply


def _part_download(transaction: Transaction, scan: Scan, delta: Superblock, part: PartHeader) -> Download:
    def use(data: bytes) -> None:
        apply_part(transaction, part, data)
        reach("store.delta.part")

    def done(_: bytes | None) -> None:
        scan.counts.parts_fetched += 1

    return Download(
        path=names.delta_path(delta.origin, delta.target, str(part.index)),
        max_bytes=part.size_bytes,
        content=True,
        done=done,
        use=use,
        consumer=lambda: _PartConsumer(transaction, part),
        part_name=f"{part.checksum}.part",
        label=f"part {part.index} of static delta {delta.name}",
    )


class _PartConsumer:
    """Applies a part once it lies on the disk as a whole."""

    def __init__(self, transaction: Transaction, part: PartHeader) -> None:
        self._transaction = transaction
        self._part = part
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._part.size_bytes:
            raise InvalidInput("a part of a delta is longer than its superblock says")

    @property
    def complete(self) -> bool:
        return self._size == self._part.size_bytes

    def finish(self, path: str) -> None:
        with open(path, "rb") as file:
            apply_part(self._transaction, self._part, file)
        reach("store.delta.part")

    def close(self) -> None:
        """Nothing is open."""
