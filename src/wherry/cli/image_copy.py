"""``wherry image copy``: images between registries, layouts and archives, past the store."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from wherry.cli.context import settings
from wherry.cli.output import print_json
from wherry.cli.registries import RegistryOptions, registry_options
from wherry.core.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  wherry image copy docker://nginx:1.27 docker://registry.example/nginx:1.27
  wherry image copy --all-platforms docker://registry.example/app:1 oci:mirror:1
  wherry image copy oci-archive:app.tar docker://registry.example/app:1"""
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--platform", metavar="OS/ARCH", help="Which one, where there are several; by default this machine's.")
@click.option("-a", "--all", "--all-platforms", "all_platforms", is_flag=True, help="All of them, and their index.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_options
def copy(
    source: str,
    target: str,
    platform: str | None,
    all_platforms: bool,
    as_json: bool,
    registries: RegistryOptions,
) -> None:
    """Copy an image from one place to another, byte for byte: its digest stays. The store is not used.

    A place is docker://NAME (a registry), oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME].
    """
    from wherry.image.platforms import Platform
    from wherry.image.registry.copying import copy as copy_image
    from wherry.image.registry.places import parse_place

    if platform and all_platforms:
        raise UsageError("--platform and --all-platforms exclude each other")
    origin, goal = parse_place(source, is_source=True), parse_place(target, is_source=False)
    digest = copy_image(
        origin,
        goal,
        registries.clients,
        scratch=Path(tempfile.gettempdir()),
        platform=Platform.parse(platform) if platform else None,
        all_platforms=all_platforms,
        progress=settings().progress(),
    )
    if as_json:
        print_json({"source": source, "target": target, "digest": digest})
    else:
        click.echo(f"Copied {source} to {target}")
        click.echo(f"Digest: {digest}")
