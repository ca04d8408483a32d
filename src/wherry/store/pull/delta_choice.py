"""Which static delta to use, if any: as OSTree chooses. Pure.

Of the deltas that lead to the wanted commit, the one from the newest commit that is here as a whole; the one from
nothing only when the ref is not here yet, since it holds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from wherry.core.digest import Checksum
from wherry.store.static_delta.names import DeltaName


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do about one commit."""

    unchanged: bool = False
    """It is here already."""
    delta: DeltaName | None = None
    """The delta to use; None for objects."""


def choose_delta(
    target: Checksum,
    current: Checksum | None,
    available: Collection[DeltaName],
    *,
    whole: Callable[[Checksum], bool],
    timestamp_s: Callable[[Checksum], int],
) -> Choice:
    """Chooses.

    Args:
        target: the commit that is wanted.
        current: what its ref names here; None when there is no such ref.
        available: the deltas that the remote has.
        whole: tells whether a commit is here with all it needs.
        timestamp_s: the time of a commit that is here.
    """
    if whole(target):
        return Choice(unchanged=True)
    leading = [name for name in available if name[1] == target]
    usable = [name for name in leading if name[0] is not None and whole(name[0])]
    if usable:
        return Choice(delta=max(usable, key=lambda name: (timestamp_s(name[0] or target), name[0] or "")))
    if current is None and (None, target) in leading:
        return Choice(delta=(None, target))
    return Choice()
