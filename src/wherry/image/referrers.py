"""What is attached to an image in a registry: SBOMs, signatures, as manifests that name it as their subject.

Only values are made and read here; the registry's client sends and fetches them. A registry without the referrers API
is served by a tag of the subject's digest, whose index lists the referrers.

Source: OCI image-spec 1.1, manifest.md ("Guidelines for Artifact Usage"), image-index.md; distribution-spec 1.1,
"Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import Digest, parse_digest
from wherry.core.errors import IntegrityError, InvalidInput
from wherry.image.mediatypes import EMPTY_TYPE, INDEX_TYPE, MANIFEST_TYPE
from wherry.image.outgoing import digest_of_bytes

EMPTY = b"{}"
CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
MAX_REFERRERS = 10_000
MAX_INDEX_BYTES = 4 * 1024 * 1024

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What names a manifest or a blob."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Returns the JSON."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A manifest to push, and the blobs that must be there before it."""

    manifest: bytes
    descriptor: Descriptor
    blobs: Mapping[Digest, bytes]


def attachment(
    subject: Descriptor,
    data: bytes,
    *,
    media_type: str,
    title: str = "",
    created: str = "",
    more: Mapping[str, str] | None = None,
) -> Attachment:
    """Returns what is pushed to attach a file to an image; the same file gives the same digest.

    Args:
        subject: the image's manifest or index.
        data: the file.
        media_type: of the file, and so of the artifact: ``application/spdx+json``.
        title: what the file is called.
        created: RFC 3339.
        more: further annotations.

    Raises:
        InvalidInput: `media_type` is none.
    """
    if not _MEDIA_TYPE.match(media_type):
        raise InvalidInput(f"not a media type: {media_type[:80]!r}", hint="such as application/spdx+json")
    layer = Descriptor(
        media_type=media_type,
        digest=digest_of_bytes(data),
        size=len(data),
        annotations={TITLE: title} if title else {},
    )
    empty = Descriptor(media_type=EMPTY_TYPE, digest=digest_of_bytes(EMPTY), size=len(EMPTY))
    annotations = dict(more or {}) | ({CREATED: created} if created else {})
    plain = Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": media_type,
        "config": empty.document(),
        "layers": [layer.document()],
        "subject": plain.document(),
    }
    if annotations:
        document["annotations"] = annotations
    manifest = jsonio.canonical(document)
    return Attachment(
        manifest=manifest,
        descriptor=Descriptor(
            media_type=MANIFEST_TYPE,
            digest=digest_of_bytes(manifest),
            size=len(manifest),
            artifact_type=media_type,
            annotations=annotations,
        ),
        blobs={empty.digest: EMPTY, layer.digest: data},
    )


def fallback_tag(subject: Digest) -> str:
    """Returns the tag that lists an image's referrers where there is no API for it: ``sha256-HEX``."""
    algorithm, _, digits = subject.partition(":")
    return f"{algorithm[:32]}-{digits[:64]}"


def parse_referrers(index: bytes | Any, *, artifact_type: str = "", where: object = None) -> tuple[Descriptor, ...]:
    """Reads the index that either way of listing gives.

    Args:
        index: it, or the value that its JSON is.
        artifact_type: only those of this type; a registry need not filter.
        where: the registry's URL, for errors.

    Raises:
        InvalidInput: it is no index, or an entry is malformed.
    """
    document = _index(index, where)
    found = [descriptor_of(entry, where=where) for entry in document["manifests"]]
    return tuple(item for item in found if artifact_type in ("", item.artifact_type))


def with_referrer(index: bytes | None, added: Descriptor, *, where: object = None) -> bytes:
    """Returns the index of the fallback tag with one referrer more; what it holds already stays as it is.

    Args:
        index: the one that is there; None: there is none yet.
        added: the manifest that was pushed.
        where: the registry's URL, for errors.
    """
    document = _empty_index() if index is None else _index(index, where)
    entries = [entry for entry in document["manifests"] if entry.get("digest") != added.digest]
    document["manifests"] = [*entries, added.document()]
    return jsonio.canonical(document)


def without_referrer(index: bytes, removed: Digest, *, where: object = None) -> bytes:
    """Returns the index of the fallback tag with one referrer less."""
    document = _index(index, where)
    document["manifests"] = [entry for entry in document["manifests"] if entry.get("digest") != removed]
    return jsonio.canonical(document)


def subject_of(manifest: bytes, *, where: object = None) -> Digest | None:
    """Returns what a manifest is attached to; None when it is attached to nothing.

    Raises:
        InvalidInput: it is no manifest.
    """
    document = jsonio.loads(manifest, where=where, max_bytes=MAX_INDEX_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput("not a manifest", where=where)
    subject = document.get("subject")
    return None if subject is None else descriptor_of(subject, where=where).digest


def check(manifest: bytes, descriptor: Descriptor, subject: Digest, *, where: object = None) -> None:
    """Checks that a fetched manifest is the one that was listed, and that it is attached to the image.

    Raises:
        IntegrityError: it has another digest.
        InvalidInput: it names another subject: a registry may list what it likes.
    """
    if digest_of_bytes(manifest) != descriptor.digest:
        raise IntegrityError(f"the referrer has not the digest {descriptor.digest}", where=where)
    if subject_of(manifest, where=where) != subject:
        raise InvalidInput(f"the referrer is not attached to {subject}", where=where)


def _empty_index() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}


def _index(given: bytes | Any, where: object) -> dict[str, Any]:
    document: Any = given
    if isinstance(given, bytes):
        document = jsonio.loads(given, where=where, max_bytes=MAX_INDEX_BYTES)
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput("not an index of referrers", where=where)
    if len(entries) > MAX_REFERRERS:
        raise InvalidInput(f"more than {MAX_REFERRERS} referrers", where=where)
    return dict(document)


def descriptor_of(value: Any, *, where: object = None) -> Descriptor:
    """Reads a descriptor.

    Raises:
        InvalidInput: it is malformed.
    """
    if not isinstance(value, dict):
        raise InvalidInput("a descriptor that is no object", where=where)
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    kind, notes = value.get("artifactType", ""), value.get("annotations") or {}
    if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(kind, str):
        raise InvalidInput("a descriptor without media type and digest", where=where)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput("a descriptor without a size", where=where)
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise InvalidInput("a descriptor whose annotations are no texts", where=where)
    return Descriptor(
        media_type=media_type,
        digest=parse_digest(digest, where=where),
        size=size,
        artifact_type=kind,
        annotations=notes,
    )
