"""Trees of layers that have been unpacked before: the next image that begins with the same ones starts from there.

::

    refs/heads/image-layer/<64 hex>    the chain ID of layers 0..n; its commit holds the tree that they make together
    commit metadata                    wherry.image-layer.size  t   of all its files, in bytes

A chain ID names uncompressed layers, each of which was checked against its digest when its tree was written, so a tree
that is found here is what the layers would make. `forget_unused` keeps the chains of images that are there.

Source: OCI image-spec 1.1, config.md, "Layer ChainID".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Checksum, Digest, Ref, checksum_of
from wherry.store import refs
from wherry.store.format.objects import ObjectType

if TYPE_CHECKING:
    from wherry.store.repository import Repository

LAYER_PREFIX = "image-layer"
SIZE_KEY = "wherry.image-layer.size"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTree:
    """What the first layers of an image make."""

    layers: int
    """How many of them."""
    tree: Checksum
    meta: Checksum
    plain_bytes: int
    """The size of those layers, uncompressed."""


def chain_ids(diff_ids: Sequence[Digest]) -> list[Digest]:
    """Returns the chain ID of the first layer, of the first two, and so on."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        whole = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append(Digest("sha256:" + hashlib.sha256(whole.encode()).hexdigest()) if whole else diff_id)
    return chain


def find(repo: Repository, diff_ids: Sequence[Digest]) -> CachedTree | None:
    """Returns the tree of as many of the first layers as have been unpacked before; None when not even the first."""
    for index, chain in reversed(list(enumerate(chain_ids(diff_ids)))):
        commit = refs.read_ref(repo.path, _ref(chain))
        if commit is None or not repo.has(ObjectType.COMMIT, commit):
            continue
        loaded = repo.load_commit(commit)
        size = loaded.metadata.get(SIZE_KEY)
        return CachedTree(
            layers=index + 1, tree=loaded.tree, meta=loaded.meta, plain_bytes=size if isinstance(size, int) else 0
        )
    return None


def tree_of(repo: Repository, chain: Digest) -> tuple[Checksum, Checksum] | None:
    """Returns dirtree and dirmeta of what the layers of a chain ID make; None when that is not kept."""
    commit = refs.read_ref(repo.path, _ref(chain))
    if commit is None or not repo.has(ObjectType.COMMIT, commit):
        return None
    loaded = repo.load_commit(commit)
    return loaded.tree, loaded.meta


def remember(repo: Repository, chain: Digest, *, tree: Checksum, meta: Checksum, plain_bytes: int) -> None:
    """Writes down what layers make, within ``with repo.transaction()``."""
    from wherry.store.tree.commit import commit_tree

    commit_tree(
        repo,
        tree,
        meta,
        subject=f"layers {chain}",
        timestamp_s=0,
        metadata={SIZE_KEY: plain_bytes},
        ref=_ref(chain),
        bind_ref=False,
    )


def forget_unused(repo: Repository, configs: Iterable[Sequence[Digest]]) -> int:
    """Takes away the refs of chains that no image has.

    Args:
        repo: where.
        configs: the diff IDs of each image that stays.

    Returns:
        How many went.
    """
    needed = {_ref(chain) for diff_ids in configs for chain in chain_ids(diff_ids)}
    doomed = [ref for ref in repo.refs(LAYER_PREFIX) if ref not in needed]
    if doomed:
        with repo.transaction() as transaction:
            for ref in doomed:
                transaction.set_ref(ref, None)
    return len(doomed)


def _ref(chain: Digest) -> Ref:
    return Ref(f"{LAYER_PREFIX}/{checksum_of(chain)}")
