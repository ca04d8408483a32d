"""What keeps components in the hub's repository: a list for ``prune``, since none of them has a ref of its own.

A revision names its components in ``revision.json``, which the store knows nothing of. So the components of all
revisions that refs lead to are written to ``extensions/wherry/keep/hub`` before a ref moves. The list is made anew when
the hub starts: what ``prune --depth`` took away then keeps nothing any more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.revision.load import component_commits, load_revision
from wherry.store.care.keep import keep_commits
from wherry.store.repository import Repository

NAME = "hub"
MAX_CHAIN = 10_000
"""How many parents of a ref's commit are looked at."""


class KeptComponents:
    """The components of the revisions that refs lead to.

    Args:
        repo: the hub's repository.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._lock = threading.Lock()
        self._seen: set[Checksum] = set()
        self._kept: dict[Checksum, None] = {}

    def begin(self, heads: Iterable[Checksum]) -> None:
        """Makes the list anew, of the revisions that these and their parents are."""
        with self._lock:
            for head in heads:
                self._walk(head)
            keep_commits(self._repo, NAME, sorted(self._kept))

    def add(self, head: Checksum) -> None:
        """Sees to it, durably, that the components of a revision and of its parents stay."""
        with self._lock:
            before = len(self._kept)
            self._walk(head)
            if len(self._kept) != before:
                keep_commits(self._repo, NAME, sorted(self._kept))

    def _walk(self, head: Checksum) -> None:
        commit: Checksum | None = head
        for _ in range(MAX_CHAIN):
            if commit is None or commit in self._seen:
                return
            try:
                parent = self._repo.load_commit(commit).parent
                components = component_commits(load_revision(self._repo, commit))
            except (NotFound, InvalidInput, Unsupported):
                return  # an older one that was never pushed, or has been pruned
            self._seen.add(commit)
            self._kept.update(dict.fromkeys(components))
            commit = parent
