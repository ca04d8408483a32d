"""What a source of an image is, by its prefix or by what is in it."""

from __future__ import annotations

import re
from pathlib import Path

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.blobs import DirectoryBlobs
from wherry.image.disks import is_disk
from wherry.image.filesystems import PROBED_BYTES
from wherry.image.layout import is_layout
from wherry.store.tree.compression import decompressed
from wherry.store.tree.tar import EntryType, Limits, TarReader

KINDS = ("oci", "oci-archive", "docker-archive", "dir", "tar", "disk")

_PREFIXED = re.compile(rf"({'|'.join(KINDS)}):(.+)\Z", re.DOTALL)
_ARCHIVE_MEMBER = re.compile(
    r"(blobs(/.*)?|oci-layout|index\.json|manifest\.json|repositories|[0-9a-f]{64}(/.*|\.json|\.tar)?)\Z", re.DOTALL
)
"""What stands in an image archive, and hardly in a root tree."""


def recognise(source: str, limits: Limits) -> tuple[str, Path, str | None]:
    """Returns the kind of a source, its path, and which image of several is meant."""
    match = _PREFIXED.match(source)
    kind, rest = (match[1], match[2]) if match else ("", source)
    path, choice = Path(rest), None
    if kind in ("oci", "oci-archive", "docker-archive") and not path.exists() and ":" in rest:
        before, _, after = rest.partition(":") if kind == "docker-archive" else rest.rpartition(":")
        path, choice = Path(before), after
    if not path.exists():
        raise NotFound("no such file or directory", where=path)
    if not kind:
        if path.is_dir():
            kind = "oci" if is_layout(DirectoryBlobs(path)) else "dir"
        else:
            kind = _kind_of_file(path, limits)
    if kind == "dir" and not path.is_dir():
        raise InvalidInput("not a directory", where=path)
    if kind in ("tar", "oci-archive", "docker-archive", "disk") and not path.is_file() and not _is_device(path, kind):
        raise InvalidInput("not a file", where=path)
    return kind, path.absolute(), choice


def _is_device(path: Path, kind: str) -> bool:
    return kind == "disk" and path.is_block_device()


def _kind_of_file(path: Path, limits: Limits) -> str:
    if path.is_block_device():
        return "disk"
    if not path.is_file():
        return "tar"
    with open(path, "rb") as file:
        plain = decompressed(file, where=path)
        head = b""
        while len(head) < PROBED_BYTES and (data := plain.read(PROBED_BYTES - len(head))):
            head += data
    if is_disk(head):
        return "disk"
    return "oci-archive" if _is_image_archive(path, limits) else "tar"


def _is_image_archive(path: Path, limits: Limits) -> bool:
    """Reads an archive up to the first name that no image archive has."""
    found = False
    with open(path, "rb") as file:
        for entry in TarReader(decompressed(file, where=path), where=path, limits=limits):
            name = "/".join(part for part in entry.name.split("/") if part not in ("", "."))
            if name and _ARCHIVE_MEMBER.match(name) is None:
                return False
            found = found or (bool(name) and entry.type is EntryType.FILE)
    return found
