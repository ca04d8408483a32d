"""The summary reader."""

from __future__ import annotations

from tests.fuzz.engine import Target

from wherry.store.format import variant
from wherry.store.format.variant import Variant
from wherry.store.summary import SUMMARY_TYPE, parse_summary, swap64


def _seeds() -> list[bytes]:
    extra = {"ostree.commit.timestamp": Variant("t", swap64(5)), "ostree.commit.version": Variant("s", "1")}
    refs = [(f"os/{number:03}", (300, bytes(32), extra)) for number in range(40)]
    metadata = {
        "ostree.summary.mode": Variant("s", "archive-z2"),
        "ostree.summary.last-modified": Variant("t", swap64(5)),
        "ostree.summary.tombstone-commits": Variant("b", False),
        "ostree.summary.indexed-deltas": Variant("b", True),
        "ostree.static-deltas": Variant("a{sv}", {"ab" * 32 + "-" + "cd" * 32: Variant("ay", bytes(32))}),
        "ostree.summary.collection-id": Variant("s", "org.example.Os"),
        "ostree.summary.collection-map": Variant("a{sa(s(taya{sv}))}", {"org.example.Other": refs[:2]}),
    }
    return [
        variant.encode(SUMMARY_TYPE, ([], {})),
        variant.encode(SUMMARY_TYPE, (refs, metadata)),
        variant.encode(SUMMARY_TYPE, (refs[:1], {})),
    ]


def _read(data: bytes) -> object:
    summary = parse_summary(data, where="fuzz")
    for entry in summary.refs:
        _ = entry.timestamp_s
    return len(summary.refs) > 0, len(summary.metadata)


TARGETS = [Target(name="summary", seeds=_seeds, read=_read)]
