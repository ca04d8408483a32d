"""Where the dynamic linkers of glibc and musl look for a library, asked of a tree instead of a process.

Sources: ld.so(8) ("the necessary libraries are searched for in the following order"), musl's ldso/dynlink.c as its
manual tells it (DT_RPATH and DT_RUNPATH are one there). The variables LD_LIBRARY_PATH and LD_PRELOAD are not asked.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from wherry.core.errors import InvalidInput
from wherry.engine.pack import elf
from wherry.engine.pack.elf import Elf
from wherry.engine.pack.tree import Found, Tree

MAX_CONFIG_BYTES = 64 * 1024
MAX_INCLUDES = 256


class Libraries:
    """The libraries of a tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._elves: dict[str, Elf | None] = {}
        self._configured: tuple[str, ...] | None = None

    def elf(self, path: str) -> Elf | None:
        """Returns a file's headers; None when it is no ELF file."""
        if path not in self._elves:
            is_elf = self._tree.read_head(path, len(elf.MAGIC)) == elf.MAGIC
            self._elves[path] = elf.read(self._tree.disk(path), where=path) if is_elf else None
        return self._elves[path]

    def find(self, name: str, *, loader: Elf, origin: str, inherited: Sequence[str] = ()) -> Found | None:
        """Returns the library that a file means by a DT_NEEDED entry; None: there is none that fits.

        Args:
            name: the entry; with a slash in it, it is a path.
            loader: the file's headers.
            origin: the folder it is in.
            inherited: DT_RPATH of what loaded the file, expanded.
        """
        if "/" in name:
            return self._fitting(self._expand(name, loader, origin), loader)
        for folder in self.folders(loader, origin, inherited):
            found = self._fitting(f"{folder}/{name}", loader)
            if found is not None:
                return found
        return None

    def rpath(self, loader: Elf, origin: str) -> list[str]:
        """Returns a file's own DT_RPATH, which its libraries inherit; nothing beside a DT_RUNPATH (ld.so(8))."""
        return [] if loader.runpath else [self._expand(part, loader, origin) for part in loader.rpath]

    def folders(self, loader: Elf, origin: str, inherited: Sequence[str]) -> list[str]:
        """Returns the folders that are searched, in order."""
        own = self.rpath(loader, origin)
        run = [self._expand(part, loader, origin) for part in loader.runpath]
        triplet = elf.TRIPLETS.get(loader.machine, "")
        wide = ["/lib64", "/usr/lib64"] if loader.bits == 64 else ["/lib32", "/usr/lib32"]
        if loader.machine == "x86_64" and loader.bits == 32:
            wide = ["/libx32", "/usr/libx32"]
        debian = [f"/lib/{triplet}", f"/usr/lib/{triplet}"] if triplet else []
        return [
            *own,
            *([] if loader.runpath else inherited),
            *run,
            *self.configured(),
            *self._musl(loader),
            *debian,
            *wide,
            "/lib",
            "/usr/lib",
            "/usr/local/lib",
        ]

    def configured(self) -> tuple[str, ...]:
        """Returns the folders of /etc/ld.so.conf and what it includes."""
        if self._configured is None:
            folders: list[str] = []
            self._read_config("/etc/ld.so.conf", folders, set())
            self._configured = tuple(folders)
        return self._configured

    def _read_config(self, path: str, folders: list[str], seen: set[str]) -> None:
        found = self._tree.find(path)
        if found is None or not found.is_file or found.path in seen:
            return
        if len(seen) >= MAX_INCLUDES:
            raise InvalidInput(f"more than {MAX_INCLUDES} files of ld.so.conf", where=path)
        seen.add(found.path)
        for line in self._tree.read_head(found.path, MAX_CONFIG_BYTES).decode(errors="replace").splitlines():
            words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    for match in glob(self._tree, posixpath.join("/etc", pattern)):
                        self._read_config(match, folders, seen)
            elif words[:1] != ["hwcap"]:
                folders += [word for word in words if word.startswith("/")]

    def _musl(self, loader: Elf) -> list[str]:
        """Returns the folders of /etc/ld-musl-ARCH.path; without it musl has a default of its own."""
        name = posixpath.basename(loader.interpreter)
        config = (
            name.removesuffix(".so.1") + ".path" if name.startswith("ld-musl-") else f"ld-musl-{loader.machine}.path"
        )
        found = self._tree.find(f"/etc/{config}")
        if found is None or not found.is_file:
            return []
        text = self._tree.read_head(found.path, MAX_CONFIG_BYTES).decode(errors="replace")
        return [part for part in text.replace("\n", ":").split(":") if part.startswith("/")]

    def _fitting(self, path: str, loader: Elf) -> Found | None:
        found = self._tree.find(path)
        if found is None or not found.is_file:
            return None
        headers = self.elf(found.path)
        return found if headers is not None and headers.fits(loader) else None

    @staticmethod
    def _expand(text: str, loader: Elf, origin: str) -> str:
        """Expands the tokens of ld.so(8), "Dynamic string tokens"."""
        library = "lib64" if loader.bits == 64 else "lib"
        for token, value in (("ORIGIN", origin), ("LIB", library), ("PLATFORM", loader.machine)):
            text = text.replace(f"${{{token}}}", value).replace(f"${token}", value)
        return text


def glob(tree: Tree, pattern: str) -> list[str]:
    """Returns the paths of a tree that an absolute pattern means, sorted; ``*``, ``?`` and ``[...]`` as in sh."""
    import fnmatch

    heads = ["/"]
    for part in (step for step in pattern.split("/") if step):
        found: list[str] = []
        for head in heads:
            if not any(char in part for char in "*?["):
                path = f"{head.rstrip('/')}/{part}"
                # A link that leads nowhere is a match too, as sh has it.
                parent = tree.find(head)
                if parent is not None and parent.is_dir and part in (".", "..", *tree.names(parent.path)):
                    found.append(path)
                continue
            parent = tree.find(head)
            if parent is None or not parent.is_dir:
                continue
            for name in tree.names(parent.path):
                if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
                    found.append(f"{head.rstrip('/')}/{name}")
        heads = found
    return sorted(heads)
