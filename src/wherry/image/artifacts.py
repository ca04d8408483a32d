"""What registries keep besides images: signatures, SBOMs and all else that has a manifest and blobs, but no tree.

::

    refs/heads/image-artifact/<name>      the name with a tag or a digest, written as an image's ref is
    commit, of an empty tree              wherry.artifact.manifest   s   the manifest's JSON, byte for byte
                                          wherry.image.reference     s   the whole name

Blobs are kept beside the objects (``kept.py``), for as long as a manifest here names them. An index of artifacts, or
one of images that cannot be told apart by platform, is kept as one, too.

Source: OCI image-spec 1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Digest, Ref, parse_digest
from wherry.core.errors import InvalidInput
from wherry.image.catalog import REFERENCE_KEY
from wherry.image.packed import field, parse_object
from wherry.image.reference import REF_PREFIX, Reference

if TYPE_CHECKING:
    from wherry.store.repository import Repository

ARTIFACT_PREFIX = "image-artifact"
ARTIFACT_KEY = "wherry.artifact.manifest"
MAX_BLOBS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """One artifact, by one of its names."""

    reference: Reference
    """With a tag, or a digest."""
    commit: Checksum
    manifest: bytes

    @property
    def digest(self) -> Digest:
        """Of the manifest."""
        return Digest("sha256:" + hashlib.sha256(self.manifest).hexdigest())


def artifact_ref(reference: Reference) -> Ref:
    """Returns the ref of an artifact."""
    return Ref(f"{ARTIFACT_PREFIX}/{reference.ref.removeprefix(REF_PREFIX)}")


def record_artifact(repo: Repository, reference: Reference, manifest: bytes) -> ArtifactRecord:
    """Gives an artifact a name; its blobs are kept already, or will be by the end of the transaction.

    Raises:
        InvalidInput: the manifest is malformed.
    """
    from wherry.store.format import objects
    from wherry.store.format.objects import DirMeta, DirTree, ObjectType
    from wherry.store.tree.commit import commit_tree

    blobs_named(parse_object(manifest, where=reference), where=reference)
    with repo.transaction() as transaction:
        tree = transaction.write_metadata(ObjectType.DIRTREE, objects.serialize_dirtree(DirTree()))
        meta = transaction.write_metadata(ObjectType.DIRMETA, objects.serialize_dirmeta(DirMeta()))
        commit = commit_tree(
            repo,
            tree,
            meta,
            subject=f"artifact {reference}",
            timestamp_s=0,
            metadata={ARTIFACT_KEY: manifest.decode(), REFERENCE_KEY: str(reference)},
            ref=artifact_ref(reference),
        )
    return ArtifactRecord(reference=reference, commit=commit, manifest=manifest)


def list_artifacts(repo: Repository, repositories: Iterable[str] | None = None) -> list[ArtifactRecord]:
    """Returns the artifacts, sorted by name; with `repositories` only those of these."""
    wanted = None if repositories is None else set(repositories)
    found = []
    for ref, commit in repo.refs(ARTIFACT_PREFIX).items():
        reference = Reference.from_ref(REF_PREFIX + ref.removeprefix(f"{ARTIFACT_PREFIX}/"))
        if wanted is not None and reference.repository not in wanted:
            continue
        raw = repo.load_commit(commit).metadata.get(ARTIFACT_KEY)
        if not isinstance(raw, str):
            raise InvalidInput("the commit is no artifact: its metadata says nothing of one", where=ref)
        found.append(ArtifactRecord(reference=reference, commit=commit, manifest=raw.encode()))
    return found


def blobs_named(manifest: dict[str, Any], *, where: object) -> dict[Digest, tuple[int, str]]:
    """Returns the blobs that an artifact's manifest names, with size and media type; none for an index.

    Raises:
        InvalidInput: it is malformed, or names too many.
    """
    if "manifests" in manifest:
        return {}
    items = [field(manifest, "config", dict, where=where), *field(manifest, "layers", list, where=where)]
    if len(items) > MAX_BLOBS:
        raise InvalidInput(f"a manifest with more than {MAX_BLOBS} blobs", where=where)
    found = {}
    for item in items:
        digest = parse_digest(field(item, "digest", str, where=where), where=where)
        media_type = field(item, "mediaType", str, where=where)
        found[digest] = (field(item, "size", int, where=where), media_type)
    return found


def subject_of(manifest: dict[str, Any]) -> Digest | None:
    """Returns the digest of what a manifest refers to, if it says so and it can be read."""
    subject = manifest.get("subject")
    digest = subject.get("digest") if isinstance(subject, dict) else None
    try:
        return parse_digest(digest) if isinstance(digest, str) else None
    except InvalidInput:
        return None


def referrer(raw: bytes, manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns a manifest as the list of referrers shows it (distribution-spec 1.1, "Listing Referrers")."""
    from wherry.image.outgoing import digest_of_bytes, manifest_type

    config = manifest.get("config")
    kind = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    found: dict[str, Any] = {
        "mediaType": manifest_type(manifest),
        "digest": digest_of_bytes(raw),
        "size": len(raw),
    }
    if isinstance(kind, str):
        found["artifactType"] = kind
    if isinstance(manifest.get("annotations"), dict):
        found["annotations"] = manifest["annotations"]
    return found
