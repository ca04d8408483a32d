"""``wherry image save``: images as an archive that docker, podman and skopeo read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.output import note
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.core.progress import Progress
    from wherry.image.catalog import Images
    from wherry.image.saving import Named

_FORMATS = ("docker-archive", "oci-archive", "oci-dir")


@click.command(
    epilog="""\b
Examples:
  wherry image save nginx:1.27 -o nginx.tar
  wherry image save nginx:1.27 redis:7 | ssh device wherry image load
  wherry image save app:1 --format oci-dir -o layout
  wherry image save app:1 --all-platforms --format oci-archive -o app.tar"""
)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completing.images)
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to; by default standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="docker-archive",
    show_default=True,
    help="What to write. A docker-archive is an OCI archive, too.",
)
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--all-platforms", is_flag=True, help="All of them, as one index.")
@repo_option
def save(
    names: tuple[str, ...], output: str, form: str, platform: str | None, all_platforms: bool, repo_path: Path | None
) -> None:
    """Write images to one archive, in which they share their layers.

    `docker load`, `podman load`, `skopeo` and `wherry image load` read it. The same images give the same bytes. Layers
    that were kept leave as they came; others are made, uncompressed.
    """
    from wherry.core.units import format_size
    from wherry.image.saving import Format, plan, save_archive, save_directory, write_archive

    chosen = Format(form)
    if output == "-" and chosen is Format.OCI_DIR:
        raise UsageError("a folder needs a name", hint="give -o DIR")
    if output == "-" and sys.stdout.isatty():
        raise UsageError("an archive is not written to a terminal", hint="give -o FILE, or redirect it")
    if platform and all_platforms:
        raise UsageError("--platform and --all-platforms exclude each other")
    images = require_images(repo_path, names[0])
    progress = settings().progress()
    files = plan(_named(images, names, platform, all_platforms, progress), chosen)
    if output == "-":
        write_archive(files, sys.stdout.buffer, progress=progress)
        sys.stdout.buffer.flush()
        return
    if chosen is Format.OCI_DIR:
        save_directory(files, Path(output), progress=progress)
    else:
        save_archive(files, Path(output), progress=progress)
    note(f"{output}: {format_size(files.size_bytes)}", quiet=settings().quiet)


def _named(
    images: Images, names: tuple[str, ...], platform: str | None, all_platforms: bool, progress: Progress
) -> list[Named]:
    from wherry.image.indexes import find_index
    from wherry.image.kept import KeptBlobs
    from wherry.image.outgoing import outgoing
    from wherry.image.outgoingindex import outgoing_index
    from wherry.image.platforms import Platform
    from wherry.image.saving import Named

    kept = KeptBlobs(images.repo)
    wanted = Platform.parse(platform) if platform else None
    found: list[Named] = []
    for name in dict.fromkeys(names):
        record = images.get(name, platform=wanted)
        reference = record.reference if images.is_name(name) else None
        index = find_index(images.repo, record.reference) if all_platforms else None
        main = outgoing(images.repo, record, kept, progress=progress)
        whole = outgoing_index(images.repo, index, kept, progress=progress) if index is not None else main
        found.append(Named(leaving=whole, reference=reference, main=main))
    return found
