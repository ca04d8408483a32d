"""What a commit says of the refs it was made for, and of its time, against what it is pulled for.

``ostree.ref-binding`` (as): the refs' names, sorted; ``ostree.collection-binding`` (s): the collection that they are
in. So a server cannot show one ref's commit as another's. A commit without them fits every ref outside collections.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from wherry.core.digest import Checksum
from wherry.core.errors import TrustError
from wherry.store.format.objects import Commit
from wherry.store.format.variant import Variant

REF_BINDING = "ostree.ref-binding"
COLLECTION_BINDING = "ostree.collection-binding"
_HINT = "--disable-verify-bindings takes it anyway"


def check_bindings(checksum: Checksum, commit: Commit, *, ref: str | None, collection: str) -> None:
    """Refuses a commit that was made for another ref, or for another collection.

    Args:
        checksum: of the commit.
        commit: the commit.
        ref: which it is pulled for; None when it is pulled by its checksum.
        collection: of the remote; empty when it has none.

    Raises:
        TrustError: that is so, or there is a collection and the commit names none.
    """
    bound = bound_refs(commit)
    if bound is not None and ref is not None and ref not in bound:
        listed = ", ".join(f"‘{name}’" for name in bound) or "no refs"
        what = f"Commit has no requested ref ‘{ref}’ in ref binding metadata ({listed})"
        raise TrustError(what, where=checksum, hint=_HINT)
    if not collection:
        return
    if bound is None and ref is not None:
        what = "Expected commit metadata to have ref binding information, found none"
        raise TrustError(what, where=checksum, hint=_HINT)
    its = bound_collection(commit)
    if its is None:
        what = "Expected commit metadata to have collection ID binding information, found none"
        raise TrustError(what, where=checksum, hint=_HINT)
    if its != collection:
        raise TrustError(
            f"Commit has collection ID ‘{its}’ in collection binding metadata, while the remote it came from has "
            f"collection ID ‘{collection}’",
            where=checksum,
            hint=_HINT,
        )


def bound_refs(commit: Commit) -> list[str] | None:
    """Returns the refs that a commit was made for; None when it does not say."""
    found: Any = commit.metadata.get(REF_BINDING)
    if isinstance(found, Variant):  # how an empty list comes
        found = found.value
    return [str(name) for name in found] if isinstance(found, list) else None


def bound_collection(commit: Commit) -> str | None:
    """Returns the collection that a commit was made for; None when it does not say."""
    found = commit.metadata.get(COLLECTION_BINDING)
    return found if isinstance(found, str) else None


def check_newer(checksum: Checksum, commit: Commit, current: Checksum, current_commit: Commit) -> None:
    """Refuses a commit that is older than the one that it would replace.

    Raises:
        TrustError: that is so.
    """
    if checksum != current and commit.timestamp_s < current_commit.timestamp_s:
        raise TrustError(
            f"Upgrade target revision '{checksum}' with timestamp '{_shown(commit.timestamp_s)}' is chronologically "
            f"older than current revision '{current}' with timestamp '{_shown(current_commit.timestamp_s)}'",
            hint="pull it without --timestamp-check when you mean to go back",
        )


def _shown(timestamp_s: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp_s, UTC).strftime("%a %b %d %H:%M:%S %Y")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_s)
