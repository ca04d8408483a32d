"""What a pull took: counted while it runs, and told when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Counts:
    """What is counted while a pull runs; nobody changes it afterwards."""

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
    content_wanted: int = 0
    """Files that were found to be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What a pull took."""

    counts: Counts = field(default_factory=Counts)
    bytes_received: int = 0
    """Over the network; copied, for a local pull."""
    linked: int = 0
    """How many of the objects were hard-linked (local pulls)."""
    refetched: tuple[str, ...] = ()
    """Names of objects that came damaged and were fetched again."""
    requests: int = 0
    seconds: float = 0.0

    @property
    def objects(self) -> int:
        """How many came over the network, or were copied or linked."""
        counts = self.counts
        fetched = counts.metadata_fetched + counts.content_fetched
        return fetched + counts.metadata_imported + counts.content_imported
