"""Refs: names for commits, one file each, ``<64 hex>\\n``.

::

    refs/heads/<ref>                   written NAME
    refs/remotes/<remote>/<ref>        written REMOTE:NAME
    refs/mirrors/<collection>/<ref>    read only

Each is replaced durably by itself, from a temporary file in ``tmp/``, so that no reader takes that for a ref; two
refs never change in one step. A ref that is a symbolic link is an alias.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from wherry.core.digest import Checksum, Ref, parse_checksum
from wherry.core.durable import fsync_dir, map_os_error, remove_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.trace import reach

MAX_REF_CHARS = 1024
_PART = r"[A-Za-z0-9_][-._A-Za-z0-9]*"
_REF = re.compile(rf"(?:({_PART}):)?({_PART}(?:/{_PART})*)\Z")


def parse_ref(text: str) -> Ref:
    """Returns `text` as a ref, ``NAME`` or ``REMOTE:NAME``.

    Raises:
        InvalidInput: it is not such a name.
    """
    if len(text) > MAX_REF_CHARS or _REF.match(text) is None:
        raise InvalidInput(
            f"not a ref name: {text[:80]!r}",
            hint="use letters, digits, '-', '_', '.' and '/'; no part begins with '-' or '.'",
        )
    return Ref(text)


def split_ref(ref: Ref) -> tuple[str | None, str]:
    """Returns the remote's name or None, and the name."""
    remote, colon, name = ref.rpartition(":")
    return (remote if colon else None), name


def ref_path(repo: Path, ref: Ref) -> Path:
    """Returns the file of a ref."""
    remote, name = split_ref(parse_ref(ref))
    return repo / "refs" / "remotes" / remote / name if remote else repo / "refs" / "heads" / name


def read_ref(repo: Path, ref: Ref) -> Checksum | None:
    """Returns the commit of a ref, None when there is no such ref."""
    return _read(ref_path(repo, ref))


def write_ref(repo: Path, ref: Ref, checksum: Checksum | None) -> None:
    """Sets a ref durably, or removes it.

    Raises:
        Conflict: another ref's name is a folder of this one's, or the other way round.
        NoSpace: the disk is full; the ref is as it was.
    """
    path = ref_path(repo, ref)
    if checksum is None:
        remove_file(path)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Conflict(f"a ref with a shorter name is in the way of {ref}", where=path.parent) from None
    except OSError as error:
        raise map_os_error(error, "cannot write ref", where=path) from error
    if path.is_dir():
        raise Conflict(f"refs with a longer name are in the way of {ref}", where=path)
    temporary = repo / "tmp" / f"ref-{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:
            file.write(f"{checksum}\n".encode())
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        reach("store.ref.written")
        os.replace(temporary, path)
        fsync_dir(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise map_os_error(error, "cannot write ref", where=path) from error


def list_refs(repo: Path) -> dict[Ref, Checksum]:
    """Returns every ref of ``heads`` and ``remotes``, sorted."""
    found: dict[Ref, Checksum] = {}
    heads = repo / "refs" / "heads"
    for name, path in _files(heads):
        commit = _read(path)
        if commit and _REF.match(name):
            found[Ref(name)] = commit
    remotes = repo / "refs" / "remotes"
    for name, path in _files(remotes):
        remote, slash, rest = name.partition("/")
        commit = _read(path) if slash else None
        if commit and _REF.match(f"{remote}:{rest}"):
            found[Ref(f"{remote}:{rest}")] = commit
    return dict(sorted(found.items()))


def list_aliases(repo: Path) -> dict[Ref, Ref]:
    """Returns the refs below ``heads`` that are symbolic links, with what they point at."""
    heads = repo / "refs" / "heads"
    found = {}
    for name, path in _files(heads):
        if path.is_symlink():
            target = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(path)))
            found[Ref(name)] = Ref(target)
    return dict(sorted(found.items()))


def mirrored_commits(repo: Path) -> set[Checksum]:
    """Returns the commits that refs below ``mirrors`` name; they count when pruning."""
    return {commit for _, path in _files(repo / "refs" / "mirrors") if (commit := _read(path))}


def find_ref(repo: Path, text: str) -> Checksum | None:
    """Returns the commit of a ref as a person names it: a local one, else one of exactly one remote.

    Raises:
        Conflict: several remotes have it.
    """
    if _REF.match(text) is None:
        return None
    commit = read_ref(repo, Ref(text))
    if commit or ":" in text:
        return commit
    remotes = repo / "refs" / "remotes"
    found = {path.name: commit for path in sorted(_dirs(remotes)) if (commit := _read(path / text))}
    if len(found) > 1:
        raise Conflict(f"several remotes have a ref {text}", where=", ".join(found), hint="name it REMOTE:REF")
    return next(iter(found.values()), None)


def missing_ref(text: str) -> NotFound:
    """Returns the error for a revision that is not there."""
    return NotFound(f"no such ref or commit: {text}", hint="`wherry store refs` lists the refs")


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


def _files(base: Path) -> list[tuple[str, Path]]:
    found = []
    for directory, _, names in os.walk(base):
        relative = os.path.relpath(directory, base)
        for name in names:
            if not name.startswith("."):
                full = name if relative == "." else f"{relative}/{name}"
                found.append((full, Path(directory) / name))
    return found


def _dirs(base: Path) -> list[Path]:
    try:
        return [path for path in base.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
