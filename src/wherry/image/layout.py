"""OCI image layouts: ``oci-layout``, ``index.json`` and ``blobs/``; which image of several is meant, and what is in it.

Every blob is checked against digest and size of the descriptor that names it. Docker's manifests and manifest
lists of version 2 are read as well. Refused: artifacts that are no images, digests other than sha256.

Source: OCI image-spec 1.1, image-layout.md, image-index.md, manifest.md, descriptor.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wherry.core.digest import Digest, checksum_of, parse_digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, Unsupported
from wherry.image.blobs import MAX_JSON_BYTES, Blobs, read_json
from wherry.image.config import MAX_LAYERS
from wherry.image.mediatypes import CONFIG_TYPE, DOCKER_CONFIG_TYPE
from wherry.image.packed import LayerBlob, PackedImage, field, load_object, parse_object
from wherry.image.platforms import Platform, choose

MAX_NESTED_INDEXES = 4
MAX_MANIFESTS = 10_000

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
CONFIG_TYPES = (CONFIG_TYPE, DOCKER_CONFIG_TYPE)


def is_layout(blobs: Blobs) -> bool:
    """Tells whether these files are an image layout."""
    return blobs.has("oci-layout") and blobs.has("index.json")


def read_layout(blobs: Blobs, *, tag: str | None, platform: Platform, where: object) -> PackedImage:
    """Finds an image in a layout.

    Args:
        blobs: the layout's files.
        tag: what the index calls it, as a whole or from the last colon on; None: the only one there is.
        platform: which one to take where there are several.
        where: the layout's name, for errors.

    Raises:
        NotFound: there is no such image.
        InvalidInput: the layout is malformed, or holds several images and `tag` is None.
        IntegrityError: a blob has another digest or size than it should have.
        Unsupported: it is an artifact, not an image.
    """
    descriptor = find_descriptor(blobs, tag, where=where)
    names = tuple(name for name in _names(descriptor) if name)
    return replace(_resolve(blobs, descriptor, platform, where), names=names)


def find_descriptor(blobs: Blobs, tag: str | None, *, where: object) -> dict[str, Any]:
    """Returns what the index of a layout says of an image. Arguments and errors are those of ``read_layout``."""
    return _by_tag(_index(blobs, where), tag, where)


def read_all(blobs: Blobs, *, platform: Platform, where: object) -> list[PackedImage]:
    """Finds all images in a layout, each with all names that the index gives it.

    Args:
        blobs: the layout's files.
        platform: which one to take of each, where there are several.
        where: the layout's name, for errors.

    Raises:
        NotFound: there is none at all, or one not for this platform.
        InvalidInput: the layout is malformed.
        IntegrityError: a blob has another digest or size than it should have.
        Unsupported: one is an artifact, not an image.
    """
    descriptors: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {}
    for descriptor in _index(blobs, where):
        digest = str(descriptor.get("digest"))
        descriptors.setdefault(digest, descriptor)
        name = next((name for name in _names(descriptor) if name), "")  # the whole name stands before the tag alone
        names.setdefault(digest, []).extend([name] if name else [])
    if not descriptors:
        raise NotFound("the layout holds no image", where=where)
    return [
        replace(_resolve(blobs, descriptor, platform, where), names=tuple(dict.fromkeys(names[digest])))
        for digest, descriptor in descriptors.items()
    ]


def _index(blobs: Blobs, where: object) -> list[dict[str, Any]]:
    version = load_object(blobs, "oci-layout", where=where).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise Unsupported(f"an image layout of version {version!r}", where=where)
    return manifests_of(load_object(blobs, "index.json", where=where), where)


def _resolve(blobs: Blobs, descriptor: dict[str, Any], platform: Platform, where: object) -> PackedImage:
    """Follows indexes down to the image for a platform."""
    for _ in range(MAX_NESTED_INDEXES):
        name, digest, _ = _blob(blobs, descriptor, where)
        raw = read_json(blobs, name, where=where, digest=digest)
        document = parse_object(raw, where=f"{where}: {name}")
        if "manifests" not in document:
            return read_image(blobs, raw, digest, where=where)
        descriptor = by_platform(manifests_of(document, where), platform, where)
    raise InvalidInput(f"indexes nested deeper than {MAX_NESTED_INDEXES}", where=where)


def manifests_of(index: dict[str, Any], where: object) -> list[dict[str, Any]]:
    """Returns the descriptors of an index."""
    found = field(index, "manifests", list, where=where)
    if len(found) > MAX_MANIFESTS or not all(isinstance(item, dict) for item in found):
        raise InvalidInput("manifests: not a list of descriptors", where=where)
    return list(found)


def _names(descriptor: dict[str, Any]) -> list[str]:
    annotations = descriptor.get("annotations")
    if not isinstance(annotations, dict):
        return []
    return [str(annotations.get(key) or "") for key in (_CONTAINERD_NAME, _REF_NAME)]


def _by_tag(manifests: list[dict[str, Any]], tag: str | None, where: object) -> dict[str, Any]:
    if tag is None:
        if len({item.get("digest") for item in manifests}) == 1:
            return manifests[0]
        if not manifests:
            raise NotFound("the layout holds no image", where=where)
        found = manifests
    else:
        exact = [item for item in manifests if tag in _names(item)]
        found = exact or [item for item in manifests if any(name.endswith(f":{tag}") for name in _names(item))]
        if len({item.get("digest") for item in found}) == 1:
            return found[0]
    known = ", ".join(sorted({name for item in manifests for name in _names(item) if name})) or "none has a name"
    if not found:
        raise NotFound(f"no image {tag!r} in the layout", where=where, hint=f"there are: {known}")
    raise InvalidInput("the layout holds several images", where=where, hint=f"name one of them: {known}")


def by_platform(manifests: list[dict[str, Any]], wanted: Platform, where: object) -> dict[str, Any]:
    """Returns the descriptor that fits a platform best.

    Raises:
        NotFound: none does; the hint names what there is.
    """
    if len(manifests) == 1:
        return manifests[0]
    offered = [platform_of(item) for item in manifests]
    index = choose(wanted, offered)
    if index is None:
        known = ", ".join(sorted({str(item) for item in offered if item.architecture not in ("", "unknown")}))
        raise NotFound(
            f"the image is not there for {wanted}",
            where=where,
            hint=f"choose with --platform; there are: {known or 'none'}",
        )
    return manifests[index]


def platform_of(descriptor: dict[str, Any]) -> Platform:
    """Returns what a descriptor in an index says of its platform."""
    value = descriptor.get("platform")
    if not isinstance(value, dict):
        return Platform()
    texts = {key: value.get(key) for key in ("os", "architecture", "variant")}
    return Platform(**{key: text for key, text in texts.items() if isinstance(text, str)})


def _blob(blobs: Blobs, descriptor: dict[str, Any], where: object) -> tuple[str, Digest, int]:
    """Returns a blob's name, digest and size, once its size is right."""
    digest = parse_digest(field(descriptor, "digest", str, where=where), where=where)
    size = field(descriptor, "size", int, where=where)
    name = f"blobs/sha256/{checksum_of(digest)}"
    found = blobs.size(name)
    if found != size:
        raise IntegrityError(f"a blob has {found} bytes instead of {size}", where=f"{where}: {name}")
    return name, digest, size


def read_image(blobs: Blobs, raw: bytes, digest: Digest, *, where: object) -> PackedImage:
    """Finds what a manifest is made of.

    Args:
        blobs: where its blobs are, as ``blobs/sha256/<hex>``.
        raw: the manifest, OCI's or docker's of version 2.
        digest: its digest.
        where: its name, for errors.

    Raises:
        NotFound: a blob is not there.
        InvalidInput: it is malformed.
        IntegrityError: a blob has another size, or the config another digest, than it should have.
        Unsupported: it is an artifact, not an image, or a layer is of a kind that is fetched from elsewhere.
    """
    manifest = parse_object(raw, where=where)
    descriptor = field(manifest, "config", dict, where=where)
    kind = descriptor.get("mediaType")
    if kind not in CONFIG_TYPES:
        raise Unsupported(f"an artifact, not an image: its config is {str(kind)[:80]}", where=where)
    config_name, config_digest, size = _blob(blobs, descriptor, where)
    if size > MAX_JSON_BYTES:
        raise InvalidInput(f"a config of {size} bytes", where=where)
    layers = []
    for item in field(manifest, "layers", list, where=where)[: MAX_LAYERS + 1]:
        if isinstance(item, dict) and (item.get("urls") or "foreign" in str(item.get("mediaType"))):
            raise Unsupported("a layer that is to be fetched from elsewhere (a foreign layer)", where=where)
        name, layer_digest, layer_size = _blob(blobs, item, where)
        layers.append(LayerBlob(blobs=blobs, name=name, where=f"{where}: {name}", digest=layer_digest, size=layer_size))
    if len(layers) > MAX_LAYERS:
        raise InvalidInput(f"more than {MAX_LAYERS} layers", where=where)
    return PackedImage(
        config=read_json(blobs, config_name, where=where, digest=config_digest),
        layers=tuple(layers),
        digest=digest,
        manifest=raw,
    )
