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
    from wherry.engine.build.mounts import remove_cache_mounts
    from wherry.engine.build.session import sweep
    from wherry.engine.pruning import Removed
    from wherry.store.care.prune import prune as prune_store

    confirm("This removes all of the build cache.", force=force)
    engine = open_engine(settings(), with_store=True)
    repo = engine.repo
    freed = 0
    names: list[str] = []
    if repo is not None:
        from wherry.engine.build.cache import forget_all

        sweep(engine, repo)
        commits = forget_all(repo)
        names = [f"{commit[:12]}" for commit in commits]
        freed = prune_store(repo, delete_commits=commits).freed_bytes
    freed += remove_cache_mounts(settings().root)
    print_removed({"build steps": Removed(names=tuple(names), freed_bytes=freed)}, as_json=as_json)
