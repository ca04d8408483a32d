"""Layers: folders that each contribute something to a build, found below search paths by their names.

::

    PATH/ns/name/           a layer; deeper ones (ns/group/name) where the folder above holds none of the kinds
      metadata/             one value in a file: description, dependencies, commands, buildtarget, unlisted
      buildroot/ kernel/ …  one folder for each kind of contribution (`KINDS`)

The folders are SkiffOS' own, and its layers are read as they are. A name is a path of letters, digits, ``.``, ``_`` and
``-``; it is what it is, in capitals or not. Where two search paths have a layer of one name, the first one's counts,
all of it.

Source: SkiffOS, "doc/configuration.md" and scripts/enumerate_configs.sh (August 2026).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

SKIFFOS_KINDS = (
    "buildroot",
    "buildroot_ext",
    "buildroot_patches",
    "busybox",
    "cflags",
    "extensions",
    "hooks",
    "kernel",
    "kernel_patches",
    "metadata",
    "resources",
    "root_overlay",
    "scripts",
    "uboot",
    "uboot_patches",
    "users",
)
OWN_KINDS = ("apps", "board", "image", "packages")
KINDS = tuple(sorted((*SKIFFOS_KINDS, *OWN_KINDS)))
"""The folders that a layer may have."""
MAX_METADATA_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_LAYERS = 10_000

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
_NAME = re.compile(rf"{_PART}(?:/{_PART})+\Z")
_SEPARATOR = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of a layer: a target of ``extensions/Makefile``."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer."""

    name: str
    path: Path

    def metadata(self, key: str) -> str | None:
        """Returns what ``metadata/KEY`` says, without space around it; None when there is no such file.

        Raises:
            InvalidInput: it is no text, or too long.
        """
        path = self.path / "metadata" / key
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_METADATA_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise map_os_error(error, "cannot read", where=path) from error
        if len(data) > MAX_METADATA_BYTES:
            raise InvalidInput(f"more than {MAX_METADATA_BYTES} bytes", where=path)
        try:
            return data.decode().strip()
        except UnicodeDecodeError:
            raise InvalidInput("not text in UTF-8", where=path) from None

    @property
    def description(self) -> str:
        """What it is for, in a line; "" where it does not say."""
        return (self.metadata("description") or "").partition("\n")[0].strip()

    @property
    def listed(self) -> bool:
        """Whether a person would ask for it, as opposed to what only others stand on."""
        return not (self.path / "metadata/unlisted").exists()

    @property
    def build_target(self) -> str:
        """The target of Buildroot's Makefile that it wants made; "" for the usual one."""
        return self.metadata("buildtarget") or ""

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The layers that come before it, in the order in which it names them.

        Raises:
            InvalidInput: one of them is no name; says which file.
        """
        text = self.metadata("dependencies") or ""
        names = tuple(word for word in _SEPARATOR.split(text) if word)
        for name in names:
            check_name(name, where=self.path / "metadata/dependencies")
        return tuple(dict.fromkeys(names))

    @property
    def commands(self) -> tuple[Command, ...]:
        """Its commands; none without a Makefile for them."""
        if not (self.path / "extensions").is_dir():
            return ()
        lines = (line.split(None, 1) for line in (self.metadata("commands") or "").splitlines())
        return tuple(Command(name=words[0], description=words[1].strip()) for words in lines if len(words) == 2)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which kinds of contribution it has a folder for."""
        return tuple(kind for kind in KINDS if (self.path / kind).is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of some search paths, by name."""

    paths: tuple[Path, ...] = ()
    by_name: Mapping[str, Layer] = field(default_factory=dict)
    shadowed: tuple[Layer, ...] = ()
    """Those of later paths whose names an earlier one has."""

    def get(self, name: str, *, where: object = None) -> Layer:
        """Returns a layer.

        Args:
            name: its name.
            where: what asks for it, for errors.

        Raises:
            InvalidInput: it is no name.
            NotFound: there is no such layer; guesses which one is meant.
        """
        check_name(name, where=where)
        found = self.by_name.get(name)
        if found is None:
            near = difflib.get_close_matches(name.lower(), {known.lower(): known for known in self.by_name}, n=1)
            meant = next((known for known in self.by_name if near and known.lower() == near[0]), None)
            places = ", ".join(map(str, self.paths)) or "there is none: give --layers-path"
            raise NotFound(
                f"no layer {name!r}",
                where=where,
                hint=f"did you mean {meant!r}?" if meant else f"looked below: {places}",
            )
        return found

    def __iter__(self) -> Iterator[Layer]:
        return iter(sorted(self.by_name.values(), key=lambda layer: layer.name))

    def __len__(self) -> int:
        return len(self.by_name)


def check_name(name: str, *, where: object = None) -> None:
    """Refuses what is no name of a layer.

    Raises:
        InvalidInput: says what one looks like.
    """
    if not _NAME.match(name):
        raise InvalidInput(
            f"not a layer's name: {name[:80]!r}",
            where=where,
            hint="two or more words with / between: letters, digits, . _ and -",
        )


def split_names(texts: Iterable[str]) -> list[str]:
    """Returns the names in words as SKIFF_CONFIG has them: with commas or spaces between."""
    return [name for text in texts for name in _SEPARATOR.split(text) if name]


def find_layers(paths: Iterable[Path]) -> Layers:
    """Finds the layers below some search paths.

    Args:
        paths: the first one that has a layer of a name counts.

    Raises:
        NotFound: a path is not there.
        InvalidInput: there are too many layers for this to be a tree of them.
    """
    found: dict[str, Layer] = {}
    shadowed: list[Layer] = []
    every = tuple(dict.fromkeys(paths))
    for top in every:
        if not top.is_dir():
            raise NotFound("no such folder of layers", where=top)
        for layer in _below(top, top, 0):
            if layer.name in found:
                shadowed.append(layer)
                continue
            found[layer.name] = layer
            if len(found) > MAX_LAYERS:
                raise InvalidInput(f"more than {MAX_LAYERS} layers", where=top, hint="is that a folder of layers?")
    return Layers(paths=every, by_name=found, shadowed=tuple(shadowed))


def _below(top: Path, folder: Path, depth: int) -> Iterator[Layer]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise map_os_error(error, "cannot read a folder of layers", where=folder) from error
    if depth >= 2 and not set(KINDS).isdisjoint(names):
        yield _layer(top, folder)
        return
    inner: list[Layer] = []
    if depth < MAX_DEPTH:
        inner = [layer for name in names if not name.startswith(".") for layer in _below(top, folder / name, depth + 1)]
    if depth == 2 and not inner:
        yield _layer(top, folder)  # SkiffOS has layers that contribute nothing
    yield from inner


def _layer(top: Path, folder: Path) -> Layer:
    return Layer(name=str(folder.relative_to(top)), path=folder)
