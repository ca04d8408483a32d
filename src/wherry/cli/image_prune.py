"""``wherry image prune``; docker's words and flags."""

from __future__ import annotations

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings


@click.command(
    epilog="""\b
Examples:
  wherry image prune
  wherry image prune -af --filter until=240h"""
)
@click.option("-a", "--all", "everything", is_flag=True, help="All that no container is made from, with a name or not.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=TIME, label=KEY[=VALUE].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(everything: bool, force: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """Remove files that no image needs; with --all, images that no container is made from."""
    from wherry.cli.system import confirm, print_removed
    from wherry.engine import pruning

    wanted = pruning.Filters.parse(filters)
    goes = "images that no container is made from" if everything else "images without a name"
    confirm(f"This removes all {goes}.", force=force)
    engine = open_engine(settings(), with_store=True)
    print_removed({"images": pruning.prune_images(engine, wanted, everything=everything)}, as_json=as_json)
