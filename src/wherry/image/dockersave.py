"""Archives that ``docker save`` and ``podman save`` write: the form with ``manifest.json``, and the one before it.

The older form (before Docker 1.10) has ``repositories`` and, for each layer, ``<id>/json`` and ``<id>/layer.tar``; the
config is made from the top layer's. Neither form has a manifest, so the config's digest stands for the image.

Source: moby, image/spec/v1.md and v1.2.md ("Combined Image JSON + Filesystem Changeset Format").
"""

from __future__ import annotations

import re
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import Digest
from wherry.core.errors import InvalidInput, NotFound
from wherry.image.blobs import MAX_JSON_BYTES, Blobs, read_json
from wherry.image.config import MAX_LAYERS
from wherry.image.packed import LayerBlob, PackedImage, field, load_object
from wherry.image.reference import Reference

MAX_IMAGES = 10_000

_CONFIG_NAME = re.compile(r"(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.json)\Z")
_BLOB_NAME = re.compile(r"blobs/sha256/([0-9a-f]{64})\Z")
_LAYER_ID = re.compile(r"[0-9a-f]{64}\Z")
_V1_KEYS = ("architecture", "author", "config", "created", "os", "variant")


def is_docker_archive(blobs: Blobs) -> bool:
    """Tells whether these files are what ``docker save`` writes."""
    return blobs.has("manifest.json") or blobs.has("repositories")


def read_docker_archive(blobs: Blobs, *, name: str | None, where: object) -> PackedImage:
    """Finds an image in an archive.

    Args:
        blobs: the archive's files.
        name: which one, where there are several: a reference, or None.
        where: the archive's name, for errors.

    Raises:
        NotFound: there is no such image, or a file of it is missing.
        InvalidInput: the archive is malformed, or holds several images and `name` is None.
        IntegrityError: the config is not what its name says.
    """
    return _read_new(blobs, name, where) if blobs.has("manifest.json") else _read_old(blobs, name, where)


def read_all(blobs: Blobs, *, where: object) -> list[PackedImage]:
    """Finds all images in an archive, each with all its names.

    Raises:
        NotFound: there is none, or a file of one is missing.
        InvalidInput: the archive is malformed.
        IntegrityError: a config is not what its name says.
    """
    if blobs.has("manifest.json"):
        found = [_new_image(blobs, tags, image, where) for tags, image in _listed(blobs, where)]
    else:
        names: dict[Any, list[str]] = {}
        for name, top in _repositories(blobs, where):
            names.setdefault(top if isinstance(top, str) else "", []).append(name)
        found = [_old_image(blobs, tuple(called), top, where) for top, called in names.items()]
    if not found:
        raise NotFound("the archive holds no image", where=where)
    return found


def _read_new(blobs: Blobs, name: str | None, where: object) -> PackedImage:
    by_name = _listed(blobs, where)
    return _new_image(blobs, *by_name[_choose([found for found, _ in by_name], name, where)], where)


def _listed(blobs: Blobs, where: object) -> list[tuple[list[str], dict[str, Any]]]:
    images = jsonio.loads(read_json(blobs, "manifest.json", where=where), where=where, max_bytes=MAX_JSON_BYTES)
    if not isinstance(images, list) or len(images) > MAX_IMAGES:
        raise InvalidInput(f"manifest.json: not a list of images, of at most {MAX_IMAGES}", where=where)
    by_name: list[tuple[list[str], dict[str, Any]]] = []
    for image in images:
        tags = (image.get("RepoTags") if isinstance(image, dict) else None) or []
        by_name.append(([tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [], image))
    return by_name


def _new_image(blobs: Blobs, tags: list[str], image: dict[str, Any], where: object) -> PackedImage:
    config_name = field(image, "Config", str, where=where)
    match = _CONFIG_NAME.match(config_name)
    digest = Digest(f"sha256:{match[1] or match[2]}") if match else None
    layers: list[LayerBlob] = []
    for layer in field(image, "Layers", list, where=where):
        if not isinstance(layer, str) or len(layers) == MAX_LAYERS:
            raise InvalidInput(f"Layers: not a list of at most {MAX_LAYERS} names", where=where)
        layers.append(_layer(blobs, layer, where))
    config = read_json(blobs, config_name, where=where, digest=digest)
    return PackedImage(config=config, layers=tuple(layers), names=tuple(tags))


def _read_old(blobs: Blobs, name: str | None, where: object) -> PackedImage:
    found = _repositories(blobs, where)
    full_name, top = found[_choose([[item[0]] for item in found], name, where)]
    return _old_image(blobs, (full_name,), top, where)


def _repositories(blobs: Blobs, where: object) -> list[tuple[str, Any]]:
    """Returns names and the IDs of their top layers."""
    repositories = load_object(blobs, "repositories", where=where)
    found = [
        (f"{repository}:{tag}", top)
        for repository, tags in repositories.items()
        if isinstance(tags, dict)
        for tag, top in tags.items()
    ]
    if len(found) > MAX_IMAGES:
        raise InvalidInput(f"repositories: more than {MAX_IMAGES} names", where=where)
    return found


def _old_image(blobs: Blobs, names: tuple[str, ...], top: Any, where: object) -> PackedImage:
    layers: list[LayerBlob] = []
    config: dict[str, Any] = {}
    current: Any = top
    while current:
        if not isinstance(current, str) or _LAYER_ID.match(current) is None or len(layers) == MAX_LAYERS:
            raise InvalidInput(f"not a chain of at most {MAX_LAYERS} layers", where=where)
        document = load_object(blobs, f"{current}/json", where=where)
        config = config or {key: document[key] for key in _V1_KEYS if key in document}
        layers.insert(0, _layer(blobs, f"{current}/layer.tar", where))
        current = document.get("parent")
    return PackedImage(config=jsonio.canonical(config), layers=tuple(layers), names=names, complete=False)


def _choose(names: list[list[str]], wanted: str | None, where: object) -> int:
    """Returns the index of the image of that name, or of the only one."""
    if wanted is None:
        if len(names) == 1:
            return 0
        matches = list(range(len(names)))
    else:
        reference = Reference.parse(wanted)
        matches = [index for index, found in enumerate(names) if any(_same(item, reference) for item in found)]
        if len(matches) == 1:
            return matches[0]
    known = ", ".join(sorted(item for found in names for item in found)) or "none has a name"
    if not matches:
        what = f"no image {wanted} in the archive" if wanted else "the archive holds no image"
        raise NotFound(what, where=where, hint=f"there are: {known}" if names else None)
    raise InvalidInput("the archive holds several images", where=where, hint=f"name one of them: {known}")


def _same(text: str, reference: Reference) -> bool:
    try:
        return Reference.parse(text) == reference
    except InvalidInput:
        return False


def _layer(blobs: Blobs, name: str, where: object) -> LayerBlob:
    match = _BLOB_NAME.match(name)
    digest = Digest(f"sha256:{match[1]}") if match else None
    return LayerBlob(blobs=blobs, name=name, where=f"{where}: {name}", digest=digest, size=blobs.size(name))
