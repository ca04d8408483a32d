"""An image into an OCI image layout that may be there already, beside what is in it.

Blobs come first, each under its name once it is whole; ``index.json`` last, in one step, so that a copy that is cut
leaves the layout as it was, but for blobs that nothing names. The folder is held (flock) meanwhile.

Source: OCI image-spec 1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wherry.core import jsonio
from wherry.core.digest import checksum_of
from wherry.core.durable import make_dirs, map_os_error, replacing, write_file
from wherry.core.errors import Conflict, IntegrityError, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.image.blobs import MAX_JSON_BYTES, DirectoryBlobs
from wherry.image.layout import is_layout, manifests_of
from wherry.image.mediatypes import INDEX_TYPE
from wherry.image.outgoing import OutgoingImage, OutgoingLayer
from wherry.image.outgoingindex import OutgoingIndex
from wherry.image.packed import load_object

REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_PIECE_BYTES = 1024 * 1024


def add_to_layout(
    path: Path, image: OutgoingImage | OutgoingIndex, tag: str | None, *, progress: Progress = QUIET
) -> None:
    """Writes an image into a layout.

    Args:
        path: the folder; made when it is not there.
        image: the image, or one for several platforms.
        tag: what the index calls it; whatever had that name loses it. None: it gets none.
        progress: is told how many bytes are done.

    Raises:
        Conflict: there is something else.
        IntegrityError: a layer has another size than it should have.
        NoSpace: the disk is full.
    """
    if path.is_dir() and os.listdir(path) and not is_layout(DirectoryBlobs(path)):
        raise Conflict("something else than an image layout is there", where=path)
    make_dirs(path / "blobs" / "sha256")
    with _held(path):
        members = image.members if isinstance(image, OutgoingIndex) else (image,)
        layers = {layer.digest: layer for member in members for layer in member.layers}
        done, total = 0, sum(layer.size for layer in layers.values())
        for layer in layers.values():
            _add_layer(path, layer)
            done += layer.size
            progress.update("copying", done, total, unit="B")
        for member in members:
            _add(path, member.config_digest, member.config)
            _add(path, member.digest, member.manifest)
        _add(path, image.digest, image.manifest)
        if not (path / "oci-layout").exists():
            write_file(path / "oci-layout", _LAYOUT)
        _add_to_index(path, image, tag)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _add(path: Path, digest: str, data: bytes) -> None:
    target = path / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if not target.exists():
        write_file(target, data)


def _add_layer(path: Path, layer: OutgoingLayer) -> None:
    target = path / "blobs" / "sha256" / checksum_of(layer.digest)
    try:
        if target.stat().st_size == layer.size:
            return
    except FileNotFoundError:
        pass
    size = 0
    try:
        with replacing(target) as file, layer.open() as content:
            while data := content.read(_PIECE_BYTES):
                file.write(data)
                size += len(data)
            if size != layer.size:
                raise IntegrityError(f"a layer has {size} bytes instead of {layer.size}", where=layer.digest)
    except OSError as error:
        raise map_os_error(error, "cannot write a layer", where=target) from error


def _add_to_index(path: Path, image: OutgoingImage | OutgoingIndex, tag: str | None) -> None:
    try:
        index: dict[str, Any] = load_object(DirectoryBlobs(path), "index.json", where=path)
    except NotFound:
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    descriptor: dict[str, Any] = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
    }
    if tag is not None:
        descriptor["annotations"] = {REF_NAME: tag}
    others = [item for item in manifests_of(index, path) if not _is_replaced(item, image.digest, tag)]
    index["manifests"] = [*others, descriptor]
    data = jsonio.compact(index)
    if len(data) > MAX_JSON_BYTES:
        raise Conflict(f"its index would have more than {MAX_JSON_BYTES} bytes", where=path)
    write_file(path / "index.json", data)


def _is_replaced(item: dict[str, Any], digest: str, tag: str | None) -> bool:
    annotations = item.get("annotations")
    named = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return named == tag if tag is not None else named is None and item.get("digest") == digest
