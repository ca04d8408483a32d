"""An image from a registry into the store.

The manifest comes first, then the config, which says what the layers are: those that were unpacked before are not
fetched. The others are unpacked while they arrive, in one transaction; after an error there are only parts of blobs,
from which the next try goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wherry.core.digest import Digest
from wherry.core.errors import NotFound
from wherry.core.progress import QUIET, Progress
from wherry.image import layercache
from wherry.image.catalog import ImageRecord, Images
from wherry.image.config import parse_config
from wherry.image.kept import KeptBlobs
from wherry.image.layout import read_image
from wherry.image.platforms import Platform
from wherry.image.recording import record_image
from wherry.image.registry.downloads import Downloads
from wherry.image.registry.manifests import choose_manifest, get_manifest, sizes_of
from wherry.image.unpacking import Unpacker
from wherry.store.tree.tar import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from wherry.image.packed import PackedImage
    from wherry.image.reference import Reference
    from wherry.image.registry.client import RegistryClient
    from wherry.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull did."""

    record: ImageRecord
    is_new: bool
    """Whether the name led somewhere else before, or nowhere."""
    layers: int
    reused_layers: int
    fetched_bytes: int
    """Of layers; those that were there are not fetched."""


def pull(
    repo: Repository,
    reference: Reference,
    clients: Sequence[RegistryClient],
    *,
    platform: Platform | None = None,
    keep_layers: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress = QUIET,
    note: Callable[[str], None] = lambda text: None,
) -> Pulled:
    """Pulls an image.

    Args:
        repo: where it goes.
        reference: its name; with a digest, its manifest must have that.
        clients: its registry's mirrors, and the registry.
        platform: which one, where there are several; None: this machine's.
        keep_layers: whether compressed layers are kept, so that it can be pushed again unchanged.
        limits: how much to take.
        progress: is told of what arrives and what is unpacked.
        note: is told what is left out, and when the image is for another machine.

    Raises:
        NotFound: there is no such image, or none for this platform.
        IntegrityError: something has not the digest that it should have.
        NetworkError: the registry is not reached, or broke off.
    """
    wanted = platform or Platform.of_this_machine()
    top = get_manifest(clients, reference.path, reference.digest or reference.tag or "latest")
    manifest = choose_manifest(clients, reference.path, top, wanted, where=reference)
    there = _already(repo, reference, manifest.digest, keep_layers=keep_layers)
    if there is not None:
        layers = len(there.config.diff_ids)
        return Pulled(record=there, is_new=False, layers=layers, reused_layers=layers, fetched_bytes=0)
    sizes = sizes_of(manifest, where=reference)
    with repo.transaction(), Downloads(repo, clients, reference.path, sizes, progress) as downloads:
        packed = read_image(downloads, manifest.raw, manifest.digest, where=reference)
        _check_platform(packed, wanted, explicit=platform is not None, where=reference, note=note)
        needed = _needed(repo, packed, keep_layers=keep_layers)
        downloads.start(needed)
        unpacker = Unpacker(
            repo=repo,
            note=note,
            limits=limits,
            progress=progress,
            keep=KeptBlobs(repo) if keep_layers else None,
        )
        found = unpacker.unpack(packed, where=reference)
        record = record_image(
            repo,
            reference,
            tree=found.tree,
            meta=found.meta,
            size_bytes=found.size_bytes,
            config=found.config,
            digest=manifest.digest,
            manifest=manifest.raw,
            index_digest=top.digest,
        )
    return Pulled(
        record=record,
        is_new=True,
        layers=len(packed.layers),
        reused_layers=found.reused_layers,
        fetched_bytes=sum(sizes[digest] for digest in needed),
    )


def _already(repo: Repository, reference: Reference, digest: Digest, *, keep_layers: bool) -> ImageRecord | None:
    try:
        record = Images(repo).get(str(reference))
    except NotFound:
        return None
    if digest != record.digest:
        return None
    if keep_layers:
        from wherry.image.tidying import blobs_of

        kept = KeptBlobs(repo)
        if not all(kept.has(blob) for blob in blobs_of(record)):
            return None
    return record


def _needed(repo: Repository, packed: PackedImage, *, keep_layers: bool) -> list[Digest]:
    """Returns the blobs of the layers that have to be read."""
    config = parse_config(packed.config)
    known = layercache.find(repo, config.diff_ids)
    skipped = known.layers if known else 0
    kept = KeptBlobs(repo)
    return [
        layer.digest
        for index, layer in enumerate(packed.layers)
        if layer.digest is not None and (index >= skipped or (keep_layers and not kept.has(layer.digest)))
    ]


def _check_platform(
    packed: PackedImage, wanted: Platform, *, explicit: bool, where: object, note: Callable[[str], None]
) -> None:
    config = parse_config(packed.config, where=where)
    if not config.architecture or (config.os, config.architecture) == (wanted.os, wanted.architecture):
        return
    if explicit:
        raise NotFound(f"the image is for {config.platform}, not for {wanted}", where=where)
    note(f"the image is for {config.platform}; this machine is {wanted}")
