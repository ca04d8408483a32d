"""What is kept beside images and goes with the last one that needs it: trees of layers, and blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Digest, parse_digest
from wherry.image import layercache
from wherry.image.catalog import ImageRecord, Images
from wherry.image.kept import KeptBlobs
from wherry.image.packed import field, parse_object

if TYPE_CHECKING:
    from wherry.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What nobody needs any more."""

    commits: frozenset[Checksum] = frozenset()
    """Commits whose refs are gone: for ``prune(delete_commits=...)``."""
    freed_bytes: int = 0
    """Of blobs that were removed."""


def tidy(repo: Repository) -> Tidied:
    """Takes away trees of layers and kept blobs that no image needs."""
    records = Images(repo).list()
    before = set(repo.refs(layercache.LAYER_PREFIX).values())
    layercache.forget_unused(repo, [record.config.diff_ids for record in records])
    gone = before - set(repo.refs().values())
    needed = {digest for record in records for digest in blobs_of(record)}
    return Tidied(commits=frozenset(gone), freed_bytes=KeptBlobs(repo).remove_all_but(needed))


def blobs_of(record: ImageRecord) -> list[Digest]:
    """Returns the digests of the layers that an image's manifest names; none where there is no manifest."""
    if not record.manifest:
        return []
    where = record.reference
    layers = field(parse_object(record.manifest, where=where), "layers", list, where=where)
    return [parse_digest(field(layer, "digest", str, where=where), where=where) for layer in layers]
