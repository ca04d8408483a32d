"""The files of ``configs`` and ``secrets`` in a container.

::

    <root>/compose/                     0700
      PROJECT/<digest>                  the bytes of one file, with its owner and mode in the container

A ``file:`` or an external secret without owner and mode is bound as it is. Everything else (``environment``,
``content``, or another owner) is written to a file that is named by all that it is, so that a change of it is a change
of the container, and two projects share nothing. Such files go when no container of the project mounts them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.engine import secrets
from wherry.engine.compose.model import Project, check_name
from wherry.engine.removing import remove_tree
from wherry.engine.state import Paths

MAX_FILE_BYTES = 1024 * 1024
DEFAULT_MODE = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """One file that a container gets."""

    target: str
    source: str
    """On the host; written by `write` when there are bytes."""
    data: bytes | None = None
    uid: int = 0
    gid: int = 0
    mode: int = DEFAULT_MODE


def folder(paths: Paths, project: str) -> str:
    """Returns where the files of a project lie."""
    check_name(project)  # it becomes a path, below which files are removed
    return os.path.join(paths.root, "compose", project)


def granted_files(paths: Paths, project: Project, service: Mapping[str, Any]) -> list[Granted]:
    """Returns the configs and secrets of a service.

    Raises:
        NotFound: a file, a variable or an external secret is not there.
    """
    found = []
    for section in ("configs", "secrets"):
        for item in service.get(section, ()):
            found.append(_one(paths, project, section, item))
    return found


def build_secrets(paths: Paths, project: Project, service: Mapping[str, Any]) -> list[Granted]:
    """Returns the secrets of a service's build; the target of each is its id.

    Raises:
        NotFound: a file, a variable or an external secret is not there.
    """
    return [_one(paths, project, "secrets", item) for item in service["build"].get("secrets", ())]


def _one(paths: Paths, project: Project, section: str, item: Mapping[str, str]) -> Granted:
    given = getattr(project, section)[item["source"]]
    place = project.place(section, item["source"])
    source, data = "", None
    if "file" in given:
        source = given["file"]
        if not os.path.exists(source):
            raise NotFound(f"{section}.{item['source']}: no such file", where=source, hint=f"it is named in {place}")
    elif given.get("external"):
        named = given["external"] if isinstance(given["external"], str) else given.get("name", item["source"])
        source = str(secrets.path(paths, named))
    elif "environment" in given:
        variable = given["environment"]
        if variable not in project.variables:
            raise NotFound(f"{section}.{item['source']}: the variable {variable} is not set", where=place)
        data = project.variables[variable].encode()
    else:
        data = given["content"].encode()
    owned = [key for key in ("uid", "gid", "mode") if key in item]
    if data is None and not owned:
        return Granted(target=item["target"], source=source)
    if data is None:
        data = _read(source)
    uid, gid, mode = int(item.get("uid", "0")), int(item.get("gid", "0")), int(item.get("mode", "0444"), 8)
    digest = hashlib.sha256(f"{section} {uid} {gid} {mode} {item['source']}\n".encode() + data).hexdigest()[:32]
    path = os.path.join(folder(paths, project.name), digest)
    return Granted(target=item["target"], source=path, data=data, uid=uid, gid=gid, mode=mode)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "cannot read", where=path) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"more than {MAX_FILE_BYTES} bytes", where=path, hint="leave out uid, gid and mode")
    return data


def write(files: Iterable[Granted]) -> None:
    """Writes the files that are not there yet, each in one step."""
    for item in files:
        if item.data is None or os.path.exists(item.source):
            continue
        parent = os.path.dirname(item.source)
        make_dirs(os.path.dirname(parent), mode=0o700)
        make_dirs(parent, mode=0o700)
        secrets.write_owned(Path(item.source), item.data, uid=item.uid, gid=item.gid, mode=item.mode)


def sweep(paths: Paths, project: str, keep: Iterable[str]) -> None:
    """Removes the files of a project but those with the paths `keep`."""
    parent = folder(paths, project)
    kept = set(keep)
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(parent, name)
        if path not in kept:
            os.unlink(path)
    if not os.listdir(parent):
        remove_tree(parent)
