"""JSON drop-ins: what the layers of a chain say of one JSON file, merged, with who said it.

A layer has ``resources/PATH/NAME.json.d/*.json``. Of every ``PATH/NAME.json`` the files of the whole chain are merged,
layers in the order of the chain, the files of a layer in the order of their names' bytes; the later wins, key by key
(RFC 7396: ``null`` takes away what was said before, lists are replaced as a whole).

::

    resources/docker/daemon.json.d/10-log.json   {"log-driver": "journald"}        -> docker/daemon.json

Each file holds one object. Of every value it is known which file said it, and which earlier ones it replaced, by the
value's JSON pointer (RFC 6901).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wherry.build.yamlfiles import merge_patch
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.jsonio import loads

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.layers import Layer

FOLDER = "resources"
SUFFIX = ".json.d"
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
"""Objects within objects."""
MAX_FOLDERS_DEEP = 16
"""Folders below ``resources/`` that are looked through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one file said of a value."""

    layer: str
    path: str
    """Of the file, below its layer."""
    value: Any
    """None: take it away."""

    @property
    def where(self) -> str:
        """Layer and file, without the place of the layer on this machine."""
        return f"{self.layer}: {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """What the drop-ins of one file come to."""

    name: str
    """Of the file below ``resources``, as ``docker/daemon.json``."""
    value: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    """By JSON pointer: all that was said of each value that is there or was taken away; what counts is the last."""
    layers: Sequence[str] = ()
    """The layers that say anything, in their order."""

    def redefined(self) -> list[tuple[str, Said, Said]]:
        """Returns each pointer whose value was replaced by another one, with the old and the new."""
        return [
            (pointer, old, new)
            for pointer, every in self.history.items()
            for old, new in pairwise(every)
            if old.value != new.value
        ]


def files_of(layer: Layer, name: str) -> list[Path]:
    """Returns a layer's drop-ins of a file, in their order."""
    folder = layer.path / FOLDER / f"{name}.d"
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix == ".json" and not path.name.startswith("."))
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name.encode())


def names_of(chain: Sequence[Layer]) -> list[str]:
    """Returns the files that a chain has drop-ins of, by their names."""
    return sorted({name for layer in chain for name in _names(layer.path / FOLDER, "", 0)})


def _names(folder: Path, below: str, depth: int) -> Iterator[str]:
    if not folder.is_dir() or depth > MAX_FOLDERS_DEEP:
        return
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_dir():
            continue
        if path.name.endswith(SUFFIX) and path.name != SUFFIX:
            if any(item.suffix == ".json" for item in path.iterdir()):
                yield f"{below}{path.name.removesuffix('.d')}"
        else:
            yield from _names(path, f"{below}{path.name}/", depth + 1)


def read(path: Path) -> dict[str, Any]:
    """Returns what a drop-in says.

    Raises:
        InvalidInput: it is no JSON object, too long or too deep.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read a drop-in", where=path) from error
    value = loads(data, where=path, max_bytes=MAX_BYTES)
    if not isinstance(value, dict):
        raise InvalidInput("must be a JSON object", where=path)
    _check_depth(value, path)
    return value


def _check_depth(value: Any, where: Path) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise InvalidInput(f"more than {MAX_DEPTH} objects within each other", where=where)


def combine(chain: Sequence[Layer], name: str) -> Combined:
    """Returns what the drop-ins of one file come to.

    Args:
        chain: the layers, in their order.
        name: the file's, as ``docker/daemon.json``.

    Raises:
        InvalidInput: a drop-in is malformed; says which.
        NotFound: no layer says anything of it.
    """
    value: dict[str, Any] = {}
    history: dict[str, list[Said]] = {}
    layers: list[str] = []
    for layer in chain:
        for path in files_of(layer, name):
            patch = read(path)
            where = f"{FOLDER}/{name}.d/{path.name}"
            value = merge_patch(value, patch)
            _note(history, "", patch, layer.name, where)
            if layer.name not in layers:
                layers.append(layer.name)
    if not layers:
        names = names_of(chain)
        hint = f"there are {', '.join(names)}" if names else f"a layer has {FOLDER}/PATH/NAME{SUFFIX}/*.json"
        raise NotFound(f"no layer has drop-ins of {name!r}", hint=hint)
    return Combined(name=name, value=value, history=history, layers=tuple(layers))


def combine_all(chain: Sequence[Layer]) -> list[Combined]:
    """Returns what the drop-ins of every file of a chain come to, by the files' names."""
    return [combine(chain, name) for name in names_of(chain)]


def _note(history: dict[str, list[Said]], pointer: str, patch: Any, layer: str, where: str) -> None:
    below = [known for known in history if known.startswith(f"{pointer}/")]
    if isinstance(patch, dict) and (patch or below or not pointer):
        history.pop(pointer, None)  # a plain value that gave way to an object
        for key, item in patch.items():
            _note(history, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", item, layer, where)
        return
    for known in below:
        del history[known]
    history.setdefault(pointer, []).append(Said(layer=layer, path=where, value=patch))
