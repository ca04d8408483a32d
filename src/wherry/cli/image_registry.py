"""``wherry image pull``, ``push`` and ``tags``: images from registries and to them, in docker's words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import settings
from wherry.cli.image_repo import open_or_make_store, repo_option, require_images
from wherry.cli.output import note, print_json
from wherry.cli.registries import RegistryOptions, keeps_layers, registry_options
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Digest
    from wherry.image.catalog import ImageRecord
    from wherry.image.indexes import IndexRecord
    from wherry.image.outgoing import OutgoingImage
    from wherry.image.outgoingindex import OutgoingIndex
    from wherry.image.platforms import Platform
    from wherry.image.reference import Reference
    from wherry.image.registry.pulling import Pulled

_MAX_NOTES = 3


@click.command(
    epilog="""\b
Examples:
  wherry image pull nginx:1.27
  wherry image pull --platform linux/arm64 registry.example:5000/team/app:2
  wherry image pull --keep-layers localhost:5000/app@sha256:7801e692..."""
)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--all-platforms", is_flag=True, help="Every platform of Linux that it is there for.")
@click.option(
    "--keep-layers/--no-keep-layers",
    default=None,
    help="Keep compressed layers, too, so that it can be pushed again unchanged (config: wherry.keep-layers).",
)
@click.option("-a", "--all-tags", is_flag=True, help="Every tag of the repository.")
@click.option("-q", "--quiet", "ids_only", is_flag=True, help="Print image IDs alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_options
@repo_option
def pull(
    names: tuple[str, ...],
    platform: str | None,
    all_platforms: bool,
    keep_layers: bool | None,
    all_tags: bool,
    ids_only: bool,
    as_json: bool,
    repo_path: Path | None,
    registries: RegistryOptions,
) -> None:
    """Fetch images from a registry into the store.

    Layers that are there are not fetched again; a pull that was cut goes on where it was. IMAGE is a name as docker
    takes it, with a tag, a digest or neither (latest).
    """
    from wherry.core.progress import QUIET
    from wherry.image.platforms import Platform
    from wherry.image.reference import Reference
    from wherry.image.registry.pulling import PullOptions, pull_all
    from wherry.image.registry.pulling import pull as pull_image
    from wherry.image.registry.pushing import list_tags

    if platform and all_platforms:
        raise UsageError("--platform and --all-platforms exclude each other")
    wanted = Platform.parse(platform) if platform else None
    references = [Reference.parse(name) for name in names]
    repo = open_or_make_store(repo_path)
    quiet = ids_only or as_json
    done: list[dict[str, Any]] = []
    for reference in references:
        with registries.clients(reference.domain) as clients:
            found = [reference]
            if all_tags:
                tags = list_tags(clients[-1], reference.path)
                found = [Reference.parse(f"{reference.repository}:{tag}") for tag in tags]
            for each in found:
                notes: list[str] = []
                options = PullOptions(
                    keep_layers=keeps_layers(repo) if keep_layers is None else keep_layers,
                    progress=QUIET if quiet else settings().progress(),
                    note=notes.append,
                )
                if all_platforms:
                    results = pull_all(repo, each, clients, options=options)
                else:
                    results = [pull_image(repo, each, clients, platform=wanted, options=options)]
                _tell(notes)
                for pulled in results:
                    if as_json:
                        done.append(_summary(pulled))
                    elif ids_only:
                        click.echo(pulled.record.identifier)
                    else:
                        _print(pulled, with_platform=len(results) > 1)
    if as_json:
        print_json(done)


@click.command(
    epilog="""\b
Examples:
  wherry image push registry.example:5000/team/app:2
  wherry image push app:1 registry.example/team/app:1
  wherry image push --platform linux/arm64 app:1 registry.example/team/app:1-arm64"""
)
@click.argument("name", metavar="IMAGE")
@click.argument("target", required=False, metavar="[TARGET]")
@click.option(
    "--compress",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="gzip",
    show_default=True,
    help="Of a layer that is made here, where the registry's own were not kept.",
)
@click.option("--platform", metavar="OS/ARCH", help="This one alone, where the name has several; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_options
@repo_option
def push(
    name: str,
    target: str | None,
    compress: str,
    platform: str | None,
    as_json: bool,
    repo_path: Path | None,
    registries: RegistryOptions,
) -> None:
    """Send an image to a registry.

    An image that was pulled with --keep-layers goes as it came, with the same digest. Of any other, layers are made of
    its files, as it was built or pulled; always the same for the same image, so that a next version sends its new
    layers alone. A name that has images for several platforms goes with all of them, as one index.
    """
    from wherry.image.indexes import find_index
    from wherry.image.kept import KeptBlobs
    from wherry.image.outgoing import outgoing
    from wherry.image.outgoingindex import outgoing_index
    from wherry.image.platforms import Platform
    from wherry.image.reference import Reference

    catalogue = require_images(repo_path, name)
    record = catalogue.get(name)
    reference = Reference.parse(target) if target else record.reference
    if reference.digest is not None and reference.tag is None:
        raise UsageError("a push needs a tag, not a digest", where=target or name)
    progress = settings().progress()
    kept = KeptBlobs(catalogue.repo)
    kind: Any = None if compress == "none" else compress
    index = find_index(catalogue.repo, record.reference)
    if index is not None and index.main.commit != record.commit:
        index = None  # an identifier has named one of them
    image: OutgoingImage | OutgoingIndex
    if index is None or platform:
        record = _member(record, index, Platform.parse(platform) if platform else None)
        image = outgoing(catalogue.repo, record, kept, compress=kind, progress=progress)
        came = bool(record.manifest)
    else:
        image = outgoing_index(catalogue.repo, index, kept, compress=kind, progress=progress)
        came = bool(index.raw)
    if came and not image.kept:
        note("the registry's own layers were not kept: it goes with a manifest of its own", quiet=settings().quiet)
    digest = send(image, record.reference, reference, registries)
    if as_json:
        print_json({"reference": str(reference), "digest": digest, "as_it_came": image.kept})
    else:
        click.echo(f"{reference.familiar}: pushed")
        click.echo(f"Digest: {digest}")


def send(
    image: OutgoingImage | OutgoingIndex, source: Reference, target: Reference, registries: RegistryOptions
) -> Digest:
    """Sends what leaves the store to a registry; returns the manifest's digest.

    Args:
        image: one, or an index of several.
        source: its name in the store: what the registry has under that need not be sent again.
        target: what it is called there.
        registries: how registries are reached.
    """
    from wherry.image.outgoingindex import OutgoingIndex
    from wherry.image.registry.pushing import Push

    with registries.clients(target.domain, mirrors=False) as clients:
        mount_from = [source.path] if source.domain == target.domain and source.path != target.path else []
        sender = Push(clients[-1], target.path, mount_from=mount_from, progress=settings().progress())
        tag = target.tag or "latest"
        return sender.index(image, tag) if isinstance(image, OutgoingIndex) else sender.image(image, tag)


@click.command(epilog="\b\nExamples:\n  wherry image tags registry.example:5000/team/app")
@click.argument("name", metavar="REPOSITORY")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_options
def tags(name: str, as_json: bool, registries: RegistryOptions) -> None:
    """List the tags that a registry has of an image."""
    from wherry.image.reference import Reference
    from wherry.image.registry.pushing import list_tags

    reference = Reference.parse(name)
    with registries.clients(reference.domain) as clients:
        found = list_tags(clients[-1], reference.path)
    if as_json:
        print_json({"repository": reference.familiar_repository, "tags": found})
    else:
        for tag in found:
            click.echo(tag)


def _member(record: ImageRecord, index: IndexRecord | None, wanted: Platform | None) -> ImageRecord:
    """Returns the image of one platform."""
    if wanted is None:
        return record
    found = index.member(wanted) if index is not None else record
    if found is None or (found.platform.os, found.platform.architecture) != (wanted.os, wanted.architecture):
        raise NotFound(f"the image is not here for {wanted}", where=record.reference.familiar)
    return found


def _print(pulled: Pulled, *, with_platform: bool) -> None:
    from wherry.core.units import format_size

    state = "is up to date" if not pulled.is_new else f"{format_size(pulled.fetched_bytes)} fetched"
    platform = f" for {pulled.record.platform}" if with_platform else ""
    layers = f"{pulled.layers} layers, {pulled.reused_layers} there already"
    click.echo(f"{pulled.record.reference.familiar}{platform}: {state} ({layers})")
    click.echo(f"Digest: {pulled.record.digest}")


def _tell(notes: list[str]) -> None:
    quiet = settings().quiet
    for text in notes[:_MAX_NOTES]:
        note(text, quiet=quiet)
    if len(notes) > _MAX_NOTES:
        note(f"... and {len(notes) - _MAX_NOTES} more of the kind", quiet=quiet)


def _summary(pulled: Pulled) -> dict[str, Any]:
    record = pulled.record
    return {
        "reference": str(record.reference),
        "id": record.identifier,
        "digest": record.digest,
        "commit": record.commit,
        "platform": record.config.platform,
        "new": pulled.is_new,
        "layers": pulled.layers,
        "reused_layers": pulled.reused_layers,
        "fetched_bytes": pulled.fetched_bytes,
    }
