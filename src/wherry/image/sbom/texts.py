"""The texts of an image's licences, to be handed on with it: as a folder, or as a tar of the same bytes each time.

::

    licences.json              each component, its licence, and its files here
    deb/bash/copyright         the files, by kind and name of the component
    common-licenses/GPL-3      what Debian's copyright files refer to
    LicenseRef/NAME.txt        texts that stand in those files, of licences that SPDX has no name for

Names come from the image: what is not a letter, digit or one of ``.+-_`` becomes ``_``, so that none leaves the folder.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import BinaryIO

from wherry.core import jsonio
from wherry.core.durable import make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict
from wherry.image.config import parse_time
from wherry.image.sbom.model import Component, Inventory, Kind
from wherry.image.sbom.tree import Tree, Unreadable

COMMON = "usr/share/common-licenses"
MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_ALL_TEXTS_BYTES = 512 * 1024 * 1024
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")


def collect(tree: Tree, inventory: Inventory) -> tuple[dict[str, bytes], list[str]]:
    """Returns the files of the bundle by their names, and what could not be read.

    Args:
        tree: the same that the inventory is of.
        inventory: what was found in it.
    """
    files: dict[str, bytes] = {}
    unread: list[str] = []
    index = []
    left = MAX_ALL_TEXTS_BYTES
    wanted = [
        (item, path, f"{item.kind}/{_folder(item)}/{_safe(path.rpartition('/')[2])}")
        for item in inventory.components
        for path in item.licence_files
    ]
    common = [(None, f"{COMMON}/{name}", f"common-licenses/{_safe(name)}") for name in tree.listdir(COMMON)]
    places: dict[str, list[str]] = {}
    for component, path, name in [*wanted, *common]:
        try:
            data = tree.read(path, max_bytes=min(MAX_TEXT_BYTES, max(left, 0)))
        except Unreadable as error:
            unread.append(str(error))
            continue
        name = _free(files, name, data)
        left -= len(data) if name not in files else 0
        files[name] = data
        if component is not None:
            places.setdefault(component.key, []).append(name)
    for reference, text in inventory.texts:
        files[f"LicenseRef/{_safe(reference.removeprefix('LicenseRef-'))}.txt"] = text.encode() + b"\n"
    for component in inventory.components:
        index.append(
            {
                "kind": str(component.kind),
                "name": "/".join(part for part in (component.namespace, component.name) if part),
                "version": component.version,
                "licence": component.licence or None,
                "basis": str(component.basis),
                "files": sorted(set(places.get(component.key, []))),
            }
        )
    files["licences.json"] = jsonio.pretty(
        {"image": inventory.name, "digest": inventory.digest, "components": index}
    ).encode()
    return dict(sorted(files.items())), unread


def write_folder(files: dict[str, bytes], folder: Path) -> None:
    """Writes the files into a new or empty folder.

    Raises:
        Conflict: there is something in it.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict("there is something already", where=folder, hint="name a new folder")
        for name, data in files.items():
            place = folder / name
            make_dirs(place.parent)
            write_file(place, data)
    except OSError as error:
        raise map_os_error(error, "cannot write the texts", where=folder) from error


def write_tar(files: dict[str, bytes], out: BinaryIO, inventory: Inventory) -> None:
    """Writes the files as a tar: sorted, of root, dated as the image."""
    time_s = parse_time(inventory.created)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"licences/{name}")
            info.size, info.mtime, info.mode = len(data), time_s, 0o644
            archive.addfile(info, io.BytesIO(data))


def _folder(component: Component) -> str:
    whole = component.namespace and component.kind in (Kind.NPM, Kind.GOLANG)
    return _safe(f"{component.namespace}/{component.name}" if whole else component.name)


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name)[:200].lstrip(".") or "_"


def _free(files: dict[str, bytes], name: str, data: bytes) -> str:
    """Returns a name that is free, or that has the same content already: two versions of a package may be there."""
    number, wanted = 1, name
    while name in files and files[name] != data:
        number += 1
        name = f"{wanted}.{number}"
    return name
