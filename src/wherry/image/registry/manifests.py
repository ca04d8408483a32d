"""Manifests and indexes, from a registry and to it; which of several platforms is meant.

Every manifest is checked against the digest that was asked for, or that the registry says it has. Docker's schema 1
is refused: its layers cannot be checked.

Source: OCI distribution-spec 1.1, "Pulling manifests", "Pushing manifests"; image-spec 1.1, image-index.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wherry.core.digest import Digest, parse_digest
from wherry.core.errors import IntegrityError, InvalidInput, NetworkError, NotFound, NotPermitted, Unsupported
from wherry.image.blobs import MAX_JSON_BYTES
from wherry.image.layout import MAX_NESTED_INDEXES, by_platform, manifests_of
from wherry.image.mediatypes import DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, MANIFEST_TYPE
from wherry.image.packed import field, parse_object
from wherry.image.platforms import Platform
from wherry.image.registry.client import RegistryClient, repository_path

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_ACCEPTED = (MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or an index, as it came."""

    raw: bytes
    digest: Digest
    media_type: str

    def document(self) -> dict[str, Any]:
        """Returns its JSON."""
        return parse_object(self.raw, where=self.digest)

    @property
    def is_index(self) -> bool:
        """Whether it names other manifests."""
        return "manifests" in self.document()


def get_manifest(clients: Sequence[RegistryClient], repository: str, wanted: str) -> Manifest:
    """Returns a manifest by its tag or digest, from the first registry that has it.

    Raises:
        NotFound: there is none of that name.
        IntegrityError: it has another digest than was asked for.
        Unsupported: it is of docker's first schema.
    """
    for number, client in enumerate(clients):
        try:
            return _get(client, repository, wanted)
        except (NotFound, NetworkError, NotPermitted):
            if number == len(clients) - 1:
                raise
    raise NotFound("no registry to ask", where=repository)


def _get(client: RegistryClient, repository: str, wanted: str) -> Manifest:
    path = f"{repository_path(repository)}/manifests/{wanted}"
    headers = {"Accept": ", ".join(_ACCEPTED)}
    with client.open("GET", path, scope=f"repository:{repository}:pull", headers=headers) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind.startswith(_SCHEMA_1):
            raise Unsupported("an image of docker's first schema", where=response.url, hint="push it again, anew")
        raw = response.read_all(max_bytes=MAX_JSON_BYTES)
        said = response.headers.get("Docker-Content-Digest", "")
        where = response.url
    digest = Digest("sha256:" + hashlib.sha256(raw).hexdigest())
    expected = wanted if wanted.startswith("sha256:") else said if said.startswith("sha256:") else digest
    if digest != expected:
        raise IntegrityError(f"a manifest has the digest {digest} instead of {expected}", where=where)
    document = parse_object(raw, where=where)
    if document.get("schemaVersion") != 2:
        raise Unsupported(f"a manifest of version {document.get('schemaVersion')!r}", where=where)
    written = document.get("mediaType")
    if isinstance(written, str) and kind in _ACCEPTED and written != kind:
        raise InvalidInput(f"a manifest says that it is {written[:80]}, its registry {kind}", where=where)
    if kind not in _ACCEPTED:
        kind = written if isinstance(written, str) else INDEX_TYPE if "manifests" in document else MANIFEST_TYPE
    return Manifest(raw=raw, digest=digest, media_type=kind)


def choose_manifest(
    clients: Sequence[RegistryClient], repository: str, manifest: Manifest, platform: Platform, *, where: object
) -> Manifest:
    """Returns the manifest of one platform, through as many indexes as stand before it.

    Raises:
        NotFound: the image is not there for it; the hint names what there is.
    """
    for _ in range(MAX_NESTED_INDEXES):
        if not manifest.is_index:
            return manifest
        descriptor = by_platform(manifests_of(manifest.document(), where), platform, where)
        digest = parse_digest(field(descriptor, "digest", str, where=where), where=where)
        manifest = get_manifest(clients, repository, digest)
    raise InvalidInput(f"indexes nested deeper than {MAX_NESTED_INDEXES}", where=where)


def sizes_of(manifest: Manifest, *, where: object) -> dict[Digest, int]:
    """Returns the size of each blob that a manifest names.

    Raises:
        InvalidInput: a descriptor is malformed.
    """
    document = manifest.document()
    found: dict[Digest, int] = {}
    for item in [field(document, "config", dict, where=where), *field(document, "layers", list, where=where)]:
        digest = parse_digest(field(item, "digest", str, where=where), where=where)
        size = field(item, "size", int, where=where)
        if size < 0:
            raise InvalidInput(f"a blob of {size} bytes", where=where)
        found[digest] = size
    return found
