"""``source.lock``: which sources a host is compiled from, byte for byte. People keep it in git.

::

    # Sources of this host; `wherry host lock` writes this file. Keep it in git.
    format 1
    suite bookworm
    busybox busybox 1:1.35.0-4 2321 1f…e0 pool/main/b/busybox/busybox_1.35.0-4.dsc
    busybox busybox 1:1.35.0-4 2480624 39…bb pool/main/b/busybox/busybox_1.35.0.orig.tar.bz2
    kernel linux-source-6.1 6.1.192-3 139330232 77…01 pool/main/l/linux/linux-source-6.1_6.1.192-3_all.deb

UTF-8, lines end with a line feed, words are parted by one space; lines that begin with ``#`` and empty ones are passed
over. First the head; then one line for each file, in the order of their bytes: what it is for, the package, its
version, the size in bytes, the SHA-256, and the path below a mirror. No mirror is named: any that has the file will
do, and a file with another digest is refused. A source that is named by ``url`` is pinned by its ``sha256`` there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wherry.core.digest import parse_checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.build.source.options import Options

FORMAT = "1"
MAX_LOCK_BYTES = 1024 * 1024
MAX_FILE_BYTES = 4 * 1024 * 1024 * 1024
COMMENT = "# Sources of this host; `wherry host lock` writes this file. Keep it in git.\n"
HINT = "`wherry host lock` makes it"
_FIELDS = 6
_WORD = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:_-]{0,160}\Z")
_PATH = re.compile(r"[A-Za-z0-9+.~_%:-]+(?:/[A-Za-z0-9+.~_%:-]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Pinned:
    """One file."""

    role: str
    """What it is for: ``kernel``, ``busybox``, ``libcap``."""
    name: str
    """The package."""
    version: str
    size: int
    sha256: str
    path: str
    """Below a mirror."""

    @property
    def file_name(self) -> str:
        """Its name, as the mirror has it."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock file."""

    suite: str
    files: tuple[Pinned, ...] = ()

    def of(self, role: str) -> tuple[Pinned, ...]:
        """Returns the files of one source."""
        return tuple(file for file in self.files if file.role == role)

    def check_fits(self, options: Options, *, where: object) -> None:
        """Looks whether it has what is asked for.

        Raises:
            Conflict: it was made for something else.
        """
        if self.suite != options.suite:
            raise Conflict(f"made for {self.suite}, not for {options.suite}", where=where, hint=HINT)
        for role, origin in options.origins().items():
            if origin.url:
                continue
            names = {file.name for file in self.of(role)}
            if names != {origin.package}:
                had = ", ".join(sorted(names)) or "nothing"
                raise Conflict(f"it has {had} for {role}, not {origin.package}", where=where, hint=HINT)


def serialize(lock: Lock) -> bytes:
    """Returns a lock as the bytes of its file."""
    head = (f"format {FORMAT}", f"suite {lock.suite}")
    lines = sorted(f"{one.role} {one.name} {one.version} {one.size} {one.sha256} {one.path}" for one in lock.files)
    return (COMMENT + "".join(f"{line}\n" for line in (*head, *lines))).encode()


def parse(data: bytes, *, where: object = None) -> Lock:
    """Returns what a lock file says.

    Raises:
        InvalidInput: it is malformed; says the line.
    """
    if len(data) > MAX_LOCK_BYTES:
        raise InvalidInput(f"more than {MAX_LOCK_BYTES} bytes", where=where)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("not text in UTF-8", where=where) from None
    head: dict[str, str] = {}
    files: dict[tuple[str, str], Pinned] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        words = line.split(" ")
        here = f"{where}:{number}"
        if len(head) < 2:
            _head(head, words, here)
            continue
        one = _pinned(words, here)
        if (one.role, one.file_name) in files:
            raise InvalidInput(f"{one.file_name} stands there twice", where=here)
        files[one.role, one.file_name] = one
    if "suite" not in head:
        raise InvalidInput("no lock of sources: its head is not whole", where=where, hint=HINT)
    return Lock(suite=head["suite"], files=tuple(sorted(files.values())))


def _head(head: dict[str, str], words: list[str], where: str) -> None:
    key = ("format", "suite")[len(head)]
    if len(words) != 2 or words[0] != key or not words[1]:
        raise InvalidInput(f"must be the line `{key} …`", where=where)
    if key == "format" and words[1] != FORMAT:
        raise InvalidInput(f"format {words[1][:20]!r} is not known", where=where, hint="a newer Wherry made it")
    head[key] = words[1]


def _pinned(words: list[str], where: str) -> Pinned:
    if len(words) != _FIELDS or not all(_WORD.match(word) for word in words[:3]):
        raise InvalidInput("must be: for what, package, version, size, SHA-256, path", where=where)
    role, name, version, size, sha256, path = words
    if not size.isdecimal() or not 0 < int(size) <= MAX_FILE_BYTES:
        raise InvalidInput(f"no size of a file: {size[:40]!r}", where=where)
    if not _PATH.match(path) or ".." in path.split("/"):
        raise InvalidInput(f"no path below a mirror: {path[:80]!r}", where=where)
    checksum = parse_checksum(sha256, where=where)
    return Pinned(role=role, name=name, version=version, size=int(size), sha256=checksum, path=path)


def read(path: Path) -> Lock:
    """Returns what a lock file says.

    Raises:
        NotFound: there is none.
        InvalidInput: it is malformed.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no lock of sources", where=path, hint=HINT) from None
    except OSError as error:
        raise map_os_error(error, "cannot read a lock", where=path) from error
    return parse(data, where=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChanges:
    """What a new lock is beside the one before."""

    path: Path
    new: bool
    """Whether there was none before."""
    added: tuple[str, ...] = ()
    """Packages, each with its version."""
    removed: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        """Tells whether anything is different."""
        return self.new or bool(self.added or self.removed or self.changed)


def changes(path: Path, before: Lock | None, after: Lock) -> LockChanges:
    """Returns what is different."""
    old, new = _versions(before), _versions(after)
    return LockChanges(
        path=path,
        new=before is None,
        added=tuple(f"{name} {new[name]}" for name in new if name not in old),
        removed=tuple(f"{name} {old[name]}" for name in old if name not in new),
        changed=tuple(
            (f"{name} {old[name]}", f"{name} {new[name]}") for name in new if old.get(name, new[name]) != new[name]
        ),
    )


def _versions(lock: Lock | None) -> Mapping[str, str]:
    return {file.name: file.version for file in lock.files} if lock is not None else {}
