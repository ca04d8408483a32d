"""An image from a registry into the store.

The manifest comes first, then the config, which says what the layers are: those that were unpacked before are not
fetched. The others are unpacked while they arrive, in one transaction; after an error there are only parts of blobs,
from which the next try goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Digest, parse_digest
from wherry.core.errors import InvalidInput, NotFound
from wherry.core.progress import QUIET, Progress
from wherry.core.trace import reach
from wherry.image import layercache
from wherry.image.catalog import ImageRecord, Images
from wherry.image.config import parse_config
from wherry.image.indexes import find_index, record_index
from wherry.image.indexrefs import member_ref
from wherry.image.kept import KeptBlobs
from wherry.image.layout import manifests_of, platform_of, read_image
from wherry.image.packed import field as member_of
from wherry.image.platforms import Platform
from wherry.image.recording import record_image
from wherry.image.registry.downloads import Downloads
from wherry.image.registry.manifests import Manifest, choose_manifest, get_manifest, sizes_of
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How images are pulled."""

    keep_layers: bool = False
    """Whether compressed layers are kept, so that the image can be pushed again unchanged."""
    limits: Limits = field(default=DEFAULT_LIMITS)
    """How much to take."""
    progress: Progress = QUIET
    """Is told of what arrives and what is unpacked."""
    note: Callable[[str], None] = lambda text: None
    """Is told what is left out, and when the image is for another machine."""


def pull(
    repo: Repository,
    reference: Reference,
    clients: Sequence[RegistryClient],
    *,
    platform: Platform | None = None,
    options: PullOptions | None = None,
) -> Pulled:
    """Pulls an image.

    Args:
        repo: where it goes.
        reference: its name; with a digest, its manifest must have that.
        clients: its registry's mirrors, and the registry.
        platform: which one, where there are several; None: this machine's.
        options: how.

    Raises:
        NotFound: there is no such image, or none for this platform.
        IntegrityError: something has not the digest that it should have.
        NetworkError: the registry is not reached, or broke off.
    """
    options = options or PullOptions()
    wanted = platform or Platform.of_this_machine()
    top = get_manifest(clients, reference.path, reference.digest or reference.tag or "latest")
    manifest = choose_manifest(clients, reference.path, top, wanted, where=reference)
    there = _already(repo, reference, manifest.digest, keep_layers=options.keep_layers)
    if there is not None:
        return _nothing_new(there)
    work = _Pull(repo=repo, reference=reference, clients=clients, options=options, top=top)
    with repo.transaction():
        return work.take(manifest, lambda packed: work.check_platform(packed, wanted, explicit=platform is not None))


def pull_all(
    repo: Repository,
    reference: Reference,
    clients: Sequence[RegistryClient],
    *,
    options: PullOptions | None = None,
) -> list[Pulled]:
    """Pulls an image for every platform of Linux that it is there for; all of them go under its name, or none.

    The arguments and errors are those of ``pull``.

    Returns:
        What was done, in the index's order; one where the name leads to no index.
    """
    options = options or PullOptions()
    top = get_manifest(clients, reference.path, reference.digest or reference.tag or "latest")
    if not top.is_index:
        return [pull(repo, reference, clients, options=options)]
    there = find_index(repo, reference)
    if there is not None and there.raw == top.raw:
        found = [_if_kept(repo, member, keep_layers=options.keep_layers) for member in there.members]
        if None not in found:
            return [_nothing_new(member) for member in there.members]
    work = _Pull(repo=repo, reference=reference, clients=clients, options=options, top=top)
    done: dict[Platform, Pulled] = {}
    with repo.transaction() as transaction:
        for descriptor in manifests_of(top.document(), reference):
            offered = platform_of(descriptor)
            if offered.os != "linux" or offered.architecture in ("", "unknown"):
                if offered.os not in ("linux", "unknown"):
                    options.note(f"left out: the image for {offered}")
                continue
            digest = parse_digest(member_of(descriptor, "digest", str, where=reference), where=reference)
            manifest = get_manifest(clients, reference.path, digest)
            pulled = work.take(manifest, as_member=True)
            if pulled.record.platform in done:
                raise InvalidInput(f"two images are for {pulled.record.platform}", where=reference)
            done[pulled.record.platform] = pulled
        if not done:
            raise NotFound("the index names no image for Linux", where=reference)
        index = record_index(repo, reference, [pulled.record for pulled in done.values()], top.raw)
        for member in index.members:
            if member.commit == index.main.commit:  # it goes by the name itself
                transaction.set_ref(member_ref(reference, member.platform), None)
    return [replace(pulled, record=member) for pulled, member in zip(done.values(), index.members, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pull:
    repo: Repository
    reference: Reference
    clients: Sequence[RegistryClient]
    options: PullOptions
    top: Manifest

    def take(
        self,
        manifest: Manifest,
        check: Callable[[PackedImage], None] = lambda packed: None,
        *,
        as_member: bool = False,
    ) -> Pulled:
        """Fetches and unpacks one image, within a transaction."""
        repo, options = self.repo, self.options
        sizes = sizes_of(manifest, where=self.reference)
        with Downloads(repo, self.clients, self.reference.path, sizes, options.progress) as downloads:
            reach("image.pull.manifest")
            packed = read_image(downloads, manifest.raw, manifest.digest, where=self.reference)
            check(packed)
            needed = _needed(repo, packed, keep_layers=options.keep_layers)
            downloads.start(needed)
            unpacker = Unpacker(
                repo=repo,
                note=options.note,
                limits=options.limits,
                progress=options.progress,
                keep=KeptBlobs(repo) if options.keep_layers else None,
            )
            found = unpacker.unpack(packed, where=self.reference)
            reach("image.pull.unpacked")
        more: dict[str, Any] = {}
        if as_member:
            platform = Platform(
                os=found.config.os, architecture=found.config.architecture, variant=found.config.variant
            )
            more["ref"] = member_ref(self.reference, platform)
        record = record_image(
            repo,
            self.reference,
            tree=found.tree,
            meta=found.meta,
            size_bytes=found.size_bytes,
            config=found.config,
            digest=manifest.digest,
            manifest=manifest.raw,
            index_digest=self.top.digest,
            **more,
        )
        return Pulled(
            record=record,
            is_new=True,
            layers=len(packed.layers),
            reused_layers=found.reused_layers,
            fetched_bytes=sum(sizes[digest] for digest in needed),
        )

    def check_platform(self, packed: PackedImage, wanted: Platform, *, explicit: bool) -> None:
        """Refuses an image for another platform than the one that was named; of this machine's it is a note."""
        config = parse_config(packed.config, where=self.reference)
        if not config.architecture or (config.os, config.architecture) == (wanted.os, wanted.architecture):
            return
        if explicit:
            raise NotFound(f"the image is for {config.platform}, not for {wanted}", where=self.reference)
        self.options.note(f"the image is for {config.platform}; this machine is {wanted}")


def _nothing_new(record: ImageRecord) -> Pulled:
    layers = len(record.config.diff_ids)
    return Pulled(record=record, is_new=False, layers=layers, reused_layers=layers, fetched_bytes=0)


def _already(repo: Repository, reference: Reference, digest: Digest, *, keep_layers: bool) -> ImageRecord | None:
    try:
        record = Images(repo).get(str(reference))
    except NotFound:
        return None
    return _if_kept(repo, record, keep_layers=keep_layers) if digest == record.digest else None


def _if_kept(repo: Repository, record: ImageRecord, *, keep_layers: bool) -> ImageRecord | None:
    """Returns an image unless its blobs are to be kept, and are not."""
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
