"""The layers of an image as trees of the store: cut out for leaving, stacked up by builds and commits.

An image is one commit of one tree. Which layers it was made of is known where the tree of each is kept
(`layercache.py`): then it leaves in as many layers, each of which is what makes one tree of the one before, so that two
images on one base have that base's layers in common elsewhere, too. Where a tree is missing, the image is one layer.

What a build or a commit adds is given the digests of the very layers in which it will leave; so its config, and with it
the image's ID, is the same here and wherever it is pushed to, unless it stands on one whose layers came from elsewhere
and were not kept: those are made anew, and have other digests.

Every entry of a layer has the time of the step in the config's ``history`` that brought it, or that of the image.

Source: OCI image-spec 1.1, config.md, "rootfs" and "history".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, Digest
from wherry.core.errors import InvalidInput
from wherry.core.progress import QUIET, Progress
from wherry.image import layercache, measuring
from wherry.image.config import EPOCH, parse_time
from wherry.image.layertar import LayerTar, Tree
from wherry.image.unpacking import brought_bytes

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord
    from wherry.store.repository import Repository

MAX_DEPTH = 120
"""Docker's overlays have no more than 128 layers."""


def layers_of(repo: Repository, record: ImageRecord) -> list[LayerTar]:
    """Returns an image's layers, the lowest first: those that it was made of where their trees are kept, else one."""
    whole = tree_of(repo, record)
    trees = _kept_trees(repo, record, whole) or [whole]
    return _cut(repo, trees, times(record.config.document(), len(trees), record.created_s))


def tree_of(repo: Repository, record: ImageRecord) -> Tree:
    """Returns an image's tree."""
    commit = repo.load_commit(record.commit)
    return Tree(commit.tree, commit.meta)


def size_on(repo: Repository, below: ImageRecord | None, tree: Checksum) -> int:
    """Returns the bytes of all files of a tree that was made of an image's, by looking at what is different."""
    if below is None:
        return brought_bytes(repo, None, tree)
    old = tree_of(repo, below).tree
    return below.size_bytes + brought_bytes(repo, old, tree) - brought_bytes(repo, tree, old)


def _kept_trees(repo: Repository, record: ImageRecord, whole: Tree) -> list[Tree] | None:
    trees: list[Tree] = []
    for chain in layercache.chain_ids(record.config.diff_ids):
        found = layercache.tree_of(repo, chain)
        if found is None:
            return None
        trees.append(Tree(*found))
    return trees if trees and trees[-1] == whole else None


def _cut(repo: Repository, trees: Sequence[Tree], times_s: Sequence[int]) -> list[LayerTar]:
    return [
        LayerTar(repo=repo, tree=tree.tree, meta=tree.meta, time_s=time_s, below=trees[index - 1] if index else None)
        for index, (tree, time_s) in enumerate(zip(trees, times_s, strict=True))
    ]


def full_steps(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the steps of a config's history that brought layers."""
    told = document.get("history")
    steps = [step for step in told if isinstance(step, dict)] if isinstance(told, list) else []
    return [step for step in steps if step.get("empty_layer") is not True]


def times(document: Mapping[str, Any], layers: int, otherwise_s: int) -> list[int]:
    """Returns the time of each layer's entries, in seconds since 1970.

    Args:
        document: the config.
        layers: how many there are.
        otherwise_s: where the history does not fit, or a step has no time.
    """
    steps = full_steps(document)
    if len(steps) != layers:
        return [otherwise_s] * layers
    return [_time(step.get("created"), otherwise_s) for step in steps]


def _time(text: Any, otherwise_s: int) -> int:
    try:
        return parse_time(text) if isinstance(text, str) and text else otherwise_s
    except InvalidInput:
        return otherwise_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """What a new image stands on: the layers of an image, and the steps that were told of it."""

    trees: tuple[Tree, ...] = ()
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    plain_bytes: int = 0
    """Of the layers, uncompressed."""


def below(repo: Repository, record: ImageRecord, progress: Progress = QUIET) -> Below:
    """Returns an image as what another one stands on. One whose trees are not kept is one layer, which is measured."""
    whole = tree_of(repo, record)
    document = record.config.document()
    told = document.get("history")
    history = [dict(step) for step in told if isinstance(step, dict)] if isinstance(told, list) else []
    trees, diff_ids = _kept_trees(repo, record, whole), record.config.diff_ids
    layers = len(trees) if trees is not None else 1
    if len(full_steps(document)) != layers:
        history = [*({**step, "empty_layer": True} for step in history), *squashed(record, layers)]
    if trees is None:
        (layer,) = _cut(repo, [whole], times({"history": history}, 1, record.created_s))
        measured = measuring.measured(layer, progress, total_bytes=record.size_bytes)
        return Below(trees=(whole,), diff_ids=(measured.digest,), history=tuple(history), plain_bytes=measured.size)
    known = layercache.find(repo, diff_ids)
    size = known.plain_bytes if known is not None else 0
    return Below(trees=tuple(trees), diff_ids=diff_ids, history=tuple(history), plain_bytes=size)


def squashed(record: ImageRecord, layers: int) -> list[dict[str, Any]]:
    """Returns steps for layers of which an image's history does not tell."""
    created = record.config.created if record.config.created_s else EPOCH
    comment = "the whole tree as one layer" if layers == 1 else "a layer"
    return [{"created": created, "comment": comment}] * layers


def stack(
    repo: Repository, document: dict[str, Any], base: Below, steps: Sequence[Tree], *, progress: Progress = QUIET
) -> None:
    """Gives a config its layers, and keeps their trees, within ``with repo.transaction()``.

    Args:
        repo: where the trees are.
        document: the config; its history begins with that of `base`, and has one step with a layer for each of `steps`.
        base: what it stands on.
        steps: the trees that were made of it, in their order.
        progress: is told about bytes whose digest is computed.
    """
    trees = [*base.trees, *steps]
    if len(trees) > MAX_DEPTH:
        document["rootfs"] = {"type": "layers", "diff_ids": []}
        return
    created_s = _time(document.get("created"), 0)
    layers = _cut(repo, trees, times(document, len(trees), created_s))
    known = len(base.diff_ids)
    diff_ids, sizes = list(base.diff_ids), [base.plain_bytes] * known
    for layer in layers[known:]:
        found = measuring.measured(layer, progress)
        diff_ids.append(found.digest)
        sizes.append(found.size + (sizes[-1] if sizes else 0))
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    for tree, chain, size in zip(trees, layercache.chain_ids(diff_ids), sizes, strict=True):
        if layercache.tree_of(repo, chain) is None:
            layercache.remember(repo, chain, tree=tree.tree, meta=tree.meta, plain_bytes=size)
