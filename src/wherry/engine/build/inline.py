"""A cache that travels in an image: which steps its layers came of, for builds on machines that have never run them.

::

    config  io.wherry.build.cache   {"version": 1, "layers": n, "steps": [[key, m], ...]}
        n       how many of the image's layers the build made; the lowest are those of its base
        key     of a RUN, as in `cache.py`: all that its outcome depends on
        m       after the step, the root is what the lowest m of those layers make of the base

``--cache-to type=inline`` writes it, ``--cache-from IMAGE`` reads it. What an image says counts for that build alone,
since whoever made the image could have said anything: it is not put among what this machine has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.image import layercache

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.store.repository import Repository

CONFIG_KEY = "io.wherry.build.cache"
_VERSION = 1
_KEY_CHARS = 64


def told(layers: int, steps: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Returns what a config says.

    Args:
        layers: how many the build made.
        steps: of each RUN its key, and how many of the layers there were after it.
    """
    return {"version": _VERSION, "layers": layers, "steps": [list(step) for step in steps]}


def known(repo: Repository, record: ImageRecord) -> dict[str, tuple[Checksum, Checksum]]:
    """Returns the roots after the steps that an image tells of, by their keys; none where it tells nothing usable."""
    said = record.config.document().get(CONFIG_KEY)
    if not isinstance(said, dict) or said.get("version") != _VERSION:
        return {}
    chains = layercache.chain_ids(record.config.diff_ids)
    layers, steps = said.get("layers"), said.get("steps")
    if type(layers) is not int or not 0 <= layers <= len(chains) or not isinstance(steps, list):
        return {}
    found: dict[str, tuple[Checksum, Checksum]] = {}
    for step in steps:
        match step:
            case [str(key), int(made)] if len(key) == _KEY_CHARS and 0 <= made <= layers:
                index = len(chains) - layers + made - 1
                tree = layercache.tree_of(repo, chains[index]) if index >= 0 else None
                if tree is not None:
                    found[key] = tree
    return found
