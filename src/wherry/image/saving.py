"""Images as one archive or folder: what ``docker save`` writes since version 25, or an OCI image layout.

::

    oci-layout                 {"imageLayoutVersion":"1.0.0"}
    index.json                 a descriptor for each name, annotated with it
    manifest.json              docker's list: config, tags and layers of each image      docker-archive alone
    repositories               docker's oldest list: the top layer of each tag           docker-archive alone
    blobs/sha256/<64 hex>      manifests, configs and layers, each once however many images have it; sorted

A ``docker-archive`` is an image layout, too, so every reader finds its own in it. Layers are as they leave the store
(``outgoing.py``): compressed where they are kept, else made here. The same images and names give the same bytes: all
times are 0, all owners root.

Source: OCI image-spec 1.1, image-layout.md; moby, image/spec/v1.2.md; what Docker 25 writes.
"""

from __future__ import annotations

import enum
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wherry.core import jsonio
from wherry.core.digest import Digest, checksum_of
from wherry.core.durable import fsync_dir, map_os_error, replacing
from wherry.core.errors import Conflict, IntegrityError
from wherry.core.progress import QUIET, Progress
from wherry.image.mediatypes import INDEX_TYPE
from wherry.image.outgoing import OutgoingImage, OutgoingLayer
from wherry.image.outgoingindex import OutgoingIndex
from wherry.image.reference import Reference
from wherry.store.tree.tar import EntryType
from wherry.store.tree.tarwrite import TarWriter

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"
_FOLDERS = ("blobs/", "blobs/sha256/")
_PIECE_BYTES = 1024 * 1024


class Format(enum.StrEnum):
    """How images are written; the words that a user types."""

    DOCKER_ARCHIVE = "docker-archive"
    OCI_ARCHIVE = "oci-archive"
    OCI_DIR = "oci-dir"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An image that is to be written, and what it is called."""

    leaving: OutgoingImage | OutgoingIndex
    reference: Reference | None = None
    """None: it has no name."""
    tag: str = ""
    """What the index of a layout calls it where it has no name."""
    main: OutgoingImage | None = None
    """Of an index: the member that a docker archive lists; None: the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The files that will be written."""

    small: dict[str, bytes]
    layers: dict[Digest, OutgoingLayer] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(map(len, self.small.values())) + sum(layer.size for layer in self.layers.values())


def plan(images: Sequence[Named], form: Format) -> Plan:
    """Returns the files that some images make.

    Args:
        images: in the order in which they are listed; one of several platforms is written as an index, of which a
            docker archive lists one member.
        form: what they make.
    """
    small: dict[str, bytes] = {"oci-layout": _LAYOUT}
    layers: dict[Digest, OutgoingLayer] = {}
    for image in images:
        leaving = image.leaving
        members = leaving.members if isinstance(leaving, OutgoingIndex) else (leaving,)
        small[_blob(leaving.digest)] = leaving.manifest
        for member in members:
            small[_blob(member.digest)] = member.manifest
            small[_blob(member.config_digest)] = member.config
            layers.update((layer.digest, layer) for layer in member.layers)
    small["index.json"] = _index(images)
    if form is Format.DOCKER_ARCHIVE:
        small["manifest.json"] = _docker_list(images)
        small["repositories"] = _repositories(images)
    return Plan(small=small, layers=layers)


def write_archive(files: Plan, out: BinaryIO, *, progress: Progress = QUIET) -> None:
    """Writes files as a tar archive, the small ones at the top first.

    Args:
        files: what to write.
        out: where to; is only written to.
        progress: is told how many bytes of layers are done.

    Raises:
        NotFound: an object or a kept blob has gone.
        InvalidInput: a blob has another size than it should have.
    """
    writer = TarWriter(out, time_s=0)
    total = files.size_bytes
    done = 0
    for name in _in_order(files):
        if name.endswith("/"):
            writer.add(EntryType.DIRECTORY, name, mode=0o755, uid=0, gid=0)
            continue
        digest = Digest(f"sha256:{name.rpartition('/')[2]}")
        layer = files.layers.get(digest)
        size = len(files.small[name]) if layer is None else layer.size
        with layer.open() if layer is not None else _small(files.small[name]) as content:
            writer.add(EntryType.FILE, name, mode=0o644, uid=0, gid=0, size=size, content=content)
        done += size
        progress.update("saving", done, total, unit="B")
    writer.close()


def save_archive(files: Plan, path: Path, *, progress: Progress = QUIET) -> None:
    """Writes an archive to a file, which is there once it is whole; a device or a fifo is written to as it is.

    Raises:
        NoSpace: the disk is full; the file is as it was.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null is not to be replaced by a file
        try:
            with open(path, "wb") as device:
                write_archive(files, device, progress=progress)
        except OSError as error:
            raise map_os_error(error, "cannot save the image", where=path) from error
        return
    with replacing(os.path.realpath(path)) as file:
        write_archive(files, file, progress=progress)


def save_directory(files: Plan, path: Path, *, progress: Progress = QUIET) -> None:
    """Writes an image layout to a folder, which is there once it is whole.

    Raises:
        Conflict: something is there already.
        NoSpace: the disk is full; nothing stays.
    """
    if os.path.lexists(path) and not (path.is_dir() and not os.listdir(path)):
        raise Conflict("something is there already", where=path, hint="name a folder that is empty, or not there")
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    done = 0
    try:
        (temporary / "blobs" / "sha256").mkdir(parents=True)
        for name in _in_order(files):
            if name.endswith("/"):
                continue
            layer = files.layers.get(Digest(f"sha256:{name.rpartition('/')[2]}"))
            with layer.open() if layer is not None else _small(files.small[name]) as content:
                done += _write_file(temporary / name, content, layer)
            progress.update("saving", done, files.size_bytes, unit="B")
        for folder in (temporary / "blobs" / "sha256", temporary / "blobs", temporary):
            fsync_dir(folder)
        os.rename(temporary, path)
        fsync_dir(path.absolute().parent)
    except OSError as error:
        raise map_os_error(error, "cannot save the image", where=path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_file(path: Path, content: BinaryIO, layer: OutgoingLayer | None) -> int:
    size = 0
    with open(path, "xb") as file:
        while data := content.read(_PIECE_BYTES):
            file.write(data)
            size += len(data)
        file.flush()
        os.fsync(file.fileno())
    if layer is not None and size != layer.size:
        raise IntegrityError(f"a layer has {size} bytes instead of {layer.size}", where=layer.digest)
    return size


def _in_order(files: Plan) -> list[str]:
    top = sorted(name for name in files.small if "/" not in name)
    blobs = {name for name in files.small if "/" in name} | {_blob(digest) for digest in files.layers}
    return [*top, *_FOLDERS, *sorted(blobs)]


# --- lists


def _index(images: Sequence[Named]) -> bytes:
    tags = Counter(image.reference.tag for image in images if image.reference is not None)
    descriptors = []
    for image in images:
        leaving, reference = image.leaving, image.reference
        descriptor: dict[str, Any] = {
            "mediaType": leaving.media_type,
            "digest": leaving.digest,
            "size": len(leaving.manifest),
        }
        if reference is not None:
            # the tag alone, as docker has it and `oci:DIR:TAG` takes it, where that says which one
            own = reference.tag if reference.tag and tags[reference.tag] == 1 else str(reference)
            descriptor["annotations"] = {_NAME: str(reference), _REF_NAME: own}
        elif image.tag:
            descriptor["annotations"] = {_REF_NAME: image.tag}
        descriptors.append(descriptor)
    return jsonio.canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": descriptors})


def _docker_list(images: Sequence[Named]) -> bytes:
    listed: dict[Digest, dict[str, Any]] = {}
    for image in images:
        member = _first(image)
        entry = listed.setdefault(
            member.digest,
            {
                "Config": _blob(member.config_digest),
                "RepoTags": [],
                "Layers": [_blob(layer.digest) for layer in member.layers],
            },
        )
        if image.reference is not None and image.reference.tag:
            # the whole name: docker takes both, podman puts localhost/ before a short one
            entry["RepoTags"].append(str(image.reference))
    return jsonio.canonical([{**entry, "RepoTags": entry["RepoTags"] or None} for entry in listed.values()])


def _repositories(images: Sequence[Named]) -> bytes:
    found: dict[str, dict[str, str]] = {}
    for image in images:
        layers = _first(image).layers
        if image.reference is not None and image.reference.tag and layers:
            tags = found.setdefault(image.reference.repository, {})
            tags[image.reference.tag] = checksum_of(layers[-1].digest)
    return jsonio.canonical(found)


def _first(image: Named) -> OutgoingImage:
    leaving = image.leaving
    return (image.main or leaving.members[0]) if isinstance(leaving, OutgoingIndex) else leaving


def _blob(digest: Digest) -> str:
    return f"blobs/sha256/{checksum_of(digest)}"


def _small(data: bytes) -> BinaryIO:
    import io

    return io.BytesIO(data)
