"""``wherry image load`` and ``export``: archives in and out; and archives that come or go through a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_list import summary
from wherry.cli.image_repo import open_or_make_store, repo_option, require_images
from wherry.cli.output import note, print_json
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.tar import Limits

_ALIKE = "left out "
"""How what is told of single files begins."""
_MAX_NOTES = 1
_PIECE_BYTES = 1024 * 1024


@click.command(
    epilog="""\b
Examples:
  wherry image load -i images.tar.zst
  docker save nginx:1.27 redis:7 | wherry load"""
)
@click.option("-i", "--input", "source", default="-", metavar="FILE", help="Read a file; by default standard input.")
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("--keep-layers", is_flag=True, help="Keep compressed layers, so that it can be pushed unchanged.")
@click.option("--max-size", metavar="SIZE", help="The most bytes to take, unpacked (1 TiB).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@repo_option
def load(
    source: str, platform: str | None, max_size: str | None, repo_path: Path | None, keep_layers: bool, as_json: bool
) -> None:
    """Bring in all images of a `docker save` or `podman save` archive, or of an OCI archive, under all their names.

    An image that has no name in the archive is called localhost/loaded and digits of its ID.
    """
    from wherry.image.importing import load_images

    if source == "-" and sys.stdin.isatty():
        raise UsageError("an archive does not come from a terminal", hint="give -i FILE, or redirect it")
    repo = open_or_make_store(repo_path)
    notes: list[str] = []
    with spooled(source, repo) as path:
        records = load_images(
            repo,
            Path(path),
            platform=platform,
            keep_layers=keep_layers,
            limits=limits_of(max_size),
            progress=settings().progress(),
            note=notes.append,
        )
    tell(notes)
    if as_json:
        print_json([summary(record) for record in records])
        return
    for record in records:
        click.echo(f"Loaded image: {record.reference.familiar}")


@click.command(
    epilog="""\b
Examples:
  wherry image export debian:12 -o rootfs.tar
  wherry image export debian:12 | zstd > rootfs.tar.zst"""
)
@click.argument("image", metavar="IMAGE", shell_complete=completing.images)
@click.option("-o", "--output", metavar="FILE", default="-", help="Write to a file; by default to standard output.")
@click.option("--no-xattrs", is_flag=True, help="Leave extended attributes out.")
@repo_option
def export(image: str, output: str, no_xattrs: bool, repo_path: Path | None) -> None:
    """Write an image's files as a root tar, its layers laid over one another.

    The config is not in it. The same image gives the same archive; `wherry image import` takes it.
    """
    from wherry.store.tree.export import export as write

    images = require_images(repo_path, image)
    record = images.get(image)
    with written(output) as file:
        write(images.repo, record.commit, file, no_xattrs=no_xattrs, progress=settings().progress())


@contextmanager
def written(output: str) -> Iterator[BinaryIO]:
    """Gives a file to write an archive to, or standard output for ``-``; half a file is removed after an error.

    Raises:
        UsageError: standard output is a terminal.
    """
    from wherry.core.durable import map_os_error

    if output == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is not for a terminal", hint="give -o FILE, or redirect it")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with open(output, "wb") as file:
            alone = os.fstat(file.fileno()).st_nlink == 1
            try:
                yield file
                file.flush()
            except BaseException:
                if alone and os.path.isfile(output):
                    os.unlink(output)
                raise
    except OSError as error:
        raise map_os_error(error, "cannot write the archive", where=output) from error


@contextmanager
def spooled(source: str, repo: Repository) -> Iterator[str]:
    """Gives a file for an archive on standard input: it is read more than once."""
    if source != "-":
        yield source
        return
    from wherry.core.durable import map_os_error
    from wherry.image.scratch import scratch_folder

    with scratch_folder(repo.path / "tmp") as folder:
        path = folder / "input"
        try:
            with open(path, "wb") as file:
                while data := sys.stdin.buffer.read(_PIECE_BYTES):
                    file.write(data)
        except OSError as error:
            raise map_os_error(error, "cannot keep standard input", where=path) from error
        yield str(path)


def limits_of(max_size: str | None) -> Limits:
    """Returns how much is taken, by ``--max-size``."""
    from dataclasses import replace

    from wherry.core.units import parse_size
    from wherry.store.tree.tar import DEFAULT_LIMITS

    if max_size is None:
        return DEFAULT_LIMITS
    size = parse_size(max_size, where="--max-size")
    return replace(DEFAULT_LIMITS, total_bytes=size, file_bytes=size, hole_bytes=size, ratio=size + 1)


def tell(notes: list[str]) -> None:
    """Tells the person what was left out; the first of many."""
    quiet = settings().quiet
    alike = [text for text in notes if text.startswith(_ALIKE)]
    for text in dict.fromkeys(text for text in notes if not text.startswith(_ALIKE)):
        note(text, quiet=quiet)
    for text in alike[:_MAX_NOTES]:
        note(text, quiet=quiet)
    if len(alike) > _MAX_NOTES:
        note(f"... and {len(alike) - _MAX_NOTES} more of the kind", quiet=quiet)
