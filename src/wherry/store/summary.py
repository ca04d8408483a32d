"""The summary: one file that lists the refs of a repository for those who pull over HTTP.

``(a(s(taya{sv}))a{sv})``: for each ref, sorted, its name, the size of its commit object, its commit, and metadata; then
metadata of the whole. Times are big-endian; the size is not, as OSTree writes it (in the host's order: 2022.7 was seen
to write 150 as ``96 00 00 00 00 00 00 00``).

In a repository of a collection the refs are that collection's, and ``ostree.summary.collection-map``,
``a{sa(s(taya{sv}))}``, lists those of others. The metadata then stands also in a commit without files on the ref
``ostree-metadata``, so that who gets refs from several places can check it by the commit's signature.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Ref
from wherry.core.durable import remove_file, write_file
from wherry.core.errors import InvalidInput
from wherry.core.trace import reach
from wherry.store.format import objects, variant
from wherry.store.format.objects import DirMeta, DirTree, Mode, ObjectType
from wherry.store.format.variant import Variant

if TYPE_CHECKING:
    from wherry.store.repository import Repository

_REFS_TYPE = "a(s(taya{sv}))"
SUMMARY_TYPE = f"({_REFS_TYPE}a{{sv}})"
MAX_REFS = 100_000
MAX_COLLECTIONS = 10_000
TIMESTAMP = "ostree.commit.timestamp"
VERSION = "ostree.commit.version"
METADATA_REF = Ref("ostree-metadata")
_COLLECTION_ID = "ostree.summary.collection-id"
_COLLECTION_MAP = "ostree.summary.collection-map"
_TOMBSTONES = "ostree.summary.tombstone-commits"
_MAP_TYPE = f"a{{s{_REFS_TYPE}}}"


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
        value = self.metadata.get(TIMESTAMP)
        return swap64(value) if isinstance(value, int) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A parsed summary."""

    refs: tuple[SummaryEntry, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mirrored: Mapping[str, tuple[SummaryEntry, ...]] = field(default_factory=dict)
    """By collection: the refs that are not of the repository's own."""

    @property
    def collection_id(self) -> str:
        """The collection that the refs belong to; empty for none."""
        found = self.metadata.get(_COLLECTION_ID)
        return found if isinstance(found, str) else ""

    @property
    def tombstones(self) -> bool:
        """Whether the repository leaves a tombstone for each commit that it deletes."""
        return self.metadata.get(_TOMBSTONES) is True


def parse_summary(data: bytes, *, where: object = None) -> Summary:
    """Returns a summary.

    Raises:
        InvalidInput: malformed.
    """
    refs, metadata = variant.decode(SUMMARY_TYPE, data, where=where)
    mirrored = {}
    found = metadata.get(_COLLECTION_MAP)
    if found is not None:
        if found.type != _MAP_TYPE or len(found.value) > MAX_COLLECTIONS:
            raise InvalidInput("malformed list of collections", where=where)
        mirrored = {collection: _parse_refs(items, where) for collection, items in found.value.items()}
    return Summary(
        refs=_parse_refs(refs, where),
        metadata={key: variant.to_plain(value) for key, value in metadata.items()},
        mirrored=mirrored,
    )


def leaves_tombstones(repo: Repository) -> bool:
    """Tells whether a repository on this machine says, in its summary, that it leaves tombstones.

    Raises:
        InvalidInput: its summary is malformed.
    """
    try:
        data = (repo.path / "summary").read_bytes()
    except OSError:
        return False
    return parse_summary(data, where=repo.path / "summary").tombstones


def _parse_refs(refs: Any, where: object) -> tuple[SummaryEntry, ...]:
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
    return tuple(entries)


def build_summary(
    repo: Repository, *, timestamp_s: int | None = None, metadata: Mapping[str, Any] | None = None
) -> bytes:
    """Returns the summary of a repository.

    Args:
        repo: the repository.
        timestamp_s: its time; None: now.
        metadata: further keys.
    """
    own: dict[str, Checksum] = {}
    mirrored: dict[str, dict[str, Checksum]] = {}
    if not repo.collection_id:
        own = {str(ref): commit for ref, commit in repo.refs().items() if ":" not in ref}
    for ref, commit in repo.collection_refs().items():
        if ref.collection == repo.collection_id:
            own[ref.name] = commit
        else:
            mirrored.setdefault(ref.collection, {})[ref.name] = commit
    now = int(time.time()) if timestamp_s is None else timestamp_s
    values = {
        **{key: variant.from_plain(value) for key, value in (metadata or {}).items()},
        "ostree.summary.mode": Variant("s", "archive-z2" if repo.mode is Mode.ARCHIVE else str(repo.mode)),
        "ostree.summary.last-modified": Variant("t", swap64(now)),
        _TOMBSTONES: Variant("b", repo.config.get_bool("core", "tombstone-commits", False)),
        **_deltas(repo),
    }
    if repo.collection_id:
        values[_COLLECTION_ID] = Variant("s", repo.collection_id)
    if mirrored:
        lists = {name: _entries(repo, mirrored[name].items()) for name in sorted(mirrored)}
        values[_COLLECTION_MAP] = Variant(_MAP_TYPE, lists)
    return variant.encode(SUMMARY_TYPE, (_entries(repo, own.items()), dict(sorted(values.items()))))


def _entries(repo: Repository, refs: Iterable[tuple[str, Checksum]]) -> list[Any]:
    entries = []
    for name, commit in sorted(refs, key=lambda item: item[0].encode()):
        data = repo.metadata_bytes(ObjectType.COMMIT, commit)
        loaded = objects.parse_commit(data, where=commit)
        extra = {TIMESTAMP: Variant("t", swap64(loaded.timestamp_s))}
        version = loaded.metadata.get("version")
        if isinstance(version, str):
            extra[VERSION] = Variant("s", version)
        entries.append((name, (len(data), bytes.fromhex(commit), extra)))
    return entries


def _deltas(repo: Repository) -> dict[str, Variant]:
    """Returns what a summary says of static deltas."""
    from wherry.store.static_delta.index import KEY, superblock_digests

    values = {}
    if not repo.config.get_bool("core", "no-deltas-in-summary", False):
        digests = superblock_digests(repo)
        if digests:
            values[KEY] = Variant("a{sv}", digests)
    if repo.config.get_bool("core", "indexed-deltas", False):
        values["ostree.summary.indexed-deltas"] = Variant("b", True)
    return values


def update_summary(repo: Repository, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes the summary anew, durably, with the indexes of deltas, and removes its old signature.

    Args:
        repo: the repository.
        metadata: further keys, plain or Variants.
    """
    from wherry.store.static_delta import names
    from wherry.store.static_delta.index import reindex

    if names.list_deltas(repo) or names.list_indexes(repo):
        reindex(repo)
    with repo.lock(shared=False):
        data = build_summary(repo, metadata=metadata)
        remove_file(repo.path / "summary.sig")
        reach("store.summary.unsigned")
        write_file(repo.path / "summary", data)
        reach("store.summary.written")
        os.utime(repo.path)


def auto_update(repo: Repository) -> None:
    """Writes the summary anew when refs have changed, if the config wants that."""
    if repo.config.get_bool("core", "auto-update-summary", False) or repo.config.get_bool(
        "core", "commit-update-summary", False
    ):
        update_summary(repo)


def update_metadata_ref(repo: Repository, metadata: Mapping[str, Any], *, timestamp_s: int | None = None) -> None:
    """Commits the summary's further metadata to ``ostree-metadata``, in a repository of a collection.

    Args:
        repo: the repository; nothing happens when it has no collection.
        metadata: further keys, plain or Variants.
        timestamp_s: the commit's time; None: now.
    """
    from wherry.store.format.bindings import COLLECTION_BINDING
    from wherry.store.tree.commit import commit_tree

    if not repo.collection_id:
        return
    with repo.transaction() as transaction:
        tree = transaction.write_metadata(ObjectType.DIRTREE, objects.serialize_dirtree(DirTree()))
        meta = transaction.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(DirMeta()))
        commit_tree(
            repo,
            tree,
            meta,
            timestamp_s=int(time.time()) if timestamp_s is None else timestamp_s,
            parent=repo.refs(METADATA_REF).get(METADATA_REF),
            metadata={**metadata, COLLECTION_BINDING: repo.collection_id},
            ref=METADATA_REF,
        )


def swap64(value: int) -> int:
    """Returns an integer as OSTree stores it within GVariant."""
    return int.from_bytes((value % (1 << 64)).to_bytes(8, "big"), "little")
