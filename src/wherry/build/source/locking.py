"""The lock of a workspace's sources: whether it fits what is asked for, and making it anew (``wherry host lock``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.build.debian import apt, sources
from wherry.build.debian.options import Options as DebianOptions
from wherry.build.source import lock
from wherry.build.source.options import Options, options_of
from wherry.core.digest import parse_checksum
from wherry.core.durable import write_file
from wherry.core.errors import Conflict, InvalidInput, NotFound, ToolError, WherryError
from wherry.spec.architecture import of_machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wherry.build.builder import Inputs
    from wherry.build.debian.apt import Apt
    from wherry.build.debian.sources import Source
    from wherry.build.source.lock import Lock, LockChanges, Pinned
    from wherry.build.steps import Place

_BINARY = ("kernel",)
"""Sources that the distribution has in a package to install; the others are its source packages."""


def lock_path(inputs: Inputs, options: Options | None = None) -> Path:
    """Returns where a workspace's lock is."""
    return inputs.workspace / (options or options_of(inputs)).lock


def has_lock(inputs: Inputs) -> bool:
    """Tells whether a workspace has a lock, or needs none; whether it fits is another question."""
    options = options_of(inputs)
    return lock_path(inputs, options).exists() or all(origin.url for origin in options.origins().values())


def fitting_lock(inputs: Inputs, options: Options) -> Lock:
    """Returns the lock of a workspace.

    Raises:
        NotFound: there is none.
        InvalidInput: it is malformed.
        Conflict: it was made for something else than what is asked for now.
    """
    if all(origin.url for origin in options.origins().values()):
        return lock.Lock(suite=options.suite)
    path = lock_path(inputs, options)
    found = lock.read(path)
    found.check_fits(options, where=path)
    return found


def repositories(options: Options) -> list[Source]:
    """Returns where sources are fetched from: as this machine's apt, or as the workspace says.

    Raises:
        NotFound: nothing here has the suite.
    """
    found = sources.sources_for(DebianOptions(suite=options.suite, mirrors=options.mirrors))
    return [replace(source, types=("deb", "deb-src")) for source in found]


def update_lock(inputs: Inputs, place: Place) -> LockChanges:
    """Finds the newest version of each source, and writes the lock if it comes out different.

    Args:
        inputs: what the host is made of.
        place: where apt works; with the network. Its indices stay in `place.kept`.

    Raises:
        Conflict: nothing may be fetched.
        NetworkError: a mirror is down.
        InvalidInput: there is no such package.
    """
    options = options_of(inputs)
    path = lock_path(inputs, options)
    if inputs.offline:
        raise Conflict("the lock cannot be made anew offline", where=path, hint="leave out --offline")
    try:
        before = lock.read(path)
    except NotFound:
        before = None
    except WherryError:
        if not path.is_file():
            raise
        before = None  # it is what the new one replaces, whatever is in it
    # sources are the same for all architectures: the lists of this machine's have them, and it needs those anyway
    here = apt.prepare(place, repositories(options), of_machine(os.uname().machine).name)
    place.progress.update("fetching lists of packages", 0, None)
    here.update()
    files: list[Pinned] = []
    for role, origin in options.origins().items():
        if origin.package:
            find = _binary if role in _BINARY else _source
            files += find(here, role, origin.package)
    after = lock.Lock(suite=options.suite, files=tuple(sorted(files)))
    data = lock.serialize(after)
    lock.parse(data, where=path)  # what is written is what can be read
    if before is None or lock.serialize(before) != data:
        write_file(path, data)
    return lock.changes(path, before, after)


def _binary(here: Apt, role: str, name: str) -> Iterator[Pinned]:
    fields = _newest(here, ["apt-cache", "show", "--no-all-versions", name], role, name)
    yield lock.Pinned(
        role=role,
        name=name,
        version=fields["version"],
        size=int(fields["size"]),
        sha256=parse_checksum(fields["sha256"], where=name),
        path=fields["filename"].removeprefix("./"),
    )


def _source(here: Apt, role: str, name: str) -> Iterator[Pinned]:
    fields = _newest(here, ["apt-cache", "showsrc", "--only-source", name], role, name)
    for line in fields.get("checksums-sha256", "").splitlines():
        words = line.split()
        if len(words) == 3:
            yield lock.Pinned(
                role=role,
                name=name,
                version=fields["version"],
                size=int(words[1]),
                sha256=parse_checksum(words[0], where=words[2]),
                path=f"{fields['directory']}/{words[2]}",
            )


def _newest(here: Apt, args: list[str], role: str, name: str) -> Mapping[str, str]:
    """Returns the description of the newest version that the repositories have."""
    try:
        text = here.place.read(args, env=here.env)
    except ToolError as error:
        raise InvalidInput(f"no package {name} for {role}", hint="see `suite` and `package` of source:") from error
    found: Mapping[str, str] | None = None
    for fields in sources.paragraphs(text):
        if name in (fields.get("package"), fields.get("source")) and (
            found is None or _newer(here, fields["version"], found["version"])
        ):
            found = fields
    if found is None:
        raise InvalidInput(f"no package {name} for {role}", hint="see `suite` and `package` of source:")
    return found


def _newer(here: Apt, version: str, than: str) -> bool:
    try:
        here.place.run(["dpkg", "--compare-versions", version, "gt", than])
    except ToolError:
        return False
    return True
