"""Which files of a tree a command needs, and why each: by what the files say of themselves, nothing is run.

A program needs its PT_INTERP and its libraries, a script its interpreter; a path needs its folders and each symlink on
the way. What a program opens by itself (modules of Python, data, plugins) is not to be seen here: ``tracing.py`` sees
it, or the user adds it.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wherry.core.errors import CannotInvoke, CommandNotFound, InvalidInput, NotFound
from wherry.engine.pack.elf import Elf
from wherry.engine.pack.libraries import Libraries, glob
from wherry.engine.pack.tree import Found, Tree
from wherry.engine.spec import DEFAULT_PATH

MAX_FILES = 1_000_000
_SHEBANG_BYTES = 256
"""What the kernel reads of a script's first line (BINPRM_BUF_SIZE)."""

GLIBC = "libc.so.6"
_GLIBC_LIBRARIES = ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1")
"""What glibc loads by itself: names of users and hosts (nsswitch.conf(5)), and the end of a cancelled thread."""
_GLIBC_FILES = (
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/services",
    "/etc/protocols",
    "/usr/lib/locale/C.utf8",
)
_MUSL_FILES = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/services", "/etc/protocols")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """The files of an app."""

    command: str
    """The program's path in the tree."""
    machine: str
    """``uname -m``'s word for what it runs on; empty: no ELF file is in it."""
    files: dict[str, str]
    """Path -> why, sorted; folders too."""
    missing: tuple[str, ...]
    """Libraries that nothing in the tree is: "libx.so.1 (of /usr/bin/y)"."""


class Collector:
    """Gathers paths; each is followed as far as files name others."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.libraries = Libraries(tree)
        self._files: dict[str, str] = {"/": "the root"}
        self._missing: dict[str, None] = {}
        self._done: set[str] = set()
        self._pending: list[tuple[Found, tuple[str, ...]]] = []
        self.machine = ""

    def command(self, word: str, path_variable: str = DEFAULT_PATH) -> str:
        """Adds the program that a word means, and returns its path as it was found.

        Raises:
            CommandNotFound: there is none.
            CannotInvoke: it is not a file with the x bit.
        """
        places = [word] if "/" in word else [f"{folder}/{word}" for folder in path_variable.split(":") if folder]
        for place in places:
            found = self.tree.find(place)
            if found is None or (len(places) > 1 and not _runs(found)):
                continue
            if not _runs(found):
                raise CannotInvoke("not a program", where=word)
            self.add(place, "the command")
            if not self.machine:
                self.machine = self._machine_of(found)
            return posixpath.normpath(posixpath.join("/", place))
        raise CommandNotFound("no such command in the tree", where=word)

    def add(self, path: str, why: str, *, base: str = "/", inherited: Sequence[str] = ()) -> Found | None:
        """Adds a path and what it needs; a folder without what is in it. Returns what it is; None: it is not there."""
        found = self.tree.find(path, base=base)
        if found is None:
            return None
        for link in found.links:
            self._put(link, f"symlink to {found.path}")
        self._put(found.path, why)
        if found.is_file and found.path not in self._done:
            self._done.add(found.path)
            self._pending.append((found, tuple(inherited)))
            self._drain()
        return found

    def add_all(self, path: str, why: str) -> None:
        """Adds a path and all that is below it."""
        found = self.add(path, why)
        if found is None:
            parent = self.tree.find(posixpath.dirname(path))
            if parent is not None:  # a symlink that leads nowhere
                self._put(posixpath.join(parent.path, posixpath.basename(path)), why)
            return
        if found.is_dir:
            for below in self.tree.everything(found.path):
                info = self.tree.lstat(below)
                if stat.S_ISREG(info.st_mode):
                    self.add(below, why)
                else:
                    self._put(below, why)

    def add_pattern(self, pattern: str) -> None:
        """Adds what a path or pattern of the user means, with all that is below.

        Raises:
            NotFound: it means nothing.
        """
        matches = glob(self.tree, pattern)
        if not matches:
            raise NotFound("nothing in the tree is that", where=pattern)
        for match in matches:
            self.add_all(match, f"added: {pattern}")

    def exclude(self, patterns: Iterable[str]) -> None:
        """Takes out what patterns mean, with all that is below.

        Raises:
            InvalidInput: the whole root would go.
        """
        for pattern in patterns:
            for match in glob(self.tree, pattern):
                parent = self.tree.find(posixpath.dirname(match))
                if match == "/" or parent is None:
                    raise InvalidInput("the root cannot be left out", where=pattern)
                gone = posixpath.join(parent.path, posixpath.basename(match))
                for path in [path for path in self._files if path == gone or path.startswith(gone + "/")]:
                    del self._files[path]

    def result(self, command: str) -> Needed:
        """Returns what was gathered."""
        return Needed(
            command=command,
            machine=self.machine,
            files=dict(sorted(self._files.items())),
            missing=tuple(self._missing),
        )

    def _put(self, path: str, why: str) -> None:
        self._files.setdefault(path, why)
        parent = posixpath.dirname(path)
        while parent not in self._files:
            self._files[parent] = "folder"
            parent = posixpath.dirname(parent)
        if len(self._files) > MAX_FILES:
            raise InvalidInput(f"more than {MAX_FILES} files", where=self.tree.root)

    def _drain(self) -> None:
        while self._pending:
            found, inherited = self._pending.pop()
            headers = self.libraries.elf(found.path)
            if headers is not None:
                self._program(found.path, headers, inherited)
            elif found.info.st_mode & 0o111:
                self._script(found.path)

    def _program(self, path: str, headers: Elf, inherited: tuple[str, ...]) -> None:
        origin = posixpath.dirname(path)
        if headers.interpreter and self.add(headers.interpreter, f"dynamic linker of {path}") is None:
            self._missing[f"{headers.interpreter} (of {path})"] = None
        rpath = (*self.libraries.rpath(headers, origin), *inherited)
        for name in headers.needed:
            self._library(name, path, headers, rpath)
        if GLIBC in headers.needed and GLIBC not in self._done:
            self._done.add(GLIBC)
            for name in _GLIBC_LIBRARIES:
                library = self.libraries.find(name, loader=headers, origin=origin)
                if library is not None:
                    self.add(library.path, "glibc loads it")
            for extra in _GLIBC_FILES:
                self.add_all(extra, "glibc reads it") if self.tree.find(extra) else None
        elif posixpath.basename(headers.interpreter).startswith("ld-musl-") and "musl" not in self._done:
            self._done.add("musl")
            name = posixpath.basename(headers.interpreter).removesuffix(".so.1")
            for extra in (*_MUSL_FILES, f"/etc/{name}.path"):
                self.add(extra, "musl reads it")

    def _library(self, name: str, path: str, headers: Elf, rpath: tuple[str, ...]) -> None:
        origin = posixpath.dirname(path)
        # The search goes by the folders as written, so that the symlinks there come along.
        found = self.libraries.find(name, loader=headers, origin=origin, inherited=rpath)
        if found is None:
            self._missing[f"{name} (of {path})"] = None
            return
        for link in found.links:
            self._put(link, f"symlink to {found.path}")
        self.add(found.path, f"library of {path}", inherited=rpath)

    def _script(self, path: str) -> None:
        head = self.tree.read_head(path, _SHEBANG_BYTES)
        if not head.startswith(b"#!"):
            return
        words = head[2:].split(b"\n", 1)[0].decode(errors="surrogateescape").split(None, 1)
        if not words:
            return
        interpreter = words[0]
        if self.add(interpreter, f"interpreter of {path}") is None:
            self._missing[f"{interpreter} (of {path})"] = None
        if posixpath.basename(interpreter) == "env" and len(words) > 1:
            options = words[1].split()
            names = [word for word in options if not word.startswith("-") and "=" not in word]
            if names:
                try:
                    self.command(names[0])
                except CommandNotFound:
                    self._missing[f"{names[0]} (of {path})"] = None

    def _machine_of(self, found: Found, depth: int = 0) -> str:
        headers = self.libraries.elf(found.path)
        if headers is not None:
            return headers.machine
        head = self.tree.read_head(found.path, _SHEBANG_BYTES)
        words = head[2:].split(b"\n", 1)[0].decode(errors="surrogateescape").split() if head.startswith(b"#!") else []
        inner = self.tree.find(words[0]) if words else None
        return self._machine_of(inner, depth + 1) if inner is not None and inner.is_file and depth < 4 else ""


def _runs(found: Found) -> bool:
    return found.is_file and bool(found.info.st_mode & 0o111)
