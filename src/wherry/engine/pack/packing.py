"""Writes a packed app: the header, and behind it the image of the files that are needed.

What it makes depends on the files alone: two packs of the same tree are equal byte for byte (with one version of the
tool that makes the image). The times of files are kept, as Python throws its compiled modules away when their sources
have another; with a clamp, later ones become it (SOURCE_DATE_EPOCH, reproducible-builds.org).
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from wherry.core.durable import replacing
from wherry.core.errors import InvalidInput
from wherry.engine.pack import header as headers
from wherry.engine.pack import imaging
from wherry.engine.pack.header import Header
from wherry.engine.pack.imaging import Recipe, size_of
from wherry.engine.pack.needed import Needed
from wherry.engine.pack.tree import Tree

_COPY_BYTES = 1024 * 1024
_APP_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written."""

    path: Path
    header: Header
    files: int
    content_bytes: int
    """Of the regular files, before compression."""
    size_bytes: int
    """Of the app."""


def pack(tree: Tree, needed: Needed, header: Header, output: Path, recipe: Recipe) -> Packed:
    """Writes an app.

    Args:
        tree: where the files are.
        needed: which of them.
        header: what the app is; what depends on the image is found here.
        output: the file to make or to replace, durably, when all of it is there.
        recipe: how the image is made.

    Raises:
        InvalidInput: the output has no folder.
        Unsupported: a tool is missing.
        ToolError: it failed.
        NoSpace: the disk is full.
    """
    output = output.absolute()
    if not output.parent.is_dir():
        raise InvalidInput("no such folder", where=output.parent)
    with tempfile.TemporaryDirectory(prefix=".wherry-pack-", dir=output.parent) as scratch:
        image = Path(scratch) / "image"
        header = replace(header, spare=imaging.spare(tree, needed), format=recipe.format)
        imaging.make_image(tree, needed, header, image, recipe)
        with open(image, "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        full = replace(header, size=image.stat().st_size, sha256=digest)
        head = headers.write(full)
        full = replace(full, offset=len(head))
        with replacing(output, mode=_APP_MODE) as file, open(image, "rb") as source:
            file.write(head)
            while chunk := source.read(_COPY_BYTES):
                file.write(chunk)
    return Packed(
        path=output,
        header=full,
        files=len(needed.files),
        content_bytes=sum(size_of(tree, path) for path in needed.files),
        size_bytes=len(head) + full.size,
    )
