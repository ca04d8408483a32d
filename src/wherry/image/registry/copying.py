"""Images from one place to another without the store, byte for byte: between registries, image layouts and archives.

Manifests, configs and layers keep their bytes, and so the image its digest; also what is no image, such as an SBOM. An
older docker archive has no manifest: one is made, of the layers as they are. What is refused: layers that are to be
fetched from elsewhere, indexes in indexes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from wherry.core import jsonio
from wherry.core.digest import Digest, checksum_of, parse_digest
from wherry.core.errors import IntegrityError, InvalidInput, Unsupported
from wherry.core.progress import QUIET, Progress
from wherry.image.blobs import MAX_JSON_BYTES, ArchiveBlobs, Blobs, DirectoryBlobs, read_json
from wherry.image.dockersave import read_docker_archive
from wherry.image.layout import by_platform, find_descriptor, is_layout, manifests_of
from wherry.image.layoutadd import add_to_layout
from wherry.image.mediatypes import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE
from wherry.image.outgoing import OutgoingImage, OutgoingLayer, digest_of_bytes, manifest_type
from wherry.image.outgoingindex import OutgoingIndex
from wherry.image.packed import LayerBlob, field, parse_object
from wherry.image.platforms import Platform
from wherry.image.reference import Reference
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.manifests import get_manifest
from wherry.image.registry.places import Place
from wherry.image.registry.pushing import Push
from wherry.image.registry.reading import RemoteBlob
from wherry.image.saving import Format, Named, plan, save_archive
from wherry.store.tree.compression import MAGIC_BYTES, HashingReader, compression_of

MAX_MEMBERS = 256
_PIECE_BYTES = 1024 * 1024

Leaving = OutgoingImage | OutgoingIndex


class Clients(Protocol):
    """Who gives clients of registries."""

    def __call__(self, domain: str, *, mirrors: bool) -> AbstractContextManager[list[RegistryClient]]:
        """Gives the clients of a registry's mirrors, if they are wanted, and last that of the registry itself."""


def copy(
    source: Place,
    target: Place,
    clients: Clients,
    *,
    scratch: Path,
    platform: Platform | None = None,
    all_platforms: bool = False,
    progress: Progress = QUIET,
) -> Digest:
    """Copies an image.

    Args:
        source: where it is.
        target: where it goes; what had the name there loses it.
        clients: gives clients of registries.
        scratch: a directory with room for a compressed archive, unpacked.
        platform: which one, where there are several; None: this machine's.
        all_platforms: all of them, and the index itself.
        progress: is told how many bytes are done.

    Returns:
        The digest that it has in the target.

    Raises:
        NotFound: there is no such image, or none for this platform.
        IntegrityError: something has not the digest that it should have.
        Unsupported: it has a layer that is to be fetched from elsewhere.
    """
    with _opened(source, clients, scratch) as found:
        leaving = found.leaving(platform or Platform.of_this_machine(), all_platforms=all_platforms)
        _write(leaving, source, target, clients, progress)
        return leaving.digest


# --- sources


class _Source:
    """Manifests and blobs by digest.

    Args:
        get: gives the JSON of a manifest or a config, checked.
        open_blob: opens a blob by digest and size from an offset on.
        top: the manifest or index that is meant.
        where: its name, for errors.
    """

    def __init__(
        self,
        get: Callable[[Digest, bool], bytes],
        open_blob: Callable[[Digest, int, int], BinaryIO],
        top: tuple[bytes, str],
        where: object,
    ) -> None:
        self._get, self._open_blob, self._top, self._where = get, open_blob, top, where

    def leaving(self, platform: Platform, *, all_platforms: bool) -> Leaving:
        """Returns what is to be copied."""
        raw, media_type = self._top
        document = parse_object(raw, where=self._where)
        if "manifests" not in document:
            return self._image(raw, media_type)
        descriptors = manifests_of(document, self._where)
        if not all_platforms:
            chosen = by_platform(descriptors, platform, self._where)
            return self._member(chosen)
        if len(descriptors) > MAX_MEMBERS:
            raise InvalidInput(f"an index of more than {MAX_MEMBERS} manifests", where=self._where)
        members = tuple(self._member(descriptor) for descriptor in descriptors)
        digest = digest_of_bytes(raw)
        return OutgoingIndex(manifest=raw, media_type=media_type, digest=digest, members=members, kept=True)

    def _member(self, descriptor: dict[str, Any]) -> OutgoingImage:
        digest = parse_digest(field(descriptor, "digest", str, where=self._where), where=self._where)
        raw = self._get(digest, True)
        return self._image(raw, manifest_type(parse_object(raw, where=digest)))

    def _image(self, raw: bytes, media_type: str) -> OutgoingImage:
        where = self._where
        document = parse_object(raw, where=where)
        if "manifests" in document:
            raise Unsupported("an index within an index", where=where)
        config = field(document, "config", dict, where=where)
        config_digest = parse_digest(field(config, "digest", str, where=where), where=where)
        return OutgoingImage(
            manifest=raw,
            media_type=media_type,
            digest=digest_of_bytes(raw),
            config=self._get(config_digest, False),
            config_type=str(config.get("mediaType")),
            config_digest=config_digest,
            layers=tuple(self._layer(item) for item in field(document, "layers", list, where=where)),
            kept=True,
        )

    def _layer(self, item: Any) -> OutgoingLayer:
        where = self._where
        if isinstance(item, dict) and (item.get("urls") or "foreign" in str(item.get("mediaType"))):
            raise Unsupported("a layer that is to be fetched from elsewhere (a foreign layer)", where=where)
        digest = parse_digest(field(item, "digest", str, where=where), where=where)
        size = field(item, "size", int, where=where)
        if size < 0:
            raise InvalidInput(f"a blob of {size} bytes", where=where)
        opener = _Opener(self._open_blob, digest, size)
        return OutgoingLayer(digest=digest, size=size, media_type=str(item.get("mediaType")), source=opener)


@dataclass(frozen=True, slots=True)
class _Opener:
    opening: Callable[[Digest, int, int], BinaryIO]
    digest: Digest
    size: int

    def open(self, offset: int = 0) -> BinaryIO:
        return self.opening(self.digest, self.size, offset)


@contextmanager
def _opened(place: Place, clients: Clients, scratch: Path) -> Iterator[_Source]:
    if place.reference is not None:
        with clients(place.reference.domain, mirrors=True) as found:
            yield _remote(place.reference, found)
        return
    if place.path.is_dir():
        yield _layout(DirectoryBlobs(place.path), place)
        return
    archive = ArchiveBlobs(place.path, scratch=scratch)
    try:
        yield _layout(archive, place) if is_layout(archive) else _docker(archive, place)
    finally:
        archive.close()


def _remote(reference: Reference, clients: Sequence[RegistryClient]) -> _Source:
    repository = reference.path
    top = get_manifest(clients, repository, reference.digest or reference.tag or "latest")

    def get(digest: Digest, is_manifest: bool) -> bytes:
        if is_manifest:
            return get_manifest(clients, repository, digest).raw
        return read_small(clients, repository, digest)

    def open_blob(digest: Digest, size: int, offset: int) -> BinaryIO:
        return cast(BinaryIO, RemoteBlob(clients, repository, digest, size, offset))

    return _Source(get, open_blob, (top.raw, top.media_type), reference)


def read_small(clients: Sequence[RegistryClient], repository: str, digest: Digest) -> bytes:
    """Returns a small blob, such as a config, checked against its digest.

    Raises:
        NotFound: it is not there.
        IntegrityError: it has another digest.
        InvalidInput: it is longer than ``MAX_JSON_BYTES``.
    """
    from wherry.image.registry.client import repository_path

    path = f"{repository_path(repository)}/blobs/{digest}"
    with clients[-1].open("GET", path, scope=f"repository:{repository}:pull") as response:
        data = response.read_all(max_bytes=MAX_JSON_BYTES)
    if digest_of_bytes(data) != digest:
        raise IntegrityError(f"a blob has the digest {digest_of_bytes(data)}", where=digest)
    return data


def _layout(blobs: Blobs, place: Place) -> _Source:
    descriptor = find_descriptor(blobs, place.choice, where=place.path)

    def get(digest: Digest, _is_manifest: bool) -> bytes:
        return read_json(blobs, f"blobs/sha256/{checksum_of(digest)}", where=place.path, digest=digest)

    def open_blob(digest: Digest, size: int, offset: int) -> BinaryIO:
        name = f"blobs/sha256/{checksum_of(digest)}"
        if blobs.size(name) != size:
            raise IntegrityError(f"a blob has {blobs.size(name)} bytes instead of {size}", where=digest)
        return _checked(blobs.open(name), digest, offset)

    digest = parse_digest(field(descriptor, "digest", str, where=place.path), where=place.path)
    raw = get(digest, True)
    return _Source(get, open_blob, (raw, manifest_type(parse_object(raw, where=digest))), place.path)


def _docker(blobs: Blobs, place: Place) -> _Source:
    """An archive without manifests: one is made, of the layers as they are."""
    packed = read_docker_archive(blobs, name=place.choice, where=place.path)
    if not packed.complete:
        raise Unsupported(
            "an archive of docker's oldest form", where=place.path, hint="`wherry load` it, and push it from there"
        )
    known: dict[Digest, LayerBlob] = {}
    layers = []
    for layer in packed.layers:
        digest, media_type = _described(layer)
        known[digest] = layer
        layers.append({"mediaType": media_type, "digest": digest, "size": layer.size})
    config_digest = digest_of_bytes(packed.config)
    config = {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": len(packed.config)}
    raw = jsonio.canonical({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers})

    def open_blob(digest: Digest, _size: int, offset: int) -> BinaryIO:
        layer = known[digest]
        return _checked(layer.blobs.open(layer.name), digest, offset)

    return _Source(lambda _digest, _is_manifest: packed.config, open_blob, (raw, MANIFEST_TYPE), place.path)


def _described(layer: LayerBlob) -> tuple[Digest, str]:
    with layer.blobs.open(layer.name) as file:
        kind = compression_of(file.read(MAGIC_BYTES))
    if kind not in ("", "gzip", "zstd"):
        raise Unsupported(f"a layer compressed with {kind}, which registries do not know", where=layer.where)
    with layer.blobs.open(layer.name) as file:
        reader = HashingReader(file, where=layer.where)
        reader.drain()
    return reader.digest, f"{LAYER_TYPE}+{kind}" if kind else LAYER_TYPE


def _checked(file: BinaryIO, digest: Digest, offset: int) -> BinaryIO:
    """Returns a file from an offset on, which is checked where it is read as a whole."""
    if offset == 0:
        return cast(BinaryIO, _Checked(file, digest))
    while offset and (data := file.read(min(offset, _PIECE_BYTES))):
        offset -= len(data)
    return file


class _Checked:
    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file, self._digest = file, digest
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        if not data and size and f"sha256:{self._hash.hexdigest()}" != self._digest:
            raise IntegrityError(f"a blob has the digest sha256:{self._hash.hexdigest()}", where=self._digest)
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _Checked:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# --- targets


def _write(leaving: Leaving, source: Place, target: Place, clients: Clients, progress: Progress) -> None:
    if target.reference is not None:
        _push(leaving, source, target.reference, clients, progress)
    elif target.kind == "oci":
        add_to_layout(target.path, leaving, target.choice, progress=progress)
    else:
        form = Format.DOCKER_ARCHIVE if target.kind == "docker-archive" else Format.OCI_ARCHIVE
        named = Named(leaving=leaving, reference=_name(source, target), tag=target.choice or "")
        save_archive(plan([named], form), target.path, progress=progress)


def _name(source: Place, target: Place) -> Reference | None:
    """Returns what an image is called in an archive; None where there is a tag at most."""
    if target.choice is None:
        return source.reference
    return Reference.parse(target.choice) if target.kind == "docker-archive" else None


def _push(leaving: Leaving, source: Place, reference: Reference, clients: Clients, progress: Progress) -> None:
    if reference.digest not in (None, leaving.digest):
        raise IntegrityError(f"the image has the digest {leaving.digest}", where=reference)
    name = reference.tag or reference.digest or "latest"
    with clients(reference.domain, mirrors=False) as found:
        came_from = source.reference
        mount_from = [came_from.path] if came_from is not None and came_from.domain == reference.domain else []
        push = Push(found[-1], reference.path, mount_from=mount_from, progress=progress)
        if isinstance(leaving, OutgoingIndex):
            push.index(leaving, name)
        else:
            push.image(leaving, name)
