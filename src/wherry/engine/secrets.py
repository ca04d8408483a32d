"""Secrets: small files that containers get below ``/run/secrets``, and nobody else.

::

    <root>/secrets/                0700
      <name>/                      0700, appears and goes by rename
        secret.json                labels, when it was made
        data                       0400
        data.UID.GID.MODE          the same bytes for containers that want another owner or mode; made when one does

The bytes come from a file or a descriptor, never from a command line, and are never printed or logged. What is *not*
promised: that they are encrypted on the disk; a device that needs that has an encrypted disk.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.lock import file_lock
from wherry.core.value import EMPTY, Value
from wherry.engine.events import emit
from wherry.engine.removing import remove_tree
from wherry.spec.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wherry.engine.state import Paths

MAX_SECRET_BYTES = 512 * 1000
"""Podman's and docker's own limit."""
MAX_METADATA_BYTES = 1 << 20
DEFAULT_MODE = 0o400


class Secret(Value):
    """What is known of a secret; its bytes are not part of it."""

    name: str
    created_s: float = 0.0
    updated_s: float = 0.0
    labels: Mapping[str, str] = EMPTY
    extra: Mapping[str, Any] = EMPTY


def path(paths: Paths, name: str) -> Path:
    """Returns the file with a secret's bytes, to be mounted read-only.

    Raises:
        NotFound: there is no such secret.
    """
    found = _folder(paths, name) / "data"
    if not found.is_file():
        raise NotFound(f"no secret {name!r}", hint="make it with `wherry secret create`")
    return found


def path_for(paths: Paths, name: str, *, uid: int, gid: int, mode: int) -> Path:
    """Returns a file with a secret's bytes that has an owner and a mode; makes it when it is not there yet.

    Raises:
        NotFound: there is no such secret.
        WherryError: the file cannot be had, as without root where the owner is nobody of the user's.
    """
    data = path(paths, name)
    if (uid, gid, mode) == (0, 0, DEFAULT_MODE):
        return data
    found = data.with_name(f"data.{uid}.{gid}.{mode:o}")
    with file_lock(f"{paths.run}/secrets.lock", what="the secrets"):
        if not found.exists():
            write_owned(found, data.read_bytes(), uid=uid, gid=gid, mode=mode)
    return found


def text(paths: Paths, name: str) -> str:
    """Returns a secret as the value of a variable.

    Raises:
        NotFound: there is no such secret.
        InvalidInput: it has a byte that no variable can have.
    """
    data = path(paths, name).read_bytes()
    if b"\0" in data:
        raise InvalidInput(f"secret {name!r} has a null byte, which no variable can have", hint="mount it as a file")
    return os.fsdecode(data)


def write_owned(place: Path, data: bytes, *, uid: int, gid: int, mode: int) -> None:
    """Writes a file with its owner and mode, durably; nobody sees it before it has them.

    Raises:
        WherryError: the disk is full, or this user may not give files to that one.
    """
    new = place.with_name(f"{place.name}.new")
    write_file(new, data, mode=0o600)
    try:
        os.chown(new, uid, gid)
        os.chmod(new, mode)
        os.rename(new, place)
    except OSError as error:
        os.unlink(new)
        raise map_os_error(error, f"cannot give the file to {uid}:{gid}", where=place) from error


def _write_as_before(old: Path, new: Path, data: bytes) -> None:
    """Writes the files that containers have of a secret anew, when it gets other bytes."""
    for name in os.listdir(old):
        parts = name.split(".")
        if parts[0] == "data" and len(parts) == 4:
            write_owned(new / name, data, uid=int(parts[1]), gid=int(parts[2]), mode=int(parts[3], 8))


def _folder(paths: Paths, name: str) -> Path:
    check_name(name)
    from pathlib import Path

    return Path(paths.root) / "secrets" / name


def check_name(name: str) -> None:
    """Refuses what is no secret's name.

    Raises:
        InvalidInput: says what one looks like.
    """
    fine = name.isascii() and name[:1].isalnum() and all(char.isalnum() or char in "_.-" for char in name)
    if not fine or len(name) > 64:
        raise InvalidInput(f"not a secret's name: {name[:80]!r}", hint="use letters, digits, _ . and -, at most 64")


def create(paths: Paths, name: str, data: bytes, *, labels: Mapping[str, str] = EMPTY, replace: bool = False) -> Secret:
    """Makes a secret, durably.

    Args:
        paths: of the engine root.
        name: its name, and that of its file in a container.
        data: its bytes.
        labels: for filters.
        replace: put it in the place of one that is there; containers that run keep what they have.

    Raises:
        Conflict: there is one of that name.
        InvalidInput: the name is malformed, or there are too many bytes.
    """
    if len(data) > MAX_SECRET_BYTES or not data:
        raise InvalidInput(f"a secret has 1 to {MAX_SECRET_BYTES} bytes, not {len(data)}")
    folder = _folder(paths, name)
    make_dirs(folder.parent, mode=0o700)
    now_s = time.time()
    with file_lock(f"{paths.run}/secrets.lock", what="the secrets"):
        created_s = now_s
        if folder.is_dir():
            if not replace:
                raise Conflict(f"a secret {name!r} is there already", hint="remove it first, or use --replace")
            created_s = read(paths, name).created_s
        _remove_half_made(folder.parent)
        new = folder.parent / f".new-{name}"
        try:
            new.mkdir(mode=0o700)
            secret = Secret(name=name, created_s=created_s, updated_s=now_s, labels=labels)
            write_file(new / "data", data, mode=DEFAULT_MODE)
            write_file(new / "secret.json", jsonio.pretty(encode(secret)).encode(), mode=0o600)
            if folder.is_dir():
                _write_as_before(folder, new, data)
                folder.rename(folder.parent / f".rm-{name}")
            new.rename(folder)
            fsync_dir(folder.parent)
            _remove_half_made(folder.parent)
        except OSError as error:
            raise map_os_error(error, "cannot write the secret", where=folder) from error
    emit(paths, "create", type="secret", actor_id=name, name=name)
    return secret


def read(paths: Paths, name: str) -> Secret:
    """Returns what is known of a secret.

    Raises:
        NotFound: there is none of that name.
    """
    where = _folder(paths, name) / "secret.json"
    try:
        data = where.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no secret {name!r}", hint="`wherry secret ls` lists them") from None
    return decode(Secret, jsonio.loads(data, where=where, max_bytes=MAX_METADATA_BYTES), where=where)


def list_secrets(paths: Paths) -> list[Secret]:
    """Returns all secrets, sorted by name."""
    try:
        names = sorted(name for name in os.listdir(f"{paths.root}/secrets") if not name.startswith("."))
    except FileNotFoundError:
        return []
    return [read(paths, name) for name in names]


def remove(paths: Paths, name: str) -> None:
    """Removes a secret.

    Raises:
        NotFound: there is none of that name.
    """
    read(paths, name)
    folder = _folder(paths, name)
    with file_lock(f"{paths.run}/secrets.lock", what="the secrets"):
        try:
            folder.rename(folder.parent / f".rm-{name}")
        except FileNotFoundError:
            raise NotFound(f"no secret {name!r}") from None
        fsync_dir(folder.parent)
        _remove_half_made(folder.parent)
    emit(paths, "remove", type="secret", actor_id=name, name=name)


def _remove_half_made(folder: Path) -> None:
    for name in os.listdir(folder):
        if name.startswith((".new-", ".rm-")):
            remove_tree(folder / name)
