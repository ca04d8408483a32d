"""An image as it leaves the store: manifest, config and layers, for a registry, an endpoint or an archive.

Where the manifest and all blobs that it names are kept, those are given, byte for byte, with the same digest. Else a
manifest is made of the commit: the layers that it was made of where their trees are kept (`layering.py`), or one of the
whole tree, uncompressed or compressed on the way; and the config with those layers in its ``rootfs``. The same trees
give the same bytes on any machine.

The history of a config must have as many steps with layers as there are layers. Where it has not, every step that the
image tells is said to be empty, and one is added for each layer, as ``docker build --squash`` does it. A config that
has these layers and a step for each stays as it is: so what was built or pulled from here keeps its ID and digest.

Source: OCI image-spec 1.1, manifest.md, config.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from wherry.core import jsonio
from wherry.core.digest import Digest, parse_digest
from wherry.core.progress import QUIET, Progress
from wherry.image import measuring
from wherry.image.catalog import ImageRecord, Images
from wherry.image.layering import full_steps, layers_of, squashed
from wherry.image.layertar import LayerTar, Mark, Measured
from wherry.image.mediatypes import (
    CONFIG_TYPE,
    DOCKER_CONFIG_TYPE,
    DOCKER_LAYER_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
)
from wherry.image.packed import field, parse_object
from wherry.image.pressing import Kind, PressedTar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.image.kept import KeptBlobs
    from wherry.store.repository import Repository


_OF_OCI = {
    DOCKER_LAYER_TYPE: f"{LAYER_TYPE}+gzip",
    **{media_type: media_type for media_type in (LAYER_TYPE, f"{LAYER_TYPE}+gzip", f"{LAYER_TYPE}+zstd")},
}
"""Media types of layers that may stand in a manifest of OCI's, by those that they came with."""


class _Source(Protocol):
    def open(self, offset: int = 0) -> BinaryIO:
        """Opens a blob from an offset on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingLayer:
    """One layer."""

    digest: Digest
    size: int
    media_type: str
    source: _Source

    def open(self, offset: int = 0) -> BinaryIO:
        """Opens its bytes, from an offset on; the caller closes them.

        Raises:
            NotFound: the image, or the kept blob, has gone.
        """
        return self.source.open(offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingImage:
    """An image, ready to leave."""

    manifest: bytes
    media_type: str
    digest: Digest
    """Of the manifest."""
    config: bytes
    config_type: str
    config_digest: Digest
    layers: tuple[OutgoingLayer, ...]
    kept: bool
    """Whether it is as it came: the manifest and the layers of the registry that it was pulled from."""


def outgoing(
    repo: Repository,
    record: ImageRecord,
    kept: KeptBlobs | None = None,
    *,
    compress: Kind | None = None,
    progress: Progress = QUIET,
) -> OutgoingImage:
    """Returns an image as it leaves.

    Args:
        repo: where it lies.
        record: the image.
        kept: where compressed layers may be; None: they are not looked for.
        compress: what a layer that is made here is compressed with; None: it is not.
        progress: is told about the layer's bytes when its digest must be computed.

    Raises:
        NotFound: the image lacks an object.
        InvalidInput: it has a name in it that no image may have.
    """
    found = as_it_came(record, kept) if kept is not None else None
    return found or _made(repo, record, kept, compress, progress)


# --- as it came


@dataclass(frozen=True, slots=True)
class _KeptSource:
    kept: KeptBlobs
    digest: Digest

    def open(self, offset: int = 0) -> BinaryIO:
        file = self.kept.open(self.digest)
        file.seek(offset)
        return file


def as_it_came(record: ImageRecord, kept: KeptBlobs) -> OutgoingImage | None:
    """Returns an image with the manifest that it came with; None where something of it is not there any more."""
    if not record.manifest:
        return None
    where = record.reference
    manifest = parse_object(record.manifest, where=where)
    config = field(manifest, "config", dict, where=where)
    if config.get("digest") != record.config.digest:
        return None
    layers = []
    for item in field(manifest, "layers", list, where=where):
        digest = parse_digest(field(item, "digest", str, where=where), where=where)
        if not kept.has(digest):
            return None
        layers.append(
            OutgoingLayer(
                digest=digest,
                size=field(item, "size", int, where=where),
                media_type=field(item, "mediaType", str, where=where),
                source=_KeptSource(kept, digest),
            )
        )
    config_type = field(config, "mediaType", str, where=where)
    return OutgoingImage(
        manifest=record.manifest,
        media_type=manifest_type(manifest),
        digest=digest_of_bytes(record.manifest),
        config=record.config.raw,
        config_type=config_type,
        config_digest=record.config.digest,
        layers=tuple(layers),
        kept=True,
    )


def manifest_type(manifest: dict[str, Any]) -> str:
    """Returns the media type of a manifest or an index, which OCI's need not say."""
    said = manifest.get("mediaType")
    if isinstance(said, str):
        return said
    if "manifests" in manifest:
        return INDEX_TYPE
    config = manifest.get("config")
    of_docker = isinstance(config, dict) and config.get("mediaType") == DOCKER_CONFIG_TYPE
    return DOCKER_MANIFEST_TYPE if of_docker else MANIFEST_TYPE


# --- made here


@dataclass(frozen=True, slots=True)
class _TarSource:
    tar: LayerTar
    marks: tuple[Mark, ...]

    def open(self, offset: int = 0) -> BinaryIO:
        return self.tar.open(offset, self.marks)


def _made(
    repo: Repository, record: ImageRecord, kept: KeptBlobs | None, compress: Kind | None, progress: Progress
) -> OutgoingImage:
    tars = layers_of(repo, record)
    own = record.config.diff_ids
    known = _kept_layers(repo, kept) if kept is not None and len(own) == len(tars) else {}
    made: list[OutgoingLayer] = []
    diff_ids: list[Digest] = []
    for index, tar in enumerate(tars):
        if known and own[index] in known:
            diff_ids.append(own[index])
            made.append(known[own[index]])
            continue
        plain = measuring.measured(tar, progress, total_bytes=record.size_bytes if len(tars) == 1 else None)
        diff_ids.append(plain.digest)
        made.append(_layer(tar, plain, compress, progress))
    layers = tuple(made)
    config = config_of_layers(record, diff_ids)
    config_digest = digest_of_bytes(config)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers],
    }
    if annotations := _annotations(record):
        manifest["annotations"] = annotations
    raw = jsonio.canonical(manifest)
    return OutgoingImage(
        manifest=raw,
        media_type=MANIFEST_TYPE,
        digest=digest_of_bytes(raw),
        config=config,
        config_type=CONFIG_TYPE,
        config_digest=config_digest,
        layers=layers,
        kept=False,
    )


def _kept_layers(repo: Repository, kept: KeptBlobs) -> dict[Digest, OutgoingLayer]:
    """Returns the kept layers of all images by the digest of what is in them: others stand on these images."""
    found: dict[Digest, OutgoingLayer] = {}
    for record in Images(repo).list():
        if not record.manifest:
            continue
        items = field(parse_object(record.manifest, where=record.reference), "layers", list, where=record.reference)
        if len(items) != len(record.config.diff_ids):
            continue
        for item, diff_id in zip(items, record.config.diff_ids, strict=True):
            digest = parse_digest(field(item, "digest", str, where=record.reference), where=record.reference)
            media_type = _OF_OCI.get(field(item, "mediaType", str, where=record.reference))
            if media_type is not None and kept.has(digest):
                size = field(item, "size", int, where=record.reference)
                source = _KeptSource(kept, digest)
                found[diff_id] = OutgoingLayer(digest=digest, size=size, media_type=media_type, source=source)
    return found


def _layer(tar: LayerTar, plain: Measured, compress: Kind | None, progress: Progress) -> OutgoingLayer:
    if compress is None:
        source = _TarSource(tar, plain.marks)
        return OutgoingLayer(digest=plain.digest, size=plain.size, media_type=LAYER_TYPE, source=source)
    pressed = PressedTar(tar=tar, kind=compress)
    known = measuring.measured_pressed(pressed, progress, total_bytes=plain.size)
    return OutgoingLayer(digest=known.digest, size=known.size, media_type=f"{LAYER_TYPE}+{compress}", source=pressed)


def config_of_layers(record: ImageRecord, diff_ids: Sequence[Digest]) -> bytes:
    """Returns the config of an image that leaves in these layers, byte for byte as it was if that is what it says."""
    document = record.config.document()
    told = document.get("history")
    steps = [step for step in told if isinstance(step, dict)] if isinstance(told, list) else []
    fits = len(full_steps(document)) == len(record.config.diff_ids) == len(diff_ids) and len(steps) == len(told or ())
    if fits and record.config.diff_ids == tuple(diff_ids) and document.get("architecture"):
        return record.config.raw
    document["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    if not fits:
        document["history"] = [*({**step, "empty_layer": True} for step in steps), *squashed(record, len(diff_ids))]
    document.setdefault("os", record.config.os)
    document.setdefault("architecture", record.config.architecture)
    return jsonio.compact(document)


def _annotations(record: ImageRecord) -> dict[str, str]:
    if not record.manifest:
        return {}
    found = parse_object(record.manifest, where=record.reference).get("annotations")
    items = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def digest_of_bytes(data: bytes) -> Digest:
    """Returns the digest of a blob."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())
