"""What a source of an image is, by its prefix or by what is in it."""

from __future__ import annotations

import re
from pathlib import Path

from wherry.core.errors import InvalidInput, NotFound
from wherry.image.blobs import DirectoryBlobs
from wherry.image.layout import is_layout
from wherry.store.tree.compression import decompressed
from wherry.store.tree.tar import EntryType, Limits, TarReader

KINDS = ("oci", "oci-archive", "docker-archive", "dir", "tar")

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
            kind = "oci-archive" if _is_image_archive(path, limits) else "tar"
    if kind == "dir" and not path.is_dir():
        raise InvalidInput("not a directory", where=path)
    if kind in ("tar", "oci-archive", "docker-archive") and not path.is_file():
        raise InvalidInput("not a file", where=path)
    return kind, path.absolute(), choice


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
