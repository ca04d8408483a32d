"""``wherry builder``: what builds keep; docker's words."""

from __future__ import annotations

import click

from wherry.cli.container_run import open_engine
from wherry.cli.context import settings


@click.group(epilog="\b\nExamples:\n  wherry builder prune -f")
def builder() -> None:
    """What builds keep."""


@builder.command(epilog="\b\nExamples:\n  wherry builder prune\n  wherry builder prune -f --json")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(force: bool, as_json: bool) -> None:
    """Forget what RUN steps came to, and remove cache mounts (RUN --mount=type=cache)."""
    from wherry.cli.system import confirm, print_removed
    from wherry.engine.build import keeping

    confirm("This removes all of the build cache.", force=force)
    done = keeping.prune(open_engine(settings(), with_store=True))
    print_removed({"build steps": done}, as_json=as_json)
