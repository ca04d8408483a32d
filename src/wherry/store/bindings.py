"""What a commit says of the refs it was made for, and of its time, against what it is pulled for."""

from __future__ import annotations

from datetime import UTC, datetime

from wherry.core.digest import Checksum
from wherry.core.errors import TrustError
from wherry.store.objects import Commit
from wherry.store.variant import Variant

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
    refs = commit.metadata.get(REF_BINDING)
    if isinstance(refs, Variant):  # how an empty list comes
        refs = refs.value
    if isinstance(refs, list) and ref is not None and ref not in refs:
        names = ", ".join(f"'{name}'" for name in refs)
        raise TrustError(
            f"Commit {checksum} has no requested ref '{ref}' in ref binding metadata ({names})", hint=_HINT
        )
    if not collection:
        return
    if not isinstance(refs, list) and ref is not None:
        raise TrustError(
            f"expected commit metadata to have ref binding information, found none: {checksum}", hint=_HINT
        )
    found = commit.metadata.get(COLLECTION_BINDING)
    if not isinstance(found, str):
        raise TrustError(
            f"expected commit metadata to have collection ID binding information, found none: {checksum}", hint=_HINT
        )
    if found != collection:
        raise TrustError(
            f"commit {checksum} has collection ID '{found}' in collection binding metadata, while the remote it came "
            f"from has collection ID '{collection}'",
            hint=_HINT,
        )


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
