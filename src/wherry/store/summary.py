"""The summary: one file that lists the refs of a repository for those who pull over HTTP.

``(a(s(taya{sv}))a{sv})``: for each ref, sorted, its name, the size of its commit object, its commit, and metadata; then
metadata of the whole. Times are big-endian; the size is not, as OSTree writes it (in the host's order).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import write_file
from wherry.core.errors import InvalidInput
from wherry.core.trace import reach
from wherry.store import variant
from wherry.store.objects import Mode, ObjectType
from wherry.store.variant import Variant

if TYPE_CHECKING:
    from wherry.store.repository import Repository

SUMMARY_TYPE = "(a(s(taya{sv}))a{sv})"
MAX_REFS = 100_000
_TIMESTAMP = "ostree.commit.timestamp"
_VERSION = "ostree.commit.version"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryEntry:
    """One ref."""

    ref: Ref
    commit: Checksum
    commit_bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def timestamp_s(self) -> int | None:
        """When the commit was made, if the summary says so."""
        value = self.metadata.get(_TIMESTAMP)
        return swap64(value) if isinstance(value, int) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A parsed summary."""

    refs: tuple[SummaryEntry, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def parse_summary(data: bytes, *, where: object = None) -> Summary:
    """Returns a summary.

    Raises:
        InvalidInput: malformed.
    """
    refs, metadata = variant.decode(SUMMARY_TYPE, data, where=where)
    if len(refs) > MAX_REFS:
        raise InvalidInput(f"more than {MAX_REFS} refs", where=where)
    entries = []
    for name, (size, checksum, extra) in refs:
        if len(checksum) != 32:
            raise InvalidInput("a checksum has not 32 bytes", where=where)
        entries.append(
            SummaryEntry(
                ref=Ref(name),
                commit=Checksum(checksum.hex()),
                commit_bytes=size,
                metadata={key: variant.to_plain(value) for key, value in extra.items()},
            )
        )
    return Summary(refs=tuple(entries), metadata={key: variant.to_plain(value) for key, value in metadata.items()})


def build_summary(
    repo: Repository, *, timestamp_s: int | None = None, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Returns the summary of a repository's own refs.

    Args:
        repo: the repository.
        timestamp_s: its time; None: now.
        metadata: further keys.
    """
    entries = []
    for ref, commit in repo.refs().items():
        if ":" in ref:
            continue
        loaded = repo.load_commit(commit)
        extra = {_TIMESTAMP: Variant("t", swap64(loaded.timestamp_s))}
        version = loaded.metadata.get("version")
        if isinstance(version, str):
            extra[_VERSION] = Variant("s", version)
        size = len(repo.metadata_bytes(ObjectType.COMMIT, commit))
        entries.append((str(ref), (size, bytes.fromhex(commit), extra)))
    now = int(time.time()) if timestamp_s is None else timestamp_s
    mode = "archive-z2" if repo.mode is Mode.ARCHIVE else str(repo.mode)
    values = {
        "ostree.summary.mode": Variant("s", mode),
        "ostree.summary.last-modified": Variant("t", swap64(now)),
        "ostree.summary.tombstone-commits": Variant("b", repo.config.get_bool("core", "tombstone-commits", False)),
        **{key: variant.from_plain(value) for key, value in (metadata or {}).items()},
    }
    return variant.encode(
        SUMMARY_TYPE, (sorted(entries, key=lambda entry: entry[0].encode()), dict(sorted(values.items())))
    )


def update_summary(repo: Repository, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes the summary anew, durably, and removes its old signature, which is not for it."""
    with repo.lock(shared=False):
        data = build_summary(repo, metadata=metadata)
        (repo.path / "summary.sig").unlink(missing_ok=True)
        reach("store.summary.unsigned")
        write_file(repo.path / "summary", data)
        reach("store.summary.written")
        os.utime(repo.path)


def swap64(value: int) -> int:
    """Returns an integer as OSTree stores it within GVariant."""
    return int.from_bytes(value.to_bytes(8, "big"), "little")
