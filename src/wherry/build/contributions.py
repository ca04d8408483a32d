"""What a chain of layers contributes to a build: everything of every kind, in the order of the chain, with its layer.

======================  ==================================================================================
fragments               Kconfig, merged: the later wins (`fragments.py`)
overlays                folders that are laid over the root, the later over the earlier
patches                 folders of patches for the kernel, U-Boot and Buildroot's packages
externals               external trees of Buildroot's
users                   lines of Buildroot's tables of users
cflags                  flags for the compiler, joined
hooks                   scripts before the images are made, and after
apps                    folders of Compose projects that the host brings along
packages                names of the distribution's packages; ``-NAME`` takes one away that an earlier layer wants
======================  ==================================================================================

Files of a folder are taken in the order of their names' bytes. `digest` names all of it by content: names, modes,
links and bytes, and no place on this machine; so equal layers elsewhere have an equal digest, and a change of any file
is another one.

Source: SkiffOS, scripts/build_configs.sh (August 2026); the Buildroot manual, "Makeuser syntax documentation".
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build import fragments
from wherry.build.layers import KINDS
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.fragments import Merged
    from wherry.build.layers import Layer

PATCHES = ("buildroot_patches", "kernel_patches", "uboot_patches")
HOOKS = {"before": "pre.sh", "after": "post.sh"}
"""When a script is called: before images are made of the root, and after -> its file."""
EXTERNAL_FILES = ("Config.in", "external.desc", "external.mk")
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_USER_FIELDS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that a layer contributes."""

    text: str
    layer: str
    path: str
    """Of its file, below the layer."""
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file or folder that a layer contributes."""

    layer: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """What a chain contributes."""

    chain: tuple[Layer, ...] = ()
    fragments: Mapping[str, Merged] = field(default_factory=dict)
    overlays: tuple[Part, ...] = ()
    patches: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    externals: tuple[Part, ...] = ()
    users: tuple[Line, ...] = ()
    cflags: tuple[Line, ...] = ()
    hooks: Mapping[str, Sequence[Part]] = field(default_factory=dict)
    """By the words of `HOOKS`."""
    packages: tuple[Line, ...] = ()
    apps: Mapping[str, Part] = field(default_factory=dict)
    """By their names; where two layers have one of a name, the later one's."""
    build_target: str = ""
    """Of the last layer that has one."""

    @property
    def joined_cflags(self) -> str:
        """The flags for the compiler, as one line."""
        return " ".join(line.text for line in self.cflags)


def gather(chain: Sequence[Layer]) -> Contributions:
    """Returns what a chain contributes.

    Raises:
        InvalidInput: a line or a folder is not what its kind should be; says where.
    """
    targets = [layer.build_target for layer in chain if layer.build_target]
    return Contributions(
        chain=tuple(chain),
        fragments={kind: fragments.merge(chain, kind) for kind in fragments.KINDS},
        overlays=tuple(_folders(chain, "root_overlay")),
        patches={kind: tuple(_folders(chain, kind)) for kind in PATCHES},
        externals=tuple(_externals(chain)),
        users=tuple(_users(chain)),
        cflags=tuple(_lines(chain, "cflags")),
        hooks={word: tuple(_hooks(chain, name)) for word, name in HOOKS.items()},
        packages=tuple(_packages(chain)),
        apps={path.name: Part(layer=part.layer, path=path) for part, path in _apps(chain)},
        build_target=targets[-1] if targets else "",
    )


def _folders(chain: Sequence[Layer], kind: str) -> Iterator[Part]:
    return (Part(layer=layer.name, path=layer.path / kind) for layer in chain if (layer.path / kind).is_dir())


def _externals(chain: Sequence[Layer]) -> Iterator[Part]:
    for part in _folders(chain, "buildroot_ext"):
        for name in EXTERNAL_FILES:
            if not (part.path / name).is_file():
                raise InvalidInput("Buildroot wants this of an external tree", where=part.path / name)
        yield part


def _hooks(chain: Sequence[Layer], name: str) -> Iterator[Part]:
    for layer in chain:
        path = layer.path / "hooks" / name
        if path.is_file():
            yield Part(layer=layer.name, path=path)


def _apps(chain: Sequence[Layer]) -> Iterator[tuple[Part, Path]]:
    for part in _folders(chain, "apps"):
        for path in sorted(part.path.iterdir(), key=lambda path: path.name.encode()):
            if path.is_dir():
                if not any((path / name).is_file() for name in COMPOSE_FILES):
                    raise InvalidInput("an app without a Compose file", where=path, hint="it is called compose.yaml")
                yield part, path


def _lines(chain: Sequence[Layer], kind: str) -> Iterator[Line]:
    """Gives the lines of a kind's files, without comments and empty ones."""
    for layer in chain:
        for path in fragments.fragments_of(layer, kind):
            for number, line in enumerate(fragments.read(path).splitlines(), 1):
                text = line.strip()
                if text and not text.startswith("#"):
                    yield Line(text=text, layer=layer.name, path=f"{kind}/{path.name}", line=number)


def _users(chain: Sequence[Layer]) -> Iterator[Line]:
    for line in _lines(chain, "users"):
        if len(line.text.split(None, _USER_FIELDS - 1)) < _USER_FIELDS - 1:
            raise InvalidInput(
                f"not a line of a table of users: {line.text[:60]!r}",
                where=f"{line.layer}: {line.path}:{line.line}",
                hint="name, uid, group, gid, password, home, shell, groups, comment",
            )
        yield line


def _packages(chain: Sequence[Layer]) -> list[Line]:
    wanted: dict[str, Line] = {}
    for line in _lines(chain, "packages"):
        for word in line.text.split("#")[0].split():
            name = word.removeprefix("-")
            if not name or not all(char.isalnum() or char in "+-.:" for char in name):
                raise InvalidInput(
                    f"not a package's name: {word[:60]!r}", where=f"{line.layer}: {line.path}:{line.line}"
                )
            wanted.pop(name, None)
            if not word.startswith("-"):
                wanted[name] = Line(text=name, layer=line.layer, path=line.path, line=line.line)
    return list(wanted.values())


def digest(chain: Sequence[Layer], kinds: Sequence[str] = KINDS) -> str:
    """Returns what names all that a chain contributes: 64 hex digits; another one after a change of any file.

    Args:
        chain: the layers.
        kinds: which contributions count.
    """
    whole = hashlib.sha256()
    for layer in chain:
        whole.update(f"layer {layer.name}\n".encode())
        for kind in kinds:
            if (layer.path / kind).is_dir():
                _add(whole, layer.path / kind, kind)
    return whole.hexdigest()


def digest_of(folder: Path) -> str:
    """Returns what names all that a folder holds, by content: 64 hex digits."""
    whole = hashlib.sha256()
    _add(whole, folder, "")
    return whole.hexdigest()


def _add(whole: hashlib._Hash, path: Path, name: str) -> None:
    try:
        status = os.lstat(path)
        mode = stat.S_IMODE(status.st_mode) & 0o111  # what git keeps: whether it is executable
        if stat.S_ISDIR(status.st_mode):
            _put(whole, "directory", name, b"")
            for below in sorted(os.listdir(path), key=os.fsencode):
                _add(whole, path / below, f"{name}/{below}")
        elif stat.S_ISLNK(status.st_mode):
            _put(whole, "link", name, os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            _put(whole, "program" if mode else "file", name, content)
        else:
            raise InvalidInput("neither a file, a directory nor a link", where=path)
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error


def _put(whole: hashlib._Hash, kind: str, name: str, content: bytes) -> None:
    raw = os.fsencode(name)
    whole.update(f"{kind} {len(raw)} {len(content)}\n".encode() + raw + content)
