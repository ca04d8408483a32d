"""COPY, and what ADD does with local files: from one tree into another, by docker's rules.

===========================  ==========================================================================================
source is a directory        what is in it goes into the destination, not it itself
source is a file             it becomes the destination; below it, where that ends with / or is a directory
several sources, a pattern   the destination must end with /
source is a link             the last part of a source is followed; links below a copied directory stay links
destination is relative      to WORKDIR; what is missing above it is made, and belongs to whom --chown names
``--parents``                a source keeps the folders above it, from ``/./`` on if that is in it
===========================  ==========================================================================================

Source: Dockerfile reference, "COPY".
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound
from wherry.engine.build.stagetree import StageTree, require
from wherry.image.dockerfile.ignore import compile_part
from wherry.store.format.objects import DirMeta

if TYPE_CHECKING:
    from wherry.image.dockerfile.problems import Place

_PATTERN_CHARS = frozenset("*?[\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What ``--chown`` and ``--chmod`` ask for; None is: as it is."""

    uid: int | None = None
    gid: int | None = None
    mode: Callable[[int, bool], int] | None = None
    """From a mode, and whether it is a directory's, to another."""

    def directory(self, meta: DirMeta) -> DirMeta:
        """Returns a directory's owner and mode."""
        mode = meta.mode if self.mode is None else stat.S_IFDIR | self.mode(stat.S_IMODE(meta.mode), True)
        return DirMeta(
            uid=meta.uid if self.uid is None else self.uid,
            gid=meta.gid if self.gid is None else self.gid,
            mode=mode,
            xattrs=meta.xattrs,
        )

    def file(self, tree: StageTree, checksum: Checksum) -> Checksum:
        """Returns a file with this owner and mode."""
        if self.uid is None and self.gid is None and self.mode is None:
            return checksum
        mode = None
        if self.mode is not None:
            mode = self.mode(stat.S_IMODE(tree.repo.load_file_header(checksum).mode), False)
        return tree.with_header(checksum, uid=self.uid, gid=self.gid, mode=mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One COPY."""

    sources: Sequence[str]
    destination: str
    """As written, with a slash at its end or not."""
    workdir: str = "/"
    owner: Ownership = Ownership()
    link: bool = False
    """``--link``: a link in the destination's place is replaced, not followed."""
    parents: bool = False
    excludes: Callable[[str], bool] = lambda path: False
    """Called with paths below a source that is a directory, and with the name of one that is a file."""
    place: Place
    """File and line, for errors."""


def destination_of(text: str, workdir: str) -> tuple[str, bool]:
    """Returns a destination as an absolute path, and whether it must be a directory."""
    folder = text.endswith(("/", "/.", "/..")) or text in (".", "..")
    return (text if text.startswith("/") else f"{workdir.rstrip('/')}/{text}"), folder


def needs_folder(destination: str, place: Place) -> InvalidInput:
    """Returns the error of several sources for what is not said to be a directory."""
    return place.error("several sources need a directory as destination", f"write it as {destination}/")


def copy(target: StageTree, source: StageTree, job: Job) -> None:
    """Carries out a COPY.

    Raises:
        NotFound: a source is not there.
        InvalidInput: the destination must be a directory and is not.
    """
    found = [item for name in job.sources for item in expand_sources(source, name, job.place)]
    path, folder = destination_of(job.destination, job.workdir)
    if len(found) > 1 and not folder and not job.parents:
        raise needs_folder(job.destination, job.place)
    for written, real in found:
        _copy_one(target, source, job, written, real, path, folder=folder or job.parents)


def expand_sources(source: StageTree, name: str, place: Place) -> list[tuple[str, str]]:
    """Returns what a source names: as it is written, cleaned, and where that really is in the tree.

    Raises:
        NotFound: nothing.
    """
    cleaned = _clean(name)
    if not _PATTERN_CHARS & set(name):
        try:
            real = source.follow(cleaned)
        except InvalidInput:
            raise NotFound(f"no such file or directory: {name}", where=place) from None
        if source.lookup(real) is None:
            raise NotFound(f"not in what is copied from: {name}", where=place, hint=_near(source, cleaned))
        return [(_pivoted(name), real)]
    matches = [""]
    for part in cleaned.split("/"):
        match = compile_part(part, place).match
        matches = [
            f"{above}/{entry}".lstrip("/")
            for above in matches
            if source.is_directory(source.follow(above))
            for entry in source.names(source.follow(above))
            if match(entry)
        ]
    if not matches:
        raise NotFound(f"no file matches {name}", where=place)
    return [(match, source.follow(match)) for match in sorted(matches)]


def _copy_one(
    target: StageTree, source: StageTree, job: Job, written: str, real: str, path: str, *, folder: bool
) -> None:
    entry = require(source, real, where=job.place)
    if job.parents:
        above = written if isinstance(entry, DirMeta) else written.rpartition("/")[0]
        _make_parents(target, source, job, path, above, real, isinstance(entry, DirMeta))
        path = f"{path.rstrip('/')}/{above}"
    owner = job.owner
    uid, gid = owner.uid or 0, owner.gid or 0
    if isinstance(entry, DirMeta):
        was_there = target.is_directory(target.follow(path))
        place = target.make_directories(path, uid=uid, gid=gid)
        if not was_there and not folder and owner.mode is not None:
            target.set_directory(place, owner.directory(entry))
        _copy_tree(target, source, job, real, place)
        return
    name = written.rpartition("/")[2]
    place = target.follow(path)
    if folder or target.is_directory(place):
        place = f"{target.make_directories(path, uid=uid, gid=gid)}/{name}".lstrip("/")
        place = target.follow_parent(place)
    else:
        above = target.make_directories(path.rpartition("/")[0], uid=uid, gid=gid)
        last = path.rpartition("/")[2]
        place = f"{above}/{last}".lstrip("/") if job.link else place
    if job.excludes(name):
        return
    target.put(place, owner.file(target, entry))


def _make_parents(
    target: StageTree, source: StageTree, job: Job, path: str, above: str, real: str, is_directory: bool
) -> None:
    """Makes the folders above a source that ``--parents`` keeps, with the modes that they have in the source."""
    parts = above.split("/") if above else []
    real_parts = (real if is_directory else real.rpartition("/")[0]).split("/")
    for count in range(1, len(parts) + 1):
        place = target.make_directories(f"{path.rstrip('/')}/{'/'.join(parts[:count])}")
        index = len(real_parts) - len(parts) + count
        meta = source.lookup("/".join(real_parts[:index])) if index > 0 else None
        if isinstance(meta, DirMeta):
            target.set_directory(place, job.owner.directory(meta))


def _copy_tree(target: StageTree, source: StageTree, job: Job, real: str, place: str) -> None:
    for relative, entry in source.walk(real):
        if job.excludes(relative):
            continue
        below = target.follow_parent(f"{place}/{relative}")
        if isinstance(entry, DirMeta):
            there = target.lookup(below)
            if isinstance(there, str):
                real_there = target.follow(below)
                if not target.is_directory(real_there):
                    raise InvalidInput("a file is in the way of a directory", where=f"{job.place}: /{below}")
                continue  # a link to a directory stays, and is gone through
            target.set_directory(below, job.owner.directory(entry))
        else:
            above = below.rpartition("/")[0]
            if above and target.lookup(above) is None:
                target.make_directories(above)
            target.put(below, job.owner.file(target, entry))


# --- names


def _clean(name: str) -> str:
    """Returns a source below the root of what is copied from; ``..`` stops there."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _pivoted(name: str) -> str:
    """Returns a source for ``--parents``: what comes after ``/./``, if that is in it."""
    return _clean(name.rpartition("/./")[2] if "/./" in name else name)


def _near(source: StageTree, path: str) -> str | None:
    from difflib import get_close_matches

    above, _, name = path.rpartition("/")
    try:
        real = source.follow(above)
        names = source.names(real) if source.is_directory(real) else []
    except (InvalidInput, NotFound):
        return None
    near = get_close_matches(name, names, n=1)
    return f"did you mean {above + '/' if above else ''}{near[0]}?" if near else None
