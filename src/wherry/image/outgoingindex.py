"""An index as it leaves the store: as it came where all that it names leaves as it came, else made of the members.

Source: OCI image-spec 1.1, image-index.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.digest import Digest
from wherry.core.progress import QUIET, Progress
from wherry.image.catalog import ImageRecord
from wherry.image.indexes import IndexRecord
from wherry.image.mediatypes import INDEX_TYPE
from wherry.image.outgoing import OutgoingImage, digest_of_bytes, manifest_type, outgoing
from wherry.image.packed import field, parse_object

if TYPE_CHECKING:
    from wherry.image.kept import KeptBlobs
    from wherry.image.pressing import Kind
    from wherry.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingIndex:
    """An index, ready to leave."""

    manifest: bytes
    media_type: str
    digest: Digest
    members: tuple[OutgoingImage, ...]
    kept: bool
    """Whether it is as it came."""


def outgoing_index(
    repo: Repository,
    index: IndexRecord,
    kept: KeptBlobs | None = None,
    *,
    compress: Kind | None = None,
    progress: Progress = QUIET,
) -> OutgoingIndex:
    """Returns an index as it leaves. The arguments are those of ``outgoing``."""
    members = tuple(outgoing(repo, item, kept, compress=compress, progress=progress) for item in index.members)
    return assemble_index(index, members)


def assemble_index(
    index: IndexRecord, members: Sequence[OutgoingImage], also: Collection[Digest] = ()
) -> OutgoingIndex:
    """Puts an index together.

    Args:
        index: as it is recorded.
        members: its images as they leave, in its order.
        also: what else leaves under the same name, such as attestations; an index as it came may name it.
    """
    raw = index.raw if index.raw and _names(index) <= {member.digest for member in members} | set(also) else b""
    came = bool(raw)
    if not came:
        pairs = zip(index.members, members, strict=True)
        raw = jsonio.canonical(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "manifests": [descriptor(record, member) for record, member in pairs],
            }
        )
    return OutgoingIndex(
        manifest=raw,
        media_type=manifest_type(parse_object(raw, where=index.reference)),
        digest=digest_of_bytes(raw),
        members=tuple(members),
        kept=came,
    )


def descriptor(record: ImageRecord, image: OutgoingImage) -> dict[str, Any]:
    """Returns what an index says of an image."""
    found = record.platform
    platform = {"architecture": found.architecture, "os": found.os}
    if found.variant:
        platform["variant"] = found.variant
    return {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "platform": platform,
    }


def _names(index: IndexRecord) -> set[str]:
    where = index.reference
    manifests = field(parse_object(index.raw, where=where), "manifests", list, where=where)
    return {field(item, "digest", str, where=where) for item in manifests}
