"""The lock of a workspace: whether it fits what is asked for, and making it anew (``wherry host lock``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wherry.build.debian import apt, lock
from wherry.build.debian.options import Options, options_of
from wherry.build.debian.sources import sources_for
from wherry.build.debian.wishes import asked, wishes_of
from wherry.core.durable import write_file
from wherry.core.errors import Conflict, NotFound, WherryError

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.builder import Inputs
    from wherry.build.debian.lock import Lock, LockChanges
    from wherry.build.steps import Place


def lock_path(inputs: Inputs, options: Options | None = None) -> Path:
    """Returns where a workspace's lock is."""
    return inputs.workspace / (options or options_of(inputs)).lock


def has_lock(inputs: Inputs) -> bool:
    """Tells whether a workspace has a lock; whether it fits is another question."""
    return lock_path(inputs).exists()


def fitting_lock(inputs: Inputs, options: Options) -> Lock:
    """Returns the lock of a workspace.

    Raises:
        NotFound: there is none.
        InvalidInput: it is malformed.
        Conflict: it was made for something else than what is asked for now.
    """
    path = lock_path(inputs, options)
    found = lock.read(path)
    lock.check_fits(found, asked(inputs, options, wishes_of(inputs, options)), where=path)
    return found


def update_lock(inputs: Inputs, place: Place) -> LockChanges:
    """Resolves the packages of a workspace anew, and writes its lock if it comes out different.

    Args:
        inputs: what the host is made of.
        place: where apt works; with the network. Its indices stay in `place.kept`.

    Returns:
        What is different.

    Raises:
        Conflict: nothing may be fetched.
        NetworkError: a mirror is down.
        InvalidInput: a package is not there, or its needs cannot be met; says which layer and line wants it.
    """
    options = options_of(inputs)
    path = lock_path(inputs, options)
    wishes = wishes_of(inputs, options)
    if inputs.offline:
        raise Conflict("the lock cannot be made anew offline", where=path, hint="leave out --offline")
    before = _known(path)
    here = apt.prepare(place, sources_for(options), inputs.architecture.name)
    place.progress.update("fetching lists of packages", 0, None)
    here.update()
    place.progress.update("resolving packages", 0, None)
    packages = here.packages(wishes, options.variant, recommends=options.recommends)
    after = replace(asked(inputs, options, wishes), packages=tuple(sorted(packages)))
    place.progress.update("resolving packages", len(packages), len(packages), unit="packages")
    data = lock.serialize(after)
    lock.parse(data, where=path)  # what is written is what can be read
    if before is None or lock.serialize(before) != data:
        write_file(path, data)
    return lock.changes(path, before, after)


def _known(path: Path) -> Lock | None:
    try:
        return lock.read(path)
    except NotFound:
        return None
    except WherryError:
        if path.is_file():
            return None  # it is what the new one replaces, whatever is in it
        raise
