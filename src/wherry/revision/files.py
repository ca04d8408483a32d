"""The files of a project folder: which ones a revision takes, and what each is, without anything being stored.

Every file is canonical: owner 0:0, mode 0644 or 0755 by its executable bit, symbolic links as they are, no extended
attributes, no times. So the same project gives the same tree on every machine. Empty folders are not kept, as in
git. Never taken: ``.wherry`` and ``.git``, at any depth. Refused: devices, pipes and sockets, names that are not
UTF-8, a ``revision.json`` at the top (it is written by ``wherry commit``).
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.spec.revision import FILE_NAME as REVISION_FILE
from wherry.store.format.objects import (
    DirMeta,
    DirTree,
    FileHeader,
    check_name,
    hash_head,
    metadata_checksum,
    serialize_dirmeta,
    serialize_dirtree,
)

MAX_FILES = 100_000
MAX_FILE_BYTES = 4 * 1024**3
MANIFEST_FILE = "wherry.yaml"
COMPOSE_FILE = "compose.yaml"
CONFIG_FOLDER = "config"
TRACKED_FILES = (MANIFEST_FILE, COMPOSE_FILE)
TRACKED_FOLDERS = (CONFIG_FOLDER, "layers")
"""What belongs to a project without having been added."""
NEVER = frozenset({".wherry", ".git"})
_CHUNK_BYTES = 1024 * 1024

DIR_META = DirMeta()


class Kind(enum.StrEnum):
    """What a file is, in git's three words."""

    FILE = "file"
    EXECUTABLE = "executable"
    LINK = "link"


_MODES = {
    Kind.FILE: stat.S_IFREG | 0o644,
    Kind.EXECUTABLE: stat.S_IFREG | 0o755,
    Kind.LINK: stat.S_IFLNK | 0o777,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: its kind, and the checksum of the object that it is or would be."""

    checksum: Checksum
    kind: Kind


Files = Mapping[str, Entry]
"""Paths relative to the project's folder, with ``/``, and what is there."""


def header_of(kind: Kind, target: str = "") -> FileHeader:
    """Returns the canonical header of a file."""
    return FileHeader(uid=0, gid=0, mode=_MODES[kind], symlink_target=target)


def kind_of(header: FileHeader) -> Kind:
    """Returns the kind of a file in a commit."""
    if header.is_symlink:
        return Kind.LINK
    return Kind.EXECUTABLE if header.mode & 0o111 else Kind.FILE


def is_tracked(path: str) -> bool:
    """Tells whether a path belongs to every project without being added."""
    folder, slash, _ = path.partition("/")
    return path in TRACKED_FILES or (bool(slash) and folder in TRACKED_FOLDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file of the folder, opened once: `content` is None for a link."""

    kind: Kind
    target: str = ""
    content: BinaryIO | None = None


def open_file(root: Path, path: str) -> Found:
    """Opens a file of the project without following a link in its last part.

    Raises:
        InvalidInput: it is neither a file nor a link, or too long.
        FileNotFoundError: it is not there.
    """
    full = root / path
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            return Found(kind=Kind.LINK, target=_utf8(os.readlink(full), full))
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput("neither a file nor a link; a revision cannot hold it", where=full)
        fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise map_os_error(error, "cannot read", where=full) from error
    file = os.fdopen(fd, "rb", buffering=0)
    status = os.fstat(fd)
    if status.st_size > MAX_FILE_BYTES:
        file.close()
        raise InvalidInput(f"longer than {MAX_FILE_BYTES} bytes", where=full)
    return Found(
        kind=Kind.EXECUTABLE if status.st_mode & 0o100 else Kind.FILE,
        content=file,
    )


def examine(root: Path, path: str) -> Entry | None:
    """Returns what a path of the project is now; None when nothing, or a folder, is there."""
    try:
        if stat.S_ISDIR(os.lstat(root / path).st_mode):
            return None
        found = open_file(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    digest = hashlib.sha256(hash_head(header_of(found.kind, found.target)))
    if found.content is not None:
        with found.content:
            while chunk := found.content.read(_CHUNK_BYTES):
                digest.update(chunk)
    return Entry(checksum=Checksum(digest.hexdigest()), kind=found.kind)


def list_files(root: Path, below: str = "") -> Iterator[str]:
    """Gives the paths of all files and links of the project, or of one folder of it, sorted.

    Raises:
        InvalidInput: there are too many, or a name is not UTF-8.
    """
    count = 0
    pending = [below.strip("/")]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name, reverse=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise map_os_error(error, "cannot read", where=root / folder) from error
        folders: list[str] = []
        files: list[str] = []
        for entry in entries:
            if entry.name in NEVER:
                continue
            name = check_name(_utf8(entry.name, root / folder), where=root / folder)
            path = f"{folder}/{name}" if folder else name
            (folders if entry.is_dir(follow_symlinks=False) else files).append(path)
        count += len(files)
        if count > MAX_FILES:
            raise InvalidInput(f"more than {MAX_FILES} files", where=root / below)
        yield from reversed(files)
        pending.extend(folders)


def tracked_files(root: Path, index: Iterable[str]) -> Iterator[str]:
    """Gives the paths that belong to the project: the fixed names, and what was added; they need not exist."""
    seen: set[str] = set()
    for path in TRACKED_FILES:
        if os.path.lexists(root / path):
            seen.add(path)
            yield path
    for folder in TRACKED_FOLDERS:
        if os.path.isdir(root / folder) and not os.path.islink(root / folder):
            for path in list_files(root, folder):
                seen.add(path)
                yield path
    for path in index:
        if path not in seen:
            yield path


def check_path(path: str) -> str:
    """Returns `path` when a revision may hold a file there.

    Raises:
        InvalidInput: it is ``revision.json``, or in a folder that is never taken.
    """
    if path == REVISION_FILE:
        raise InvalidInput(
            f"{REVISION_FILE} is written by `wherry commit`", where=path, hint="give your file another name"
        )
    parts = path.split("/")
    for part in parts:
        check_name(part, where=path)
    if NEVER.intersection(parts):
        raise InvalidInput("this never goes into a revision", where=path)
    return path


def tree_checksum(files: Files) -> Checksum:
    """Returns the dirtree checksum that a folder with these files has, as the store makes it."""
    meta = metadata_checksum(serialize_dirmeta(DIR_META))
    folders: dict[str, dict[str, Entry]] = {}
    direct: list[tuple[str, Checksum]] = []
    for path, entry in files.items():
        head, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(head, {})[rest] = entry
        else:
            direct.append((head, entry.checksum))
    dirs = [(name, tree_checksum(inner), meta) for name, inner in folders.items()]
    tree = DirTree(
        files=tuple(sorted(direct, key=lambda item: item[0].encode())),
        dirs=tuple(sorted(dirs, key=lambda item: item[0].encode())),
    )
    return metadata_checksum(serialize_dirtree(tree))


def _utf8(name: str, where: object) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"a name that is not UTF-8 cannot be stored: {name!r}", where=where) from None
    return name
