"""The steps ``sources`` and ``NAME-source``: sources fetched by their digests, unpacked, and patched by layers.

::

    sources      FILE ...         packages and files, as they were pinned
    NAME-source  tree/            unpacked, with the distribution's patches, then the layers' in the order of the chain

A package that is installed (``.deb``) has its source as the one tarball in ``usr/src``; a source package (``.dsc``) is
unpacked by dpkg-source; else it is a tarball with one folder at its top.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from wherry.build.debian.fetching import fetch
from wherry.core.durable import map_os_error
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, ToolError

if TYPE_CHECKING:
    from wherry.build.contributions import Part
    from wherry.build.debian.sources import Source
    from wherry.build.source.lock import Pinned
    from wherry.build.source.options import Origin
    from wherry.build.steps import Place

SOURCES = "sources"
TREE = "tree"
_REMOTE = ("http", "https")


def local_path(origin: Origin, workspace: Path) -> Path | None:
    """Returns the file that a source is, on this machine; None where it is a package, or elsewhere."""
    if not origin.url:
        return None
    parts = urlsplit(origin.url)
    if parts.scheme in _REMOTE:
        return None
    if parts.scheme not in ("", "file"):
        raise InvalidInput(f"url: neither a file nor an address: {origin.url[:80]!r}", where="host.yaml: source")
    return (workspace / unquote(parts.path)).resolve()


def file_name(origin: Origin) -> str:
    """Returns the name of the file of an origin's ``url``."""
    return unquote(urlsplit(origin.url).path).rpartition("/")[2] or "source"


def fetch_sources(
    place: Place,
    pinned: Sequence[Pinned],
    origins: Sequence[Origin],
    repositories: Sequence[Source],
    *,
    workspace: Path,
    offline: bool,
) -> None:
    """Fills the step ``sources``.

    Raises:
        NotFound: a file is nowhere.
        IntegrityError: it has another digest.
        NetworkError: the mirrors cannot be reached.
    """
    if pinned:
        fetch(place, pinned, repositories, offline=offline)
    for origin in origins:
        local = local_path(origin, workspace)
        target = place.output / file_name(origin)
        if local is not None:
            if not local.is_file():
                raise NotFound("no such file", where=local, hint="`url` of source: in host.yaml")
            shutil.copyfile(local, target)
        elif offline:
            raise NotFound("nothing may be fetched", where=origin.url, hint="leave out --offline")
        else:
            place.run(["/usr/lib/apt/apt-helper", "download-file", origin.url, str(target), f"SHA256:{origin.sha256}"])
        _check(target, origin)


def _check(path: Path, origin: Origin) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise map_os_error(error, "cannot read a source", where=path) from error
    if found != origin.sha256:
        raise IntegrityError(f"expected sha256 {origin.sha256}, got {found}", where=origin.url)


def unpack(place: Place, names: Sequence[str], patches: Sequence[Part]) -> None:
    """Fills a step ``NAME-source``.

    Args:
        place: the step's.
        names: the source's files in the step ``sources``.
        patches: folders of layers.

    Raises:
        ToolError: it cannot be unpacked, or a patch does not apply; names the layer and the patch.
        InvalidInput: it is no source.
    """
    folder = place.inputs[SOURCES]
    tree = place.output / TREE
    description = [name for name in names if name.endswith(".dsc")]
    if description:
        place.run(["dpkg-source", "--no-check", "-x", str(folder / description[0]), str(tree)])
    elif len(names) != 1:
        raise InvalidInput(f"no source: {', '.join(names)[:200]}")
    elif names[0].endswith(".deb"):
        place.run(["dpkg-deb", "-x", str(folder / names[0]), str(place.scratch / "deb")])
        inner = sorted((place.scratch / "deb/usr/src").glob("*.tar.*"))
        if len(inner) != 1:
            raise InvalidInput("not one tarball in usr/src", where=names[0])
        _untar(place, inner[0], tree)
        shutil.rmtree(place.scratch / "deb")
    else:
        _untar(place, folder / names[0], tree)
    for part in patches:
        for patch in patches_of(part.path):
            place.say(f"{patch.name} of {part.layer}")
            args = ["patch", "-p1", "--forward", "--batch", "--no-backup-if-mismatch", "-i", str(patch)]
            try:
                place.run(args, cwd=tree, readable=[part.path])
            except ToolError as error:
                raise ToolError(
                    f"a patch of {part.layer} does not apply", where=f"{part.layer}: {part.path.name}/{patch.name}"
                ) from error


def patches_of(folder: Path) -> list[Path]:
    """Returns the patches of a folder, in the order of their names' bytes."""
    return sorted(folder.glob("*.patch"), key=lambda path: os.fsencode(path.name))


def _untar(place: Place, archive: Path, tree: Path) -> None:
    tree.mkdir()
    args = ["tar", "--extract", "--strip-components=1", "--no-same-owner", f"--directory={tree}", f"--file={archive}"]
    place.run(args)
