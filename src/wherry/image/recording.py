"""An image's commit is made here, whatever the image came from: an archive, a registry, a build, a container.

::

    ref               image/...                 catalog.py, reference.py
    commit metadata   wherry.image.config      s   the config's JSON, byte for byte
                      wherry.image.digest      s   the manifest's digest, or what stands for it
                      wherry.image.manifest    s   the manifest's JSON, byte for byte, where there was one
                      wherry.image.reference   s   the whole name
                      wherry.image.size        t   the sum of the sizes of all files, in bytes
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from wherry.core import jsonio
from wherry.core.digest import Checksum, Digest, Ref
from wherry.core.errors import IntegrityError
from wherry.image.catalog import CONFIG_KEY, DIGEST_KEY, MANIFEST_KEY, REFERENCE_KEY, SIZE_KEY, ImageRecord
from wherry.image.indexrefs import beside_refs

if TYPE_CHECKING:
    from wherry.image.config import ImageConfig
    from wherry.image.reference import Reference
    from wherry.store.repository import Repository


def record_image(
    repo: Repository,
    reference: Reference,
    *,
    tree: Checksum,
    meta: Checksum,
    size_bytes: int,
    config: ImageConfig,
    digest: Digest,
    manifest: bytes = b"",
    index_digest: Digest | None = None,
    body: str = "",
    timestamp_s: int | None = None,
    ref: Ref | None = None,
) -> ImageRecord:
    """Makes the commit of an image and moves its ref there. A name that gets another image loses what is beside it.

    Args:
        repo: where, within ``with repo.transaction()``.
        reference: the name that it gets.
        tree: dirtree of its root.
        meta: dirmeta of its root.
        size_bytes: of all its files.
        config: its config.
        digest: of its manifest, or what stands for it.
        manifest: the manifest's JSON, byte for byte, if it has one; its digest must be `digest`.
        index_digest: of the index that led to the manifest; the name may ask for it, too.
        body: of the commit's message.
        timestamp_s: of the commit; None: when the image says that it was made.
        ref: where it goes; None: where its name leads to. See ``indexes.py`` for images of other platforms.

    Raises:
        IntegrityError: the name asks for another digest.
    """
    from wherry.store.tree.commit import commit_tree

    if reference.digest not in (None, digest, index_digest):
        raise IntegrityError(f"the image has the digest {digest}", where=str(reference))
    metadata: dict[str, Any] = {CONFIG_KEY: config.raw.decode(), DIGEST_KEY: digest}
    if manifest:
        metadata[MANIFEST_KEY] = manifest.decode()
    metadata |= {REFERENCE_KEY: str(reference), SIZE_KEY: size_bytes}
    commit = commit_tree(
        repo,
        tree,
        meta,
        subject=f"image {reference}",
        body=body,
        timestamp_s=config.created_s if timestamp_s is None else timestamp_s,
        metadata=metadata,
        ref=reference.ref if ref is None else ref,
    )
    if ref is None and repo.refs(reference.ref).get(reference.ref) != commit:
        with repo.transaction() as transaction:  # other platforms of what the name meant before
            for beside in beside_refs(repo, reference):
                transaction.set_ref(beside, None)
    return ImageRecord(
        reference=reference,
        commit=commit,
        digest=digest,
        config=config,
        size_bytes=size_bytes,
        created_s=config.created_s,
        manifest=manifest,
    )


def tree_digest(config: ImageConfig, tree: Checksum, meta: Checksum) -> Digest:
    """Returns what stands for a manifest's digest where an image is made of a tree."""
    whole = jsonio.canonical({"config": config.digest, "dirmeta": meta, "dirtree": tree})
    return Digest("sha256:" + hashlib.sha256(whole).hexdigest())
