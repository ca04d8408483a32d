"""What is known of layers that are made of trees: digest, size and marks, written down so that they are read once.

::

    REPO/oci/outgoing/<64 hex>.json    the name: SHA-256 of dirtree, dirmeta, time, and of the tree
                                       below, where there is one, as canonical JSON
      version                1; any other, and what is not to be understood, counts as nothing
      plain                  {digest, size, marks: [[offset, path], ...]}
      pressed                {"gzip isal 1.9.1 2": {digest, size}, ...}

Names of one image share a file. It is only a memory: without it, or where nobody may write, the layer is read again.
`tidy` removes those of images that have gone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.digest import parse_digest
from wherry.core.durable import make_dirs, write_file
from wherry.core.errors import InvalidInput, NotPermitted
from wherry.core.progress import QUIET, Progress
from wherry.image.layertar import LayerTar, Mark, Measured
from wherry.image.packed import field

if TYPE_CHECKING:
    from wherry.image.pressing import PressedTar
    from wherry.store.repository import Repository

_VERSION = 1
_MAX_BYTES = 16 * 1024 * 1024
MAX_PRESSED = 8
"""Ways of compressing that are remembered; the oldest go."""


def measured(layer: LayerTar, progress: Progress = QUIET, *, total_bytes: int | None = None) -> Measured:
    """Returns what is known of a layer; reads it if that is nothing.

    Args:
        layer: the layer.
        progress: is told how many bytes have been read.
        total_bytes: about how many there are.
    """
    path = _path(layer)
    document = _load(path)
    try:
        return _parse(document["plain"], path)
    except (KeyError, InvalidInput):
        found = layer.measure(progress, total_bytes=total_bytes)
    document["plain"] = {"digest": found.digest, "size": found.size, "marks": [list(mark) for mark in found.marks]}
    _save(layer.repo, path, document)
    return found


def measured_pressed(layer: PressedTar, progress: Progress = QUIET, *, total_bytes: int | None = None) -> Measured:
    """Returns the same of a compressed layer, which has no marks."""
    path = _path(layer.tar)
    document = _load(path)
    known = document.get("pressed")
    pressed: dict[str, Any] = known if isinstance(known, dict) else {}
    try:
        return _parse(pressed[layer.way], path)
    except (KeyError, InvalidInput):
        found = layer.measure(progress, total_bytes=total_bytes)
    document = _load(path)
    pressed[layer.way] = {"digest": found.digest, "size": found.size}
    document["pressed"] = dict(list(pressed.items())[-MAX_PRESSED:])
    _save(layer.tar.repo, path, document)
    return found


def remove_all_but(repo: Repository, needed: Collection[LayerTar]) -> int:
    """Removes what is known of layers that nobody needs; returns the bytes that are free now."""
    names = {_path(layer).name for layer in needed}
    try:
        entries = list(os.scandir(repo.path / "oci" / "outgoing"))
    except FileNotFoundError:
        return 0
    freed = 0
    for entry in entries:
        if entry.name not in names:
            freed += entry.stat().st_size
            Path(entry.path).unlink(missing_ok=True)
    return freed


def _path(layer: LayerTar) -> Path:
    parts: dict[str, Any] = {"dirmeta": layer.meta, "dirtree": layer.tree, "time_s": layer.time_s}
    if layer.below is not None:
        parts["below"] = list(layer.below)
    name = jsonio.canonical(parts)
    return layer.repo.path / "oci" / "outgoing" / f"{hashlib.sha256(name).hexdigest()}.json"


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = jsonio.loads(file.read(_MAX_BYTES + 1), where=path, max_bytes=_MAX_BYTES)
    except (OSError, InvalidInput):
        return {}
    return document if isinstance(document, dict) and document.get("version") == _VERSION else {}


def _parse(value: Any, where: Path) -> Measured:
    size = field(value, "size", int, where=where)
    marks = value.get("marks", [])
    if not isinstance(marks, list):
        raise InvalidInput("marks: not a list", where=where)
    found = []
    for mark in marks:
        if not (isinstance(mark, list) and [type(part) for part in mark] == [int, str]):
            raise InvalidInput("marks: not what they should be", where=where)
        found.append(Mark(*mark))
    return Measured(
        digest=parse_digest(field(value, "digest", str, where=where), where=where), size=size, marks=tuple(found)
    )


def _save(repo: Repository, path: Path, document: dict[str, Any]) -> None:
    if not repo.writable:
        return
    try:
        make_dirs(path.parent)
        write_file(path, jsonio.compact({"version": _VERSION, **document}))
    except NotPermitted:
        return  # a server that may only read measures for itself
