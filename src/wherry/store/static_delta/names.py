"""What static deltas are called, and where they lie.

::

    deltas/<2>/<41>-<43>/superblock    from one commit to another: both checksums in OSTree's base64
    deltas/<2>/<41>/superblock         from nothing
    deltas/.../0, 1, 2, ...            parts
    delta-indexes/<2>/<41>.index       the deltas to one commit

OSTree's base64 is the usual one without its padding, with ``_`` for ``/``. People write ``FROM-TO`` or ``TO``, in hex.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, is_checksum
from wherry.core.durable import fsync_dir, map_os_error
from wherry.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from wherry.store.repository import Repository

DELTAS = "deltas"
INDEXES = "delta-indexes"
SUPERBLOCK = "superblock"
_CHARS = 43
_FOLDER = re.compile(r"([A-Za-z0-9+_]{43})(?:-([A-Za-z0-9+_]{43}))?\Z")

DeltaName = tuple[Checksum | None, Checksum]
"""From (None: from nothing) and to."""


def to_base64(checksum: Checksum) -> str:
    """Returns a checksum in OSTree's base64, 43 characters."""
    return base64.b64encode(bytes.fromhex(checksum)).decode().rstrip("=").replace("/", "_")


def from_base64(text: str) -> Checksum:
    """Returns the checksum that 43 characters of OSTree's base64 are.

    Raises:
        InvalidInput: they are none.
    """
    try:
        raw = base64.b64decode(text.replace("_", "/") + "=", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise InvalidInput(f"not a checksum in base64: {text[:_CHARS]!r}")
    return Checksum(raw.hex())


def delta_folder(origin: Checksum | None, target: Checksum) -> str:
    """Returns the folder of a delta, relative to the repository."""
    text = f"{to_base64(origin)}-{to_base64(target)}" if origin else to_base64(target)
    return f"{DELTAS}/{text[:2]}/{text[2:]}"


def delta_path(origin: Checksum | None, target: Checksum, file: str = SUPERBLOCK) -> str:
    """Returns the path of one file of a delta, relative to the repository."""
    return f"{delta_folder(origin, target)}/{file}"


def index_path(target: Checksum) -> str:
    """Returns the path of the index of the deltas to a commit, relative to the repository."""
    text = to_base64(target)
    return f"{INDEXES}/{text[:2]}/{text[2:]}.index"


def delta_name(origin: Checksum | None, target: Checksum) -> str:
    """Returns what a delta is called in a summary, in an index and on the command line."""
    return f"{origin}-{target}" if origin else str(target)


def parse_delta_name(text: str) -> DeltaName:
    """Returns from and to of ``FROM-TO`` or ``TO``.

    Raises:
        InvalidInput: it is neither.
    """
    origin, dash, target = text.partition("-")
    if not dash:
        origin, target = "", origin
    for rev in (origin, target):
        if rev and not is_checksum(rev):
            raise InvalidInput(f"Invalid rev {rev}", hint="name a delta as FROM-TO or TO, with whole checksums")
    if not target or (dash and not origin):
        raise InvalidInput(f"Invalid rev {text}", hint="name a delta as FROM-TO or TO, with whole checksums")
    return (Checksum(origin) if origin else None), Checksum(target)


def list_deltas(repo: Repository) -> list[DeltaName]:
    """Returns every delta of a repository, sorted by its name."""
    found = []
    for outer, inner in _entries(repo.path / DELTAS):
        match = _FOLDER.match(outer + inner)
        if match is None or not (repo.path / DELTAS / outer / inner / SUPERBLOCK).is_file():
            continue
        try:
            first, second = from_base64(match[1]), from_base64(match[2]) if match[2] else None
        except InvalidInput:
            continue
        found.append((first, second) if second else (None, first))
    return sorted(found, key=lambda name: delta_name(*name))


def list_indexes(repo: Repository) -> list[Checksum]:
    """Returns the commits that have an index of the deltas to them, sorted."""
    found = []
    for outer, inner in _entries(repo.path / INDEXES):
        if inner.endswith(".index"):
            try:
                found.append(from_base64(outer + inner.removesuffix(".index")))
            except InvalidInput:
                continue
    return sorted(found)


def exists(repo: Repository, name: DeltaName) -> bool:
    """Tells whether a delta is there."""
    return (repo.path / delta_path(*name)).is_file()


def delete_delta(repo: Repository, name: DeltaName) -> None:
    """Removes a delta: its superblock first, so that nobody begins on it any more.

    Raises:
        NotFound: there is none.
    """
    folder = repo.path / delta_folder(*name)
    if not folder.is_dir():
        raise NotFound(f"Can't find delta {delta_name(*name)}", where=repo.path)
    try:
        (folder / SUPERBLOCK).unlink(missing_ok=True)
        fsync_dir(folder)
        shutil.rmtree(folder)
        try:
            folder.parent.rmdir()
        except OSError:
            pass  # other deltas lie there
    except OSError as error:
        raise map_os_error(error, "cannot remove a delta", where=folder) from error


def _entries(folder: Path) -> list[tuple[str, str]]:
    """Returns the names two levels below a folder; nothing when it is not there."""
    found: list[tuple[str, str]] = []
    try:
        outer = sorted(name for name in os.listdir(folder) if len(name) == 2)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in outer:
        try:
            found.extend((name, inner) for inner in os.listdir(folder / name))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found
