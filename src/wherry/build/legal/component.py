"""What a host is made of, as far as its terms go: one value for packages, compiled sources and Buildroot's packages.

A step that compiles something leaves what it knows in its result, for `collecting.py`::

    legal/
      components.json     {"format": 1, "components": [...], "warnings": [...]}
      texts/NAME          the licences' texts, by the names that components have for them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.core.jsonio import loads, pretty
from wherry.image.sbom.model import Basis
from wherry.spec.codec import decode, encode

FOLDER = "legal"
FORMAT = 1
MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of one file."""
MAX_ALL_TEXTS_BYTES = 512 * 1024 * 1024
_INDEX = "components.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a component that is under a licence of its own."""

    licence: str
    """An SPDX expression."""
    files: tuple[str, ...] = ()
    """Patterns of the files in the source, as its author wrote them; the first of them, where there are very many."""
    count: int = 0
    """How many patterns there are, or files where these were counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One package, or one thing that was compiled."""

    kind: str
    """``deb``, ``source``, ``buildroot``, ``layer``; or a package manager's, as in a purl."""
    name: str
    version: str
    architecture: str = ""
    licence: str = ""
    """An SPDX expression of all that holds for it; "" when none is known."""
    basis: Basis = Basis.UNKNOWN
    """How it is known: declared, or recognised in a text for people and so guessed."""
    parts: tuple[Part, ...] = ()
    source: str = ""
    """The name of what it was built from: the source package, the archive's name without its version."""
    source_version: str = ""
    origin: str = ""
    """Where the source is: the file's name in an archive, or its address."""
    sha256: str = ""
    """Of that file, where it is one."""
    built_using: tuple[str, ...] = ()
    """Other source packages, with versions, of which it holds parts: ``glibc 2.36-9``."""
    texts: tuple[str, ...] = ()
    """Names of its licences' texts, in `Facts.texts`."""
    proprietary: str = ""
    """Why it may not be passed on as free software may; "" for what is free."""
    depends: tuple[str, ...] = ()
    """Keys of components that it needs."""
    layer: str = ""
    """The layer that brought it, where there is one."""

    @property
    def key(self) -> str:
        """What is different for each component of a host."""
        return f"{self.kind}:{self.name}:{self.architecture}@{self.version}"

    @property
    def guessed(self) -> bool:
        """Whether its licence was read out of a text for people."""
        return self.basis is Basis.RECOGNISED


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a host's components."""

    components: tuple[Component, ...] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    format: int
    components: tuple[Component, ...] = ()
    warnings: tuple[str, ...] = ()


def join(every: Iterable[Facts]) -> Facts:
    """Returns all facts as one, components sorted and each once; of two with one key the first stays."""
    components: dict[str, Component] = {}
    texts: dict[str, bytes] = {}
    warnings: dict[str, None] = {}
    for facts in every:
        renamed = {name: _free(texts, name, data) for name, data in sorted(facts.texts.items())}
        texts.update((renamed[name], data) for name, data in facts.texts.items())
        for component in facts.components:
            names = tuple(dict.fromkeys(renamed.get(name, name) for name in component.texts))
            components.setdefault(component.key, _with_texts(component, names))
        warnings.update(dict.fromkeys(facts.warnings))
    return Facts(
        components=tuple(component for _, component in sorted(components.items())),
        texts=dict(sorted(texts.items())),
        warnings=tuple(warnings),
    )


def _with_texts(component: Component, names: tuple[str, ...]) -> Component:
    from dataclasses import replace

    return component if names == component.texts else replace(component, texts=names)


def _free(texts: Mapping[str, bytes], name: str, data: bytes) -> str:
    number, wanted = 1, name
    while name in texts and texts[name] != data:
        number += 1
        name = f"{wanted}.{number}"
    return name


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes facts into a new folder, as drawn above.

    Raises:
        InvalidInput: a text's name leads out of it.
        NoSpace, NotPermitted: it cannot be written.
    """
    index = _Index(format=FORMAT, components=facts.components, warnings=facts.warnings)
    make_dirs(folder)
    try:
        for name, data in facts.texts.items():
            place = folder / "texts" / _checked(name, folder)
            make_dirs(place.parent)
            place.write_bytes(data)
    except OSError as error:
        raise map_os_error(error, "cannot keep a licence's text", where=folder) from error
    write_file(folder / _INDEX, (pretty(encode(index)) + "\n").encode())


def read_facts(folder: Path) -> Facts:
    """Returns the facts in a folder; none where there is no such folder.

    Raises:
        InvalidInput: they are malformed, or a text is too long.
        NotFound: a text is missing.
        Unsupported: they are of another format.
    """
    path = folder / _INDEX
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Facts()
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    index = decode(_Index, loads(data, where=path), where=path)
    if index.format != FORMAT:
        raise Unsupported(f"facts of format {index.format}, not {FORMAT}", where=path)
    texts: dict[str, bytes] = {}
    left = MAX_ALL_TEXTS_BYTES
    for name in sorted({name for component in index.components for name in component.texts}):
        texts[name] = _read_text(folder / "texts" / _checked(name, path), min(left, MAX_TEXT_BYTES))
        left -= len(texts[name])
    return Facts(components=index.components, texts=texts, warnings=index.warnings)


def _read_text(path: Path, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise NotFound("a licence's text is not there", where=path) from None
    except OSError as error:
        raise map_os_error(error, "cannot read a licence's text", where=path) from error
    if len(data) > max_bytes:
        raise InvalidInput(f"more than {max_bytes} bytes", where=path)
    return data


def _checked(name: str, where: object) -> PurePosixPath:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InvalidInput(f"not a name for a text: {name[:100]!r}", where=where)
    return path
