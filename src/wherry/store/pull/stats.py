"""What a pull took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What a pull took."""

    bytes_received: int = 0
    """Over the network; copied, for a local pull."""
    objects: int = 0
    """That came over the network, or were copied or linked."""
    linked: int = 0
    """How many of the objects were hard-linked (local pulls)."""
    refetched: tuple[str, ...] = ()
    """Names of objects that came damaged and were fetched again."""
    metadata_fetched: int = 0
    """Requests for commits, signatures, dirtrees, dirmetas and what deltas need, answered or not."""
    content_fetched: int = 0
    parts_fetched: int = 0
    """Parts of static deltas."""
    metadata_imported: int = 0
    """From another repository on this machine."""
    content_imported: int = 0
    content_bytes: int = 0
    """Of plain content that was written."""
    requests: int = 0
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Counts:
    """A pull's counters while it runs."""

    metadata_fetched: int = 0
    content_fetched: int = 0
    parts_fetched: int = 0
    metadata_imported: int = 0
    content_imported: int = 0
    content_bytes: int = 0
    content_wanted: int = 0
    """Files that were found to be missing."""
