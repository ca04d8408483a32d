"""``wherry store checkout``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    pass


@click.command(
    epilog="""\b
Examples:
  wherry store checkout --repo=repo -U os/main rootfs
  wherry store checkout --repo=repo --subpath=/etc os/main etc"""
)
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.argument("destination", required=False, type=click.Path(path_type=Path))
@click.option("-U", "--user-mode", is_flag=True, help="Do not set owners and attributes; needs no root.")
@click.option("--subpath", default="/", metavar="PATH", help="Only this file or directory of the commit.")
@click.option("--union", "union", flag_value="union", help="Keep directories, overwrite files.")
@click.option("--union-add", "union", flag_value="union-add", help="Keep what is there, only add.")
@click.option("--union-identical", "union", flag_value="union-identical", help="A file that is there must be the same.")
@click.option("--allow-noent", is_flag=True, help="Do nothing when the subpath is not there.")
@click.option("-H", "--require-hardlinks", is_flag=True, help="Fail where a file cannot be hard-linked.")
@click.option("-C", "--force-copy", is_flag=True, help="Never hard-link.")
@click.option("--fsync", type=click.BOOL, default=False, metavar="BOOL", help="Have it on the disk at the end.")
def checkout(
    repo_path: str | None, rev: str, destination: Path | None, union: str | None, allow_noent: bool, **options: Any
) -> None:
    """Lay a commit out as a directory, by hard links where owners and modes allow."""
    from wherry.store.checkout import Union
    from wherry.store.checkout import checkout as lay_out
    from wherry.store.walk import lookup

    repo = open_repo(repo_path)
    found = repo.resolve(rev)
    if allow_noent:
        try:
            lookup(repo, found, options["subpath"])
        except NotFound:
            return
    lay_out(
        repo,
        found,
        destination or Path(found),
        user_mode=options["user_mode"],
        subpath=options["subpath"],
        union=Union(union or "none"),
        force_copy=options["force_copy"],
        require_hardlinks=options["require_hardlinks"],
        durable=options["fsync"],
    )
