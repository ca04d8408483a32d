"""``wherry image tag``, ``untag`` and ``rename``: names of images that are there."""

from __future__ import annotations

from pathlib import Path

import click

from wherry.cli import completing
from wherry.cli.context import settings
from wherry.cli.image_repo import repo_option, require_images
from wherry.cli.output import note
from wherry.core.digest import short


@click.command(
    epilog="""\b
Examples:
  wherry image tag nginx:1.27 registry.example/team/web:1.27
  wherry tag 3f57d9401f8d nginx:stable"""
)
@click.argument("source", metavar="IMAGE", shell_complete=completing.images)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@repo_option
def tag(source: str, names: tuple[str, ...], repo_path: Path | None) -> None:
    """Give an image further names. A name that another image had is moved."""
    from wherry.image.naming import tag as give

    images = require_images(repo_path, source)
    record = images.get(source)  # before the first name moves, which may be this one
    for name in names:
        give(images.repo, record.commit, name)


@click.command(
    epilog="""\b
Examples:
  wherry image untag registry.example/team/web:1.27
  wherry image untag nginx nginx:stable"""
)
@click.argument("image", metavar="IMAGE", shell_complete=completing.images)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@repo_option
def untag(image: str, names: tuple[str, ...], repo_path: Path | None) -> None:
    """Take names away from an image; all of them when none is given.

    Its files stay until `wherry image prune`, and `wherry image tag COMMIT NAME` brings it back until then.
    """
    from wherry.core.errors import NotFound
    from wherry.image.reference import Reference

    images = require_images(repo_path, image)
    record = images.get(image)
    has = images.names_of(record)
    doomed = [Reference.parse(name) for name in names] or list(has)
    for reference in doomed:
        if reference not in has:
            raise NotFound("the image has no such name", where=reference.familiar)
    for reference in doomed:
        images.remove(str(reference))
        click.echo(reference.familiar)
    if set(doomed) >= set(has):
        note(f"commit {short(record.commit)} has no name now", quiet=settings().quiet)


@click.command(
    epilog="""\b
Examples:
  wherry image rename localhost/commit:1 web:2"""
)
@click.argument("source", metavar="IMAGE", shell_complete=completing.images)
@click.argument("name", metavar="NAME")
@click.option("-f", "--force", is_flag=True, help="Take the name from another image that has it.")
@repo_option
def rename(source: str, name: str, force: bool, repo_path: Path | None) -> None:
    """Give an image another name in place of the one that it has."""
    from wherry.image.naming import rename as give

    give(require_images(repo_path, source).repo, source, name, force=force)
