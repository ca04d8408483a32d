"""Refs: names for commits, one file each, ``<64 hex>\\n``.

::

    refs/heads/<ref>                   written NAME; in a repository with a collection also (COLLECTION, NAME)
    refs/remotes/<remote>/<ref>        written REMOTE:NAME
    refs/mirrors/<collection>/<ref>    written (COLLECTION, NAME)

Each is replaced durably by itself, from a temporary file in ``tmp/``, so that no reader takes that for a ref; two
refs never change in one step. A ref below ``heads`` that is a symbolic link is an alias: it names what its target
names. Files whose names cannot be refs, such as ``.rsync``, are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wherry.core.digest import Checksum, Ref, parse_checksum
from wherry.core.durable import fsync_dir, map_os_error, remove_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.trace import reach

MAX_REF_CHARS = 1024
MAX_COLLECTION_CHARS = 255
MAX_FOLDERS = 64
"""Folders within folders that are looked into; a ref of `MAX_REF_CHARS` could have more, and nobody makes one."""
_PART = r"\w[-.\w]*"
_FRAGMENT = re.compile(rf"{_PART}\Z")
_REF = re.compile(rf"(?:({_PART}):)?({_PART}(?:/{_PART})*)\Z")
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+\Z")


class CollectionRef(NamedTuple):
    """A ref that is known by the collection that it comes from, whatever repository it was got from."""

    collection: str
    name: str

    def __str__(self) -> str:
        return f"({self.collection}, {self.name})"


def parse_ref(text: str) -> Ref:
    """Returns `text` as a ref, ``NAME`` or ``REMOTE:NAME``.

    Raises:
        InvalidInput: it is not such a name.
    """
    if len(text) > MAX_REF_CHARS or _REF.match(text) is None:
        raise InvalidInput(
            f"Invalid ref name {text[:80]!r}",
            hint="use letters, digits, '-', '_', '.' and '/'; no part begins with '-' or '.'",
        )
    return Ref(text)


def parse_collection(text: str) -> str:
    """Returns `text` as a collection ID, a reverse DNS name such as ``org.example.Os``.

    Raises:
        InvalidInput: it is not such a name.
    """
    if len(text) > MAX_COLLECTION_CHARS or _COLLECTION.match(text) is None:
        raise InvalidInput(
            f"Invalid collection ID {text[:80]!r}", hint="write it as a reverse DNS name, like org.example.Os"
        )
    return text


def parse_collection_ref(collection: str, name: str) -> CollectionRef:
    """Returns a collection's ref; the name may have no remote.

    Raises:
        InvalidInput: one of them is malformed.
    """
    if ":" in name:
        raise InvalidInput(f"Invalid ref name {name[:80]!r}", hint="a collection's ref has no remote")
    return CollectionRef(parse_collection(collection), parse_ref(name))


def split_ref(ref: Ref) -> tuple[str | None, str]:
    """Returns the remote's name or None, and the name."""
    remote, colon, name = ref.rpartition(":")
    return (remote if colon else None), name


def ref_path(repo: Path, ref: Ref) -> Path:
    """Returns the file of a ref."""
    remote, name = split_ref(parse_ref(ref))
    return repo / "refs" / "remotes" / remote / name if remote else repo / "refs" / "heads" / name


# --- writing


def write_ref(repo: Path, ref: Ref, checksum: Checksum | None, *, durable: bool = True) -> None:
    """Sets a ref, durably unless that is not wanted, or removes it.

    Raises:
        Conflict: another ref's name is a folder of this one's, or the other way round.
        NoSpace: the disk is full; the ref is as it was.
    """
    _write(repo, ref_path(repo, ref), str(ref), checksum, durable=durable)


def write_collection_ref(
    repo: Path, own: str, ref: CollectionRef, checksum: Checksum | None, *, durable: bool = True
) -> None:
    """Sets or removes a collection's ref; one of the repository's own collection lies below ``heads``.

    Args:
        repo: the repository's folder.
        own: its own collection, "" when it has none.
        ref: which.
        checksum: the commit, None to remove it.

    Raises:
        Conflict: see ``write_ref``.
    """
    parse_collection_ref(*ref)
    base = repo / "refs" / "heads" if ref.collection == own else repo / "refs" / "mirrors" / ref.collection
    _write(repo, base / ref.name, str(ref), checksum, durable=durable)


def write_alias(repo: Path, ref: Ref, target: Ref) -> None:
    """Makes a local ref another name of a local ref, durably.

    Raises:
        InvalidInput: one of them is a remote's.
        NotFound: there is no such target.
        Conflict: see ``write_ref``.
    """
    remote, name = split_ref(parse_ref(ref))
    if remote is not None:
        raise InvalidInput(f"Cannot create alias to remote ref: {remote}", hint="an alias and its target are local")
    if split_ref(parse_ref(target))[0] is not None or read_ref(repo, target) is None:
        raise NotFound(f"Cannot create alias to non-existent ref: {target}", hint="`wherry store refs` lists the refs")
    path = _place(repo, ref_path(repo, ref), str(ref))
    temporary = repo / "tmp" / f"ref-{os.urandom(8).hex()}"
    try:
        temporary.symlink_to("../" * name.count("/") + target)
        reach("store.ref.written")
        os.replace(temporary, path)
        fsync_dir(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise map_os_error(error, "cannot write ref", where=path) from error


def _write(repo: Path, path: Path, name: str, checksum: Checksum | None, *, durable: bool) -> None:
    if checksum is None:
        remove_file(path)
        return
    _place(repo, path, name, durable=durable)
    temporary = repo / "tmp" / f"ref-{os.urandom(8).hex()}"
    try:
        with open(temporary, "xb") as file:
            file.write(f"{checksum}\n".encode())
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            if durable:
                os.fsync(file.fileno())
        reach("store.ref.written")
        os.replace(temporary, path)
        if durable:
            fsync_dir(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise map_os_error(error, "cannot write ref", where=path) from error


def _place(repo: Path, path: Path, name: str, *, durable: bool = True) -> Path:
    """Makes the folders of a ref, and takes empty ones of its own name away."""
    try:
        missing = [folder for folder in path.parents if len(folder.parts) > len(repo.parts) and not folder.is_dir()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing if durable else ():
            fsync_dir(folder.parent)
    except (FileExistsError, NotADirectoryError):
        raise Conflict(f"a ref with a shorter name is in the way of {name}", where=path.parent) from None
    except OSError as error:
        raise map_os_error(error, "cannot write ref", where=path) from error
    if path.is_dir() and not path.is_symlink():
        try:
            for below, _, _ in os.walk(path, topdown=False):
                os.rmdir(below)
        except OSError:
            raise Conflict(f"refs with a longer name are in the way of {name}", where=path) from None
    return path


# --- reading


def read_ref(repo: Path, ref: Ref) -> Checksum | None:
    """Returns the commit of a ref, None when there is no such ref."""
    return _read(ref_path(repo, ref))


def scan_refs(repo: Path) -> Iterator[tuple[Ref, Path]]:
    """Gives every ref of ``heads`` and ``remotes`` with its file, whose content may be anything."""
    for name, path in _files(repo / "refs" / "heads"):
        yield Ref(name), path
    for remote in _folders(repo / "refs" / "remotes"):
        for name, path in _files(remote):
            yield Ref(f"{remote.name}:{name}"), path


def scan_mirrors(repo: Path) -> Iterator[tuple[CollectionRef, Path]]:
    """Gives every ref of ``mirrors`` with its file, whose content may be anything."""
    for folder in _folders(repo / "refs" / "mirrors"):
        for name, path in _files(folder):
            yield CollectionRef(folder.name, name), path


def list_refs(repo: Path) -> dict[Ref, Checksum]:
    """Returns every ref of ``heads`` and ``remotes``, sorted.

    Raises:
        InvalidInput: one of them is damaged.
        NotFound: one of the two folders is missing: to prune by refs would remove what they kept.
    """
    for folder in ("heads", "remotes"):
        if not (repo / "refs" / folder).is_dir():
            raise NotFound(f"Listing refs: opendir({folder}): No such file or directory", where=repo / "refs")
    return dict(sorted((ref, commit) for ref, path in scan_refs(repo) if (commit := _read(path))))


def list_mirrors(repo: Path) -> dict[CollectionRef, Checksum]:
    """Returns every ref of ``mirrors``, sorted.

    Raises:
        InvalidInput: one of them is damaged.
    """
    return dict(sorted((ref, commit) for ref, path in scan_mirrors(repo) if (commit := _read(path))))


def list_aliases(repo: Path) -> dict[Ref, Ref]:
    """Returns the refs below ``heads`` that are symbolic links, with what they point at."""
    found = {}
    for name, path in _files(repo / "refs" / "heads"):
        if path.is_symlink():
            target = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(path)))
            found[Ref(name)] = Ref(target)
    return dict(sorted(found.items()))


def find_ref(repo: Path, text: str) -> Checksum | None:
    """Returns the commit of a ref as a person names it: a local one, ``REMOTE/REF``, else one of exactly one remote.

    Raises:
        Conflict: several remotes have it.
    """
    if len(text) > MAX_REF_CHARS or _REF.match(text) is None:
        return None
    commit = read_ref(repo, Ref(text))
    if commit or ":" in text:
        return commit
    remotes = repo / "refs" / "remotes"
    commit = _read(remotes / text)
    if commit:
        return commit
    found = {path.name: commit for path in _folders(remotes) if (commit := _read(path / text))}
    if len(found) > 1:
        raise Conflict(f"several remotes have a ref {text}", where=", ".join(found), hint="name it REMOTE:REF")
    return next(iter(found.values()), None)


def missing_ref(text: str) -> NotFound:
    """Returns the error for a revision that is not there."""
    return NotFound(f"Refspec '{text}' not found", hint="`wherry store refs` lists the refs")


def read_ref_file(path: Path) -> Checksum | None:
    """Returns the commit in the file of a ref, None when there is no such file.

    Raises:
        InvalidInput: it holds anything else.
    """
    return _read(path)


def _read(path: Path) -> Checksum | None:
    try:
        with open(path, "rb") as file:
            data = file.read(128)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise map_os_error(error, "cannot read ref", where=path) from error
    text = data.decode("ascii", errors="replace").strip()
    if not text:
        raise InvalidInput("an empty ref", where=path, hint="write it anew from a good commit, or remove it")
    return parse_checksum(text, where=path)


def _files(base: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Gives the refs below a folder, by the name that they have there."""
    try:
        entries = sorted(os.scandir(base), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise map_os_error(error, "cannot list refs", where=base) from error
    for entry in entries:
        if _FRAGMENT.match(entry.name) is None:
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, Path(entry.path)
        elif depth < MAX_FOLDERS:
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)


def _folders(base: Path) -> list[Path]:
    try:
        return sorted(path for path in base.iterdir() if path.is_dir() and _FRAGMENT.match(path.name))
    except FileNotFoundError:
        return []
