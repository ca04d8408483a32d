"""What is kept beside images, and goes with the last one that needs it: trees of layers, blobs, notes about layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Digest, parse_digest
from wherry.image import layercache, measuring
from wherry.image.artifacts import blobs_named, list_artifacts
from wherry.image.catalog import ImageRecord, Images
from wherry.image.indexes import orphans
from wherry.image.indexrefs import PLATFORM_PREFIX
from wherry.image.kept import KeptBlobs
from wherry.image.layering import layers_of
from wherry.image.packed import field, parse_object
from wherry.image.scratch import remove_leftovers

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_WAIT_S = 24 * 3600
"""A blob that was pushed to an endpoint, and that no manifest has come for, is given up after so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What nobody needs any more."""

    commits: frozenset[Checksum] = frozenset()
    """Commits whose refs are gone: for ``prune(delete_commits=...)``."""
    freed_bytes: int = 0
    """Of blobs that were removed."""


def tidy(repo: Repository, *, parts_too: bool = False) -> Tidied:
    """Takes away what no image needs: trees of layers, blobs, what is known of layers, images of other platforms.

    Args:
        repo: where.
        parts_too: also parts of blobs that a pull could go on from; else those that are a day old.
    """
    before = set(repo.refs().values())
    if stray := orphans(repo):
        with repo.transaction() as transaction:
            for ref in stray:
                transaction.set_ref(ref, None)
    images = Images(repo)
    further = [images.record_of(commit) for commit in dict.fromkeys(repo.refs(PLATFORM_PREFIX).values())]
    records = [*images.list(), *further]
    layercache.forget_unused(repo, [record.config.diff_ids for record in records])
    gone = before - set(repo.refs().values())
    needed = {digest for record in records for digest in blobs_of(record)}
    for artifact in list_artifacts(repo):
        needed.update(blobs_named(parse_object(artifact.manifest, where=artifact.reference), where=artifact.reference))
    freed = KeptBlobs(repo).remove_all_but(needed, parts_too=parts_too)
    freed += KeptBlobs(repo, folder="uploads").remove_older(MAX_WAIT_S)
    freed += measuring.remove_all_but(repo, [layer for record in records for layer in layers_of(repo, record)])
    freed += remove_leftovers(repo.path / "tmp")
    return Tidied(commits=frozenset(gone), freed_bytes=freed)


def blobs_of(record: ImageRecord) -> list[Digest]:
    """Returns the digests of the layers that an image's manifest names; none where there is no manifest."""
    if not record.manifest:
        return []
    where = record.reference
    layers = field(parse_object(record.manifest, where=where), "layers", list, where=where)
    return [parse_digest(field(layer, "digest", str, where=where), where=where) for layer in layers]
