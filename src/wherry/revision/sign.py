"""Signatures of revisions: Ed25519 over the bytes of the commit, in OSTree's detached metadata.

The signature lies beside the commit in ``<checksum>.commitmeta`` under ``ostree.sign.ed25519`` (type ``aay``), as
``ostree sign`` writes it: 64 bytes for each key that signed. The commit names its tree by checksum, the tree holds
``revision.json``, and that names every component by checksum; so the one signature covers every byte of a device.

Source: ostree, ``ostree-sign.h`` and ``src/libostree/ostree-sign-ed25519.c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, short
from wherry.core.errors import IntegrityError, InvalidInput, TrustError
from wherry.store.objects import ObjectType
from wherry.store.variant import Variant
from wherry.trust.keys import SIGNATURE_BYTES, PrivateKey, PublicKey

if TYPE_CHECKING:
    from wherry.store.repo import Repo

SIGNATURE_KEY = "ostree.sign.ed25519"
MAX_SIGNATURES = 64


def sign_commit(repo: Repo, commit: Checksum, key: PrivateKey) -> None:
    """Adds the signature of `key` to a commit; signatures of others stay, one of `key` is not added twice.

    Raises:
        NotFound: there is no such commit.
    """
    data = _commit_bytes(repo, commit)
    detached = dict(repo.read_detached(commit))
    signatures = _signatures(detached, commit)
    new = key.sign(data)
    if new not in signatures:
        detached[SIGNATURE_KEY] = [*signatures, new]
        repo.write_detached(commit, detached)


def verify_commit(repo: Repo, commit: Checksum, keys: Iterable[PublicKey]) -> PublicKey:
    """Returns the first of `keys` that signed a commit.

    Raises:
        TrustError: none of them did; says whether it is signed at all.
        NotFound: there is no such commit.
        IntegrityError: the commit's bytes do not have its checksum.
    """
    data = _commit_bytes(repo, commit)
    signatures = _signatures(repo.read_detached(commit), commit)
    trusted = tuple(keys)
    for key in trusted:
        for signature in signatures:
            try:
                key.verify(data, signature)
            except TrustError:
                continue
            return key
    where = f"revision {short(commit)}"
    if not signatures:
        raise TrustError("not signed", where=where, hint="only signed revisions are taken")
    names = ", ".join(key.key_id[:12] for key in trusted) or "(none)"
    raise TrustError(
        f"not signed by a trusted key (trusted: {names})", where=where, hint="check that you trust the right key"
    )


def signature_count(repo: Repo, commit: Checksum) -> int:
    """Returns how many signatures a commit carries; says nothing about whether they are good."""
    return len(_signatures(repo.read_detached(commit), commit))


def _commit_bytes(repo: Repo, commit: Checksum) -> bytes:
    data = repo.metadata_bytes(ObjectType.COMMIT, commit)
    if hashlib.sha256(data).hexdigest() != commit:
        raise IntegrityError("the commit's bytes do not have its checksum", where=f"revision {short(commit)}")
    return data


def _signatures(detached: Mapping[str, Any], commit: Checksum) -> list[bytes]:
    found = detached.get(SIGNATURE_KEY, [])
    if isinstance(found, Variant):  # how an empty list comes
        found = found.value
    where = f"detached metadata of {short(commit)}"
    if not isinstance(found, list | tuple) or len(found) > MAX_SIGNATURES:
        raise InvalidInput(f"{SIGNATURE_KEY} is not a list of at most {MAX_SIGNATURES} signatures", where=where)
    signatures = [bytes(item) for item in found if isinstance(item, bytes | bytearray)]
    if len(signatures) != len(found) or any(len(item) != SIGNATURE_BYTES for item in signatures):
        raise InvalidInput(f"a signature has {SIGNATURE_BYTES} bytes", where=where)
    return signatures
