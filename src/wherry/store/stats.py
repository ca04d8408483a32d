"""What a pull took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What a pull took."""

    bytes_received: int = 0
    """Over the network; copied, for a local pull."""
    objects: int = 0
    linked: int = 0
    """How many of the objects were hard-linked (local pulls)."""
    refetched: tuple[str, ...] = ()
    """Names of objects that came damaged and were fetched again."""
