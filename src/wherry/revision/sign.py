"""Signatures of revisions: Ed25519 over the bytes of the commit, in OSTree's detached metadata.

The signature lies beside the commit in ``<checksum>.commitmeta`` under ``ostree.sign.ed25519`` (type ``aay``), as
``ostree sign`` writes it: 64 bytes for each key that signed. Beside it, ``wherry.signers`` (``aay``) has the public
keys, so that a person can be told who signed; nobody trusts a key because it stands there. The commit names its tree
by checksum, the tree holds ``revision.json``, and that names every component by checksum; so the one signature covers
every byte of a device.

Source: ostree, ``ostree-sign.h`` and ``src/libostree/ostree-sign-ed25519.c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum, short
from wherry.core.errors import IntegrityError, InvalidInput, TrustError
from wherry.store.format.objects import ObjectType
from wherry.store.format.variant import Variant
from wherry.trust.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, PublicKey

if TYPE_CHECKING:
    from wherry.store.repository import Repository

SIGNATURE_KEY = "ostree.sign.ed25519"
SIGNERS_KEY = "wherry.signers"
MAX_SIGNATURES = 64


def sign_commit(repo: Repository, commit: Checksum, key: PrivateKey) -> None:
    """Adds the signature of `key` to a commit; signatures of others stay, one of `key` is not added twice.

    Raises:
        NotFound: there is no such commit.
    """
    data = _commit_bytes(repo, commit)
    detached = dict(repo.read_detached(commit))
    signatures = _byte_strings(detached, SIGNATURE_KEY, SIGNATURE_BYTES, commit)
    signers = _byte_strings(detached, SIGNERS_KEY, PUBLIC_KEY_BYTES, commit)
    new = key.sign(data)
    if new not in signatures or key.public.raw not in signers:
        detached[SIGNATURE_KEY] = list(dict.fromkeys([*signatures, new]))
        detached[SIGNERS_KEY] = list(dict.fromkeys([*signers, key.public.raw]))
        repo.write_detached(commit, detached)


def verify_commit(repo: Repository, commit: Checksum, keys: Iterable[PublicKey]) -> PublicKey:
    """Returns the first of `keys` that signed a commit.

    Raises:
        TrustError: none of them did; says whether it is signed at all.
        NotFound: there is no such commit.
        IntegrityError: the commit's bytes do not have its checksum.
    """
    return verify_bytes(commit, _commit_bytes(repo, commit), repo.read_detached(commit), keys)


def verify_bytes(commit: Checksum, data: bytes, detached: Mapping[str, Any], keys: Iterable[PublicKey]) -> PublicKey:
    """Returns the first of `keys` that signed a commit whose bytes are at hand, as ``RemotePull`` asks it.

    Args:
        commit: the commit's checksum.
        data: its bytes, known to have that checksum.
        detached: its detached metadata.
        keys: the keys that are trusted.

    Raises:
        TrustError: none of them did; says whether it is signed at all.
    """
    signatures = _byte_strings(detached, SIGNATURE_KEY, SIGNATURE_BYTES, commit)
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


def signers(repo: Repository, commit: Checksum) -> tuple[PublicKey, ...]:
    """Returns the keys that did sign a commit, of those that it names itself; for showing, not for trusting."""
    found: list[PublicKey] = []
    for raw in _byte_strings(repo.read_detached(commit), SIGNERS_KEY, PUBLIC_KEY_BYTES, commit):
        try:
            found.append(verify_commit(repo, commit, [PublicKey(raw)]))
        except TrustError:
            continue
    return tuple(found)


def _commit_bytes(repo: Repository, commit: Checksum) -> bytes:
    data = repo.metadata_bytes(ObjectType.COMMIT, commit)
    if hashlib.sha256(data).hexdigest() != commit:
        raise IntegrityError("the commit's bytes do not have its checksum", where=f"revision {short(commit)}")
    return data


def _byte_strings(detached: Mapping[str, Any], key: str, size: int, commit: Checksum) -> list[bytes]:
    found = detached.get(key, [])
    if isinstance(found, Variant):  # how an empty list comes
        found = found.value
    where = f"detached metadata of {short(commit)}: {key}"
    if not isinstance(found, list | tuple) or len(found) > MAX_SIGNATURES:
        raise InvalidInput(f"not a list of at most {MAX_SIGNATURES} byte strings", where=where)
    items = [bytes(item) for item in found if isinstance(item, bytes | bytearray)]
    if len(items) != len(found) or any(len(item) != size for item in items):
        raise InvalidInput(f"an entry has not {size} bytes", where=where)
    return items
