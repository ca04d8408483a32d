"""The readers of device deltas: the head, the orders, and a delta whose digests are right and whose orders are not."""

from __future__ import annotations

import hashlib
import io
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.engine import Target
from tests.unit.store.delta.pairs import BytesOrigin, Pair

from wherry.core.digest import Checksum
from wherry.store.delta.apply import apply_delta
from wherry.store.delta.format import (
    DIFFERENCES,
    NEW_BYTES,
    ORDERS,
    STORED,
    Header,
    Part,
    Stream,
    parse_head,
    serialize_head,
)
from wherry.store.delta.make import MakeOptions
from wherry.store.delta.orders import PatchOrder, read_orders
from wherry.store.delta.parts import PartStream
from wherry.store.format.objects import ObjectType
from wherry.store.repository import Repository
from wherry.store.tree.walk import reachable

_LENGTH_BYTES = 4


@cache
def _pair() -> tuple[Pair, bytes]:
    folder = Path(tempfile.mkdtemp(prefix="wherry-fuzz-"))
    old = {"a/b": bytes(range(256)) * 40, "c": b"text\n" * 200}
    new = {"a/b2": bytes(range(256)) * 41, "c": b"text\n" * 100 + b"more\n" * 100, "d": b"new"}
    pair = Pair(folder, old, new)
    return pair, pair.make(MakeOptions(threads=1, strong=False))


@cache
def _device() -> Repository:
    return _pair()[0].device()


def _streams(delta: bytes) -> list[bytes]:
    head = parse_head(delta, where="fuzz")
    found = []
    at = head.size
    with tempfile.TemporaryFile() as file:
        file.write(delta)
        file.flush()
        for stream in head.header.parts[0].streams:
            found.append(PartStream(file, at, stream, where="fuzz").read(stream.unpacked))
            at += stream.size
    return found


def _heads() -> list[bytes]:
    _, delta = _pair()
    return [delta[: parse_head(delta, where="fuzz").size]]


def _read_head(data: bytes) -> object:
    return parse_head(data, where="fuzz").header.objects


def _order_seeds() -> list[bytes]:
    return [_streams(_pair()[1])[ORDERS]]


def _read_orders(data: bytes) -> object:
    count = 0
    for order in read_orders(data, where="fuzz"):
        count += 1
        if isinstance(order, PatchOrder):
            count += sum(1 for _ in order.steps)
    return count


def _delta_seeds() -> list[bytes]:
    """Orders and both other streams, each behind its length."""
    return [b"".join(len(data).to_bytes(_LENGTH_BYTES, "big") + data for data in _streams(_pair()[1]))]


def _apply(data: bytes) -> object:
    """Puts the streams into a delta that is sound on the outside, and applies that."""
    pair, delta = _pair()
    source = io.BytesIO(data)
    streams = [source.read(int.from_bytes(source.read(_LENGTH_BYTES), "big") % (1 << 20)) for _ in range(3)]
    known = parse_head(delta, where="fuzz").header
    part = Part(
        streams=tuple(Stream(codec=STORED, size=len(item), unpacked=len(item)) for item in streams),
        objects=known.objects,
        digest=hashlib.sha256(streams[ORDERS] + streams[DIFFERENCES] + streams[NEW_BYTES]).digest(),
    )
    header = Header(
        from_commits=known.from_commits,
        to_commits=known.to_commits,
        sources=known.sources,
        objects=known.objects,
        disk_bytes=0,
        scratch_bytes=0,
        encoders=(),
        parts=(part,),
    )
    made = serialize_head(header) + b"".join(streams)
    repo = _device()
    try:
        stats = apply_delta(repo, parse_head(made, where="fuzz"), BytesOrigin(made))
    finally:
        _forget(repo, pair)
    return stats.objects


def _forget(repo: Repository, pair: Pair) -> None:
    """Removes what an execution stored, so that the next begins as this one did."""
    for kind, checksum in set(repo.list_objects()) - _before():
        if kind is not ObjectType.COMMITMETA and not pair.repo.has(kind, checksum):
            raise AssertionError(f"an object was stored that is not what its name says: {checksum}")
        repo.object_path(kind, checksum).unlink()
    repo.mark_complete(pair.new)


@cache
def _before() -> frozenset[tuple[ObjectType, Checksum]]:
    """Returns what is in the repository before any execution."""
    return frozenset(reachable(_device(), _pair()[0].old))


TARGETS = [
    Target(name="device-delta-head", seeds=_heads, read=_read_head),
    Target(name="device-delta-orders", seeds=_order_seeds, read=_read_orders),
    Target(name="device-delta", seeds=_delta_seeds, read=_apply),
]
