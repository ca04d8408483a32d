"""Attaching files to an image in a registry, listing what is attached, and fetching it.

A registry that has no referrers API answers 404 there; then the index under the tag ``sha256-HEX`` is read and
written instead. Two that write it at the same time may lose one entry, as the standard says; the manifest itself stays.

Source: OCI distribution-spec 1.1, "Pushing manifests with subject", "Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.image.mediatypes import INDEX_TYPE, MANIFEST_TYPE
from wherry.image.outgoing import digest_of_bytes
from wherry.image.packed import field
from wherry.image.referrers import (
    MAX_REFERRERS,
    Attachment,
    Descriptor,
    check,
    descriptor_of,
    fallback_tag,
    parse_referrers,
    with_referrer,
)
from wherry.image.registry.client import RegistryClient, repository_path
from wherry.image.registry.manifests import Manifest, get_manifest
from wherry.image.registry.pushing import Push

MAX_ATTACHMENT_BYTES = 256 * 1024 * 1024


def subject_descriptor(manifest: Manifest) -> Descriptor:
    """Returns what an attachment names its image by."""
    return Descriptor(media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.raw))


def attach(client: RegistryClient, repository: str, subject: Digest, made: Attachment) -> Digest:
    """Sends an attachment, and has it listed.

    Returns:
        The digest of its manifest.
    """
    push = Push(client, repository)
    for digest, data in made.blobs.items():
        push.data(digest, data)
    push.manifest(made.manifest, MANIFEST_TYPE, made.descriptor.digest)
    if _listed(client, repository, subject) is None:
        tag = fallback_tag(subject)
        try:
            before: bytes | None = get_manifest([client], repository, tag).raw
        except NotFound:
            before = None
        after = with_referrer(before, made.descriptor, where=f"{repository}:{tag}")
        if after != before:
            push.manifest(after, INDEX_TYPE, tag)
    return made.descriptor.digest


def list_referrers(
    client: RegistryClient, repository: str, subject: Digest, *, artifact_type: str = ""
) -> tuple[Descriptor, ...]:
    """Returns what is attached to an image, by whichever way the registry has.

    Args:
        client: the registry.
        repository: as in ``/v2/NAME/``.
        subject: the digest of the image's manifest or index.
        artifact_type: only those of this type.
    """
    found = _listed(client, repository, subject)
    if found is None:
        try:
            index = get_manifest([client], repository, fallback_tag(subject)).raw
        except NotFound:
            return ()
        found = parse_referrers(index, where=repository)
    return tuple(item for item in found if artifact_type in ("", item.artifact_type))


def fetch(client: RegistryClient, repository: str, subject: Digest, wanted: Digest) -> tuple[bytes, str]:
    """Returns an attached file and its media type; manifest, subject, size and digest are checked.

    Raises:
        InvalidInput: the attachment is not of one file, or is longer than ``MAX_ATTACHMENT_BYTES``.
        IntegrityError: something has another digest.
    """
    manifest = get_manifest([client], repository, wanted)
    where = f"{repository}@{wanted}"
    descriptor = Descriptor(media_type=manifest.media_type, digest=wanted, size=len(manifest.raw))
    check(manifest.raw, descriptor, subject, where=where)
    layers = field(manifest.document(), "layers", list, where=where)
    if len(layers) != 1:
        raise InvalidInput(f"an attachment of {len(layers)} files, not of one", where=where)
    layer = descriptor_of(layers[0], where=where)
    if layer.size > MAX_ATTACHMENT_BYTES:
        raise InvalidInput(f"an attachment of more than {MAX_ATTACHMENT_BYTES} bytes", where=where)
    path = f"{repository_path(repository)}/blobs/{layer.digest}"
    with client.open("GET", path, scope=f"repository:{repository}:pull") as response:
        data = response.read_all(max_bytes=layer.size)
    if len(data) != layer.size or digest_of_bytes(data) != layer.digest:
        raise IntegrityError(f"the file has not the digest {layer.digest}", where=where)
    return data, layer.media_type


def _listed(client: RegistryClient, repository: str, subject: Digest) -> tuple[Descriptor, ...] | None:
    """Returns what the referrers API lists, through all pages; None where there is none."""
    path = f"{repository_path(repository)}/referrers/{subject}"
    found: list[Descriptor] = []
    while path:
        try:
            value, path = client.json(path, scope=f"repository:{repository}:pull")
        except NotFound:
            if found:
                raise
            return None
        found += parse_referrers(value, where=f"{repository}@{subject}")
        if len(found) > MAX_REFERRERS:
            raise InvalidInput(f"more than {MAX_REFERRERS} referrers", where=f"{repository}@{subject}")
    return tuple(found)
