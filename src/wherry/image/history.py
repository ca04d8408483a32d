"""How an image came about: the steps that its config tells, with the size of what each brought.

A config's ``history`` has an entry for each step; those that are not ``empty_layer`` made a layer, in order. What a
layer brought is known where its tree is kept (`layercache.py`): the sizes of the files that are in it and were not, or
were others, in the tree before.

Source: OCI image-spec 1.1, config.md, "history"; ``docker image history``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput
from wherry.image import layercache
from wherry.image.config import MAX_LAYERS, parse_time
from wherry.image.unpacking import brought_bytes

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.store.repository import Repository

MAX_STEPS = 4 * MAX_LAYERS
"""Steps beyond these are not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, the newest of an image first."""

    created: str
    """RFC 3339, as it was written; "" where it does not say."""
    created_s: int
    created_by: str
    comment: str
    author: str
    empty: bool
    """Whether it changed the config alone."""
    size_bytes: int | None
    """Of the files that it brought; None where that is not known."""


def history(repo: Repository, record: ImageRecord) -> list[Step]:
    """Returns the steps that made an image, the newest first."""
    told = record.config.document().get("history")
    entries = [item for item in told if isinstance(item, dict)] if isinstance(told, list) else []
    layers = len(record.config.diff_ids)
    if not entries:
        entries = [{"created": record.config.created} for _ in range(max(1, layers))]
    sizes = layer_sizes(repo, record)
    steps: list[Step] = []
    index = 0
    for entry in entries[:MAX_STEPS]:
        empty = entry.get("empty_layer") is True
        size: int | None = 0
        if not empty:
            size = sizes[index] if index < len(sizes) else None
            index += 1
        steps.append(_step(entry, empty=empty, size_bytes=size))
    return steps[::-1]


def _step(entry: dict[str, Any], *, empty: bool, size_bytes: int | None) -> Step:
    texts = {key: entry[key] if isinstance(entry.get(key), str) else "" for key in ("created", "created_by", "comment")}
    author = entry.get("author")
    try:
        created_s = parse_time(texts["created"]) if texts["created"] else 0
    except InvalidInput:
        created_s = 0
    return Step(
        **texts,
        created_s=created_s,
        author=author if isinstance(author, str) else "",
        empty=empty,
        size_bytes=size_bytes,
    )


def layer_sizes(repo: Repository, record: ImageRecord) -> list[int | None]:
    """Returns, for each layer of an image, the lowest first, the bytes of the files that it brought.

    None stands for a layer whose tree is not kept. An image of one layer, or of a tree, is that layer.
    """
    diff_ids = record.config.diff_ids
    if len(diff_ids) < 2:
        return [record.size_bytes]
    kept = [layercache.tree_of(repo, chain) for chain in layercache.chain_ids(diff_ids)]
    trees = [found[0] if found is not None else None for found in kept]
    sizes: list[int | None] = []
    before: Checksum | None = None
    for index, tree in enumerate(trees):
        known = tree is not None and (index == 0 or before is not None)
        sizes.append(brought_bytes(repo, before, tree) if known and tree is not None else None)
        before = tree
    return sizes
