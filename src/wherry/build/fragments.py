"""Kconfig fragments of a chain of layers, merged: the later one wins, and of every symbol it is known who set it where.

A fragment is lines of ``SYMBOL=value`` and ``# SYMBOL is not set``; other comments and empty lines mean nothing. The
files of a layer's folder are taken in the order of their names' bytes, as SkiffOS takes them, and a literal
``SKIFF_CONFIG_ROOT`` in one stands for its layer's folder. The prefix of symbols (``CONFIG_``, ``BR2_``) is whatever is
written: they are compared whole, so that Buildroot's are merged as the kernel's are.

What a tool's own ``olddefconfig`` makes of the result is another matter.

Source: the kernel's Documentation/kbuild/kconfig.rst; SkiffOS, scripts/build_configs.sh (August 2026).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.layers import Layer

KINDS = ("buildroot", "busybox", "kernel", "uboot")
"""The folders of a layer that hold fragments."""
MAX_FRAGMENT_BYTES = 1024 * 1024
ROOT_WORD = "SKIFF_CONFIG_ROOT"

_SET = re.compile(r"([A-Za-z0-9_]+)=(.*)\Z")
_UNSET = re.compile(r"#\s*([A-Za-z0-9_]+) is not set\s*\Z")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"\Z')


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of a fragment."""

    symbol: str
    value: str | None
    """As it is written; None: it is not set."""
    layer: str
    path: str
    """Of the fragment, below its layer."""
    line: int

    @property
    def where(self) -> str:
        """Layer, file and line, without the place of the layer on this machine."""
        return f"{self.layer}: {self.path}:{self.line}"

    def text(self) -> str:
        """Returns the line as the tools read it."""
        return f"# {self.symbol} is not set" if self.value is None else f"{self.symbol}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A line that is none of a fragment's."""

    line: int
    text: str
    passed_over: bool = False
    """It is one but for the space before it, for which the tools pass it over."""


def parse(text: str) -> Iterator[tuple[int, str, str | None] | Problem]:
    """Yields line, symbol and value of each setting of a fragment, and what is none."""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or (bare.startswith("#") and not bare.endswith("is not set")):
            continue
        found, unset = _SET.match(bare), _UNSET.match(bare)
        if found is None and unset is None:
            if not bare.startswith("#"):
                yield Problem(line=number, text=bare)
            continue
        value = found[2].rstrip() if found is not None else None
        if value is not None and value.startswith('"') and not _QUOTED.match(value):
            yield Problem(line=number, text=bare)
        elif line[0].isspace():
            yield Problem(line=number, text=bare, passed_over=True)
        elif found is not None:
            yield (number, found[1], value)
        elif unset is not None:
            yield (number, unset[1], None)


def read(path: Path) -> str:
    """Returns what a fragment says.

    Raises:
        InvalidInput: it is too long, or no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FRAGMENT_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read a fragment", where=path) from error
    if len(data) > MAX_FRAGMENT_BYTES:
        raise InvalidInput(f"more than {MAX_FRAGMENT_BYTES} bytes", where=path)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not text in UTF-8", where=path) from None


def fragments_of(layer: Layer, kind: str) -> list[Path]:
    """Returns a layer's fragments of a kind, in their order."""
    folder = layer.path / kind
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(found, key=lambda path: path.name.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What the fragments of a chain come to."""

    history: Mapping[str, Sequence[Setting]] = field(default_factory=dict)
    """Every setting of each symbol, the one that counts at the end; symbols in the order in which that was set."""
    problems: Sequence[tuple[str, Problem]] = ()
    """Lines that are none, each with its layer and file: the tools pass them over, too."""

    def settings(self) -> list[Setting]:
        """Returns the settings that count, in the order in which they were set."""
        return [every[-1] for every in self.history.values()]

    def redefined(self) -> list[tuple[Setting, Setting]]:
        """Returns each setting that took the place of another value, after the one that it replaced."""
        return [(old, new) for every in self.history.values() for old, new in pairwise(every) if old.value != new.value]

    def text(self) -> str:
        """Returns one fragment: the settings that count, each group after a comment that says where it is from."""
        lines: list[str] = []
        source = ""
        for setting in self.settings():
            current = f"{setting.layer}: {setting.path}"
            if current != source:
                lines += [*([""] if lines else []), f"# {current}"]
                source = current
            lines.append(setting.text())
        return "".join(f"{line}\n" for line in lines)


def merge(
    chain: Iterable[Layer], kind: str, *, root_of: Callable[[Layer], str] = lambda layer: str(layer.path)
) -> Merged:
    """Returns what the fragments of a chain come to; the later wins, without exception.

    Args:
        chain: the layers, in their order.
        kind: one of `KINDS`.
        root_of: what ``SKIFF_CONFIG_ROOT`` stands for in a layer's fragments.

    Raises:
        InvalidInput: a file is no text, or too long.
        Unsupported: there are no fragments of that kind.
    """
    if kind not in KINDS:
        raise Unsupported(f"no fragments of the kind {kind!r}", hint=f"there are {', '.join(KINDS)}")
    history: dict[str, list[Setting]] = {}
    problems: list[tuple[str, Problem]] = []
    for layer in chain:
        for path in fragments_of(layer, kind):
            for found in parse(read(path)):
                if isinstance(found, Problem):
                    problems.append((f"{layer.name}: {kind}/{path.name}:{found.line}", found))
                    continue
                number, symbol, value = found
                if value is not None and ROOT_WORD in value:
                    value = value.replace(ROOT_WORD, root_of(layer))
                every = history.pop(symbol, [])  # so that it stands where it was set last
                history[symbol] = [
                    *every,
                    Setting(symbol=symbol, value=value, layer=layer.name, path=f"{kind}/{path.name}", line=number),
                ]
    return Merged(history=history, problems=problems)
