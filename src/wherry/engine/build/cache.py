"""What was built before: the tree after a RUN, by everything that its outcome depends on.

::

    refs/heads/build-cache/<64 hex>     a commit whose tree is the root after the step
    the 64 hex digits                   sha256 of canonical JSON:
        version        1
        tree, meta     checksums of the root before the step: names, modes, owners, links, contents; no times
        args, user, workdir, env, network, platform
        mounts         of each --mount its words; for a tree that is bound, its checksum; never a secret's value

Nothing says which stage, image or build it was, so equal steps are shared between all of them. A mode or a build
argument that changes is another key; a time of a file is in none.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.digest import Checksum, Ref
from wherry.store import refs
from wherry.store.format.objects import ObjectType

if TYPE_CHECKING:
    from wherry.store.repository import Repository

CACHE_PREFIX = "build-cache"
_VERSION = 1


def key_of(**parts: Any) -> str:
    """Returns the key of a step: 64 hex digits."""
    return hashlib.sha256(jsonio.canonical({"version": _VERSION, **parts})).hexdigest()


def find(repo: Repository, key: str) -> tuple[Checksum, Checksum] | None:
    """Returns dirtree and dirmeta of the root after a step; None when it is not known."""
    commit = refs.read_ref(repo.path, Ref(f"{CACHE_PREFIX}/{key}"))
    if commit is None or not repo.has(ObjectType.COMMIT, commit):
        return None
    loaded = repo.load_commit(commit)
    return loaded.tree, loaded.meta


def remember(repo: Repository, key: str, tree: Checksum, meta: Checksum, *, subject: str) -> Checksum:
    """Writes down what a step came to; returns the commit."""
    from wherry.store.tree.commit import commit_tree

    ref = Ref(f"{CACHE_PREFIX}/{key}")
    return commit_tree(repo, tree, meta, subject=subject[:200], timestamp_s=0, ref=ref, bind_ref=False)


def steps(repo: Repository) -> dict[Checksum, str]:
    """Returns the commits of the cache, each with the instruction that it came of."""
    return {commit: repo.load_commit(commit).subject for commit in repo.refs(CACHE_PREFIX).values()}


def forget_all(repo: Repository) -> list[Checksum]:
    """Takes away every ref of the cache; returns the commits that none names any more."""
    found = repo.refs(CACHE_PREFIX)
    if not found:
        return []
    with repo.transaction() as transaction:
        for ref in found:
            transaction.set_ref(ref, None)
    return sorted(set(found.values()) - set(repo.refs().values()))
