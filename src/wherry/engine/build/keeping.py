"""What builds keep for the next ones: how much it takes on the disk, and giving it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.value import Value
from wherry.engine.build import cache
from wherry.engine.build.mounts import remove_cache_mounts
from wherry.engine.build.session import sweep
from wherry.engine.disk import bytes_beyond, tree_bytes
from wherry.engine.pruning import Removed

if TYPE_CHECKING:
    from wherry.engine.engine import Engine


class Kept(Value):
    """One thing that builds keep."""

    name: str
    """A step's commit, or the folder of a cache mount."""
    kind: str
    """``regular`` or ``exec.cachemount``, as docker has it."""
    description: str
    size_bytes: int
    """Of a step: what no image has."""


def usage(engine: Engine) -> tuple[list[Kept], int]:
    """Returns what builds keep, and the bytes of all: what several steps have counts once, what an image has not."""
    from wherry.image.catalog import Images

    found: list[Kept] = []
    total = 0
    if engine.repo is not None:
        steps = cache.steps(engine.repo)
        images = [record.commit for record in Images(engine.repo).list()]
        sizes, total = bytes_beyond(engine.repo, list(steps), images)
        found = [
            Kept(name=commit, kind="regular", description=text, size_bytes=sizes[commit])
            for commit, text in steps.items()
        ]
    top = Path(engine.paths.root) / "build-cache/mounts"
    for name in sorted(os.listdir(top)) if top.is_dir() else ():
        if not name.startswith("."):
            size = tree_bytes(str(top / name))
            found.append(Kept(name=name, kind="exec.cachemount", description="RUN --mount=type=cache", size_bytes=size))
            total += size
    return found, total


def prune(engine: Engine) -> Removed:
    """Forgets what RUN steps came to, and removes the cache mounts that no build uses now."""
    from wherry.store.care.prune import prune as prune_store

    names: tuple[str, ...] = ()
    freed = 0
    if engine.repo is not None:
        sweep(engine, engine.repo)
        commits = cache.forget_all(engine.repo)
        names = tuple(commit[:12] for commit in commits)
        freed = prune_store(engine.repo, delete_commits=commits).freed_bytes
    freed += remove_cache_mounts(Path(engine.paths.root))
    return Removed(names=names, freed_bytes=freed)
