"""``wherry image``: the images in the store, in docker's words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.image_history import history
from wherry.cli.image_import import import_
from wherry.cli.image_list import ls
from wherry.cli.image_mount import mount, unmount
from wherry.cli.image_names import rename, tag, untag
from wherry.cli.image_prune import prune
from wherry.cli.image_referrers import attach, referrers
from wherry.cli.image_registry import pull, push, tags
from wherry.cli.image_remove import rm
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.image_sbom import licenses, sbom
from wherry.cli.image_streams import export, load
from wherry.cli.output import print_json

if TYPE_CHECKING:
    from wherry.image.catalog import ImageRecord


@click.group(
    epilog="""\b
Examples:
  wherry image import rootfs.tar.zst --name debian:12
  wherry image ls"""
)
def image() -> None:
    """Images in the store."""


for _command in (
    attach,
    export,
    history,
    import_,
    licenses,
    load,
    ls,
    mount,
    prune,
    pull,
    push,
    referrers,
    rename,
    rm,
    sbom,
    tag,
    tags,
    unmount,
    untag,
):
    image.add_command(_command)


@image.command(epilog="\b\nExamples:\n  wherry image inspect nginx:1.27")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--format", "format_", type=click.Choice(["json"]), default="json", help="Always json.")
@repo_option
def inspect(names: tuple[str, ...], format_: str, repo_path: Path | None) -> None:
    """Show all about images, as JSON with docker's keys."""
    catalogue = require_images(repo_path, names[0])
    print_json([_details(catalogue.get(name)) for name in names])


def _details(record: ImageRecord) -> dict[str, Any]:
    document = record.config.document()
    return {
        "Id": record.identifier,
        "RepoTags": [record.reference.familiar] if record.reference.tag else [],
        "RepoDigests": [f"{record.reference.familiar_repository}@{record.digest}"],
        "Created": record.config.created,
        "Architecture": record.config.architecture,
        "Variant": record.config.variant,
        "Os": record.config.os,
        "Size": record.size_bytes,
        "Config": document.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(record.config.diff_ids)},
        "Commit": record.commit,
    }
