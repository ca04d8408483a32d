"""What is wrong with layers, before a build finds out: names, dependencies, folders, scripts, fragments and boards."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import fragments
from wherry.build.boards import FILE as BOARD
from wherry.build.boards import board_of, firmware_of
from wherry.build.contributions import EXTERNAL_FILES, HOOKS
from wherry.build.images.layout import FILE as LAYOUT
from wherry.build.images.layout import layout_of
from wherry.build.layers import KINDS
from wherry.build.resolving import resolve
from wherry.core.errors import WherryError

if TYPE_CHECKING:
    from wherry.build.layers import Layer, Layers

METADATA = frozenset({"buildtarget", "commands", "dependencies", "description", "uniquegroup", "unlisted"})
_HOOKS = frozenset(HOOKS.values())


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """A build fails, or leaves it out."""
    WARNING = "warning"
    """Nobody would mean it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong."""

    level: Level
    layer: str
    where: str
    what: str


def check(layers: Layers, chosen: Iterable[Layer]) -> list[Finding]:
    """Returns what is wrong with some layers.

    Args:
        layers: those that there are.
        chosen: those that are looked at.
    """
    found: list[Finding] = []
    circles: set[frozenset[str]] = set()
    for layer in chosen:
        found += _of_layer(layer)
        try:
            chain = resolve(layers, [layer.name])
        except WherryError as error:
            names = frozenset(error.what.partition(": ")[2].split(" -> "))
            if not (names and names in circles):  # a circle is one finding, not one for each that leads into it
                found.append(_finding(Level.ERROR, layer, error.where or layer.path, error.what))
            if names:
                circles.add(names)
        else:
            found += _of_board(layer, chain)
    return found


def _finding(level: Level, layer: Layer, where: object, what: str) -> Finding:
    return Finding(level=level, layer=layer.name, where=str(where), what=what)


def _of_layer(layer: Layer) -> Iterator[Finding]:
    try:
        if not layer.description and layer.listed:
            yield _finding(Level.WARNING, layer, layer.path / "metadata/description", "says not what it is for")
    except WherryError as error:
        yield _finding(Level.ERROR, layer, error.where, error.what)
    for name in sorted(os.listdir(layer.path)):
        path = layer.path / name
        if path.is_dir() and name not in KINDS and not name.startswith("."):
            yield _finding(Level.WARNING, layer, path, "no build looks there")
    for name in sorted(os.listdir(layer.path / "metadata")) if (layer.path / "metadata").is_dir() else ():
        if name not in METADATA and not name.startswith("."):
            yield _finding(Level.WARNING, layer, layer.path / "metadata" / name, "nothing reads this")
    if (layer.path / "metadata/commands").exists() and not (layer.path / "extensions/Makefile").is_file():
        yield _finding(Level.WARNING, layer, layer.path / "extensions/Makefile", "there are commands, and no Makefile")
    external = layer.path / "buildroot_ext"
    for name in EXTERNAL_FILES if external.is_dir() else ():
        if not (external / name).is_file():
            yield _finding(Level.ERROR, layer, external / name, "Buildroot wants this of an external tree")
    yield from _of_hooks(layer)
    for kind in fragments.KINDS:
        for path in fragments.fragments_of(layer, kind):
            yield from _of_fragment(layer, path)


def _of_board(layer: Layer, chain: Sequence[Layer]) -> Iterator[Finding]:
    """Gives what is wrong with a layer's board and layout of images, on top of those that it stands on."""
    path = layer.path / BOARD
    if (layer.path / LAYOUT).is_file():
        try:
            layout_of(chain)
        except WherryError as error:
            yield _finding(Level.ERROR, layer, error.where or layer.path / LAYOUT, error.what)
    if not path.is_file():
        return
    try:
        board = board_of(chain)
        for each in (board, *(board_of(chain, other) for other in board.architectures)):
            firmware_of(each)
    except WherryError as error:
        yield _finding(Level.ERROR, layer, error.where or path, error.what)


def _of_hooks(layer: Layer) -> Iterator[Finding]:
    folder = layer.path / "hooks"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name in _HOOKS:
            if not path.stat().st_mode & stat.S_IXUSR:
                yield _finding(Level.WARNING, layer, path, "is not executable")
        elif path.suffix == ".sh":
            yield _finding(Level.WARNING, layer, path, f"is no hook: there are {', '.join(sorted(_HOOKS))}")


def _of_fragment(layer: Layer, path: Path) -> Iterator[Finding]:
    try:
        text = fragments.read(path)
    except WherryError as error:
        yield _finding(Level.ERROR, layer, error.where, error.what)
        return
    for found in fragments.parse(text):
        if not isinstance(found, fragments.Problem):
            continue
        if found.passed_over:
            what = "begins with space, so the tools pass it over"
            yield _finding(Level.WARNING, layer, f"{path}:{found.line}", what)
        else:
            what = f"not a line of a fragment: {found.text[:60]!r}"
            yield _finding(Level.ERROR, layer, f"{path}:{found.line}", what)
