"""Kernel modules for an initramfs: which files a list of names comes to, and an index that busybox' modprobe reads.

A module brings what it depends on (``modules.dep``), and what it wants before it where that is there
(``modules.softdep``, through ``modules.alias``): of several with one alias, such as the ways to compute a checksum, all
come along, and the kernel asks for the alias when it wants one. ``-`` and ``_`` are one in names. Modules that are
compressed are written plain: busybox and the kernel's own loader take those everywhere.

Source: depmod(8), modprobe(8), modules.dep(5).
"""

from __future__ import annotations

import difflib
import lzma
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound

MAX_INDEX_BYTES = 64 * 1024 * 1024
MAX_MODULE_BYTES = 256 * 1024 * 1024
_SUFFIX = re.compile(r"\.ko(?:\.(?:xz|zst|gz))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Modules that were found."""

    release: str
    """The kernel's, as ``uname -r`` says it."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Paths below ``lib/modules/RELEASE``, without compression -> the module's file; in the order of names."""
    index: Mapping[str, str] = field(default_factory=dict)
    """The files of the index, by name -> their text."""
    missing: tuple[str, ...] = ()
    """Names that this kernel has no module for, and does not hold itself."""


def name_of(path: str) -> str:
    """Returns the name of a module's file, with ``_`` for ``-``."""
    return _SUFFIX.sub("", path.rpartition("/")[2]).replace("-", "_")


class Tree:
    """The modules of one kernel: a folder with what depmod makes.

    Args:
        folder: ``…/lib/modules/RELEASE``.

    Raises:
        NotFound: depmod was not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.release = folder.name
        self._needs: dict[str, list[str]] = {}
        self._path: dict[str, str] = {}
        for line in self._lines("modules.dep"):
            path, _, needs = line.partition(":")
            self._path[name_of(path)] = path
            self._needs[name_of(path)] = [name_of(other) for other in needs.split()]
        self._builtin = {name_of(line) for line in self._lines("modules.builtin", wanted=False)}
        self._aliases: dict[str, list[str]] = {}
        self._patterns: list[tuple[str, str]] = []
        for line in self._lines("modules.alias", wanted=False):
            words = line.split()
            if len(words) == 3 and words[0] == "alias":
                self._patterns.append((words[1], words[2].replace("-", "_")))
                self._aliases.setdefault(words[1].replace("-", "_"), []).append(words[2].replace("-", "_"))
        self._soft: dict[str, list[str]] = {}
        for line in self._lines("modules.softdep", wanted=False):
            self._add_soft(line)

    def _add_soft(self, line: str) -> None:
        words = line.split()
        if len(words) < 3 or words[0] != "softdep":
            return
        before = False
        for word in words[2:]:
            if word.endswith(":"):
                before = word == "pre:"
            elif before:
                self._soft.setdefault(words[1].replace("-", "_"), []).append(word.replace("-", "_"))

    def _lines(self, name: str, *, wanted: bool = True) -> Iterator[str]:
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_INDEX_BYTES + 1)
        except FileNotFoundError:
            if not wanted:
                return
            raise NotFound("no index of the kernel's modules", where=path, hint="depmod makes it") from None
        except OSError as error:
            raise map_os_error(error, "cannot read", where=path) from error
        if len(data) > MAX_INDEX_BYTES:
            raise InvalidInput(f"more than {MAX_INDEX_BYTES} bytes", where=path)
        for line in data.decode(errors="replace").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line

    def has(self, name: str) -> bool:
        """Tells whether there is such a module, or the kernel holds it itself."""
        plain = name.replace("-", "_")
        return plain in self._path or plain in self._builtin

    def choose(self, wanted: Iterable[str], *, optional: Iterable[str] = ()) -> Chosen:
        """Returns modules with all that they need.

        Args:
            wanted: names, each of which must be there.
            optional: names that are left out where this kernel has none of them.

        Raises:
            NotFound: there is no such module; guesses which is meant.
        """
        for name in wanted:
            if not self.has(name):
                near = difflib.get_close_matches(name.replace("-", "_"), self._path, n=1)
                raise NotFound(
                    f"the kernel {self.release} has no module {name!r}",
                    hint=f"did you mean {near[0]!r}?" if near else "leave it out, or take another kernel",
                )
        names = [*wanted, *optional]
        found: dict[str, list[str]] = {}
        left = [name.replace("-", "_") for name in reversed(names)]
        while left:
            name = left.pop()
            if name in found or name not in self._path:
                continue
            found[name] = self._needs[name]
            left += [*reversed(found[name]), *self._wishes(name)]
        files = {_SUFFIX.sub(".ko", self._path[name]): self.folder / self._path[name] for name in sorted(found)}
        return Chosen(
            release=self.release,
            files=files,
            index=self._index(found),
            missing=tuple(name for name in names if not self.has(name)),
        )

    def _wishes(self, name: str) -> Iterator[str]:
        """Gives what a module wants before it, where it is there; it may not suit the machine, and nobody minds."""
        for soft in self._soft.get(name, ()):
            yield from [soft] if soft in self._path else self._aliases.get(soft, [])

    def _index(self, found: Mapping[str, list[str]]) -> dict[str, str]:
        path = {name: _SUFFIX.sub(".ko", self._path[name]) for name in found}
        needs = [f"{path[name]}: {' '.join(path[other] for other in found[name])}".rstrip() for name in sorted(found)]
        aliases = [f"alias {pattern} {name}" for pattern, name in self._patterns if name in found]
        return {
            "modules.alias": "".join(f"{line}\n" for line in aliases),
            "modules.dep": "".join(f"{line}\n" for line in needs),
        }


def read_module(path: Path) -> bytes:
    """Returns a module's bytes, uncompressed.

    Raises:
        InvalidInput: it is damaged, or too long.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_MODULE_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read a module", where=path) from error
    if path.suffix == ".xz":
        try:
            data = lzma.LZMADecompressor().decompress(data, MAX_MODULE_BYTES + 1)
        except lzma.LZMAError as error:
            raise InvalidInput("not a module in xz", where=path) from error
    elif path.suffix == ".zst":
        import zstandard

        try:
            data = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_MODULE_BYTES + 1)
        except zstandard.ZstdError as error:
            raise InvalidInput("not a module in zstd", where=path) from error
    elif path.suffix == ".gz":
        import zlib

        try:
            data = zlib.decompressobj(31).decompress(data, MAX_MODULE_BYTES + 1)
        except zlib.error as error:
            raise InvalidInput("not a module in gzip", where=path) from error
    if len(data) > MAX_MODULE_BYTES:
        raise InvalidInput(f"a module of more than {MAX_MODULE_BYTES} bytes", where=path)
    return data
