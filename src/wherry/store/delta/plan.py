"""Which way costs a device the fewest bytes: a delta, the missing objects in one pack, or each by itself.

``plan`` orders the ways, cheapest first, leaving out those that do not work here; ``follow`` goes them until one leads
there. A delta that turns out to be bad, or whose sources are gone, is no error then: the next way is taken, and what
the first one made counts.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.errors import NoSpace
from wherry.store.delta.apply import BAD_DELTA, check_fits
from wherry.store.delta.format import Head
from wherry.store.delta.job import PREFIX

if TYPE_CHECKING:
    from wherry.store.repository import Repository

REQUEST_BYTES = 600
"""What one more request costs: its own bytes, those of the answer's head, and the wait in between."""


class Way(enum.StrEnum):
    """How to get what is missing."""

    DELTA = "delta"
    PACK = "pack"
    OBJECTS = "objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A way, and what it costs."""

    way: Way
    size: int
    """Bytes to fetch."""
    requests: int = 1
    head: Head | None = None
    """Of a delta."""

    @property
    def cost(self) -> int:
        """Bytes, with what the requests cost."""
        return self.size + self.requests * REQUEST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A way that does not work here, or did not, and why."""

    offer: Offer
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The ways that work, cheapest first, and the others."""

    offers: tuple[Offer, ...]
    refused: tuple[Refusal, ...]


def delta_offer(repo: Repository, head: Head) -> Offer:
    """Returns what a delta costs here: what has come of it in an earlier try is not fetched again."""
    stream = repo.path / "tmp" / f"{PREFIX}{head.name[:32]}" / "stream"
    try:
        here = os.stat(stream).st_size
    except FileNotFoundError:
        here = 0
    return Offer(way=Way.DELTA, size=max(0, head.total - here), head=head)


def plan(repo: Repository, offers: Iterable[Offer]) -> Route:
    """Orders the ways.

    Args:
        repo: the device's repository.
        offers: what there is; deltas with their heads.
    """
    good: list[Offer] = []
    refused: list[Refusal] = []
    for offer in offers:
        try:
            if offer.head is not None:
                check_fits(repo, offer.head)
        except (*BAD_DELTA, NoSpace) as error:
            refused.append(Refusal(offer=offer, why=str(error)))
        else:
            good.append(offer)
    return Route(offers=tuple(sorted(good, key=lambda offer: (offer.cost, offer.way))), refused=tuple(refused))


def follow(offers: Sequence[Offer], go: Callable[[Offer], None]) -> tuple[Offer, tuple[Refusal, ...]]:
    """Goes the ways in order until one leads there.

    Args:
        offers: from ``plan``; at least one.
        go: goes one of them; what it raises of ``BAD_DELTA`` for a delta makes way for the next.

    Returns:
        The way that led there, and those before it.

    Raises:
        WherryError: what the last way raised; NetworkError, NoSpace and TrustError of any.
    """
    failed: list[Refusal] = []
    for number, offer in enumerate(offers):
        try:
            go(offer)
        except BAD_DELTA as error:
            if offer.way is not Way.DELTA or number == len(offers) - 1:
                raise
            failed.append(Refusal(offer=offer, why=str(error)))
        else:
            return offer, tuple(failed)
    raise ValueError("no way to go")
