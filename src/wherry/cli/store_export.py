"""``wherry store export``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from wherry.cli.context import settings
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  wherry store export --repo=repo os/main -o os.tar
  wherry store export --repo=repo --subpath=/usr --prefix=usr/ os/main | tar -tv"""
)
@repo_option
@click.argument("rev", metavar="COMMIT")
@click.option("--no-xattrs", is_flag=True, help="Leave extended attributes out.")
@click.option("--subpath", metavar="PATH", default="/", help="Only this directory of the commit, as the root.")
@click.option("--prefix", metavar="PATH", default="", help='Put this in front of every path ("usr/").')
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to a file.")
def export(repo_path: str | None, rev: str, no_xattrs: bool, subpath: str, prefix: str, output: Path | None) -> None:
    """Write a commit as a tar archive, to standard output unless a file is named.

    Entries have the commit's time, so the same commit gives the same archive.
    """
    from wherry.core.durable import map_os_error
    from wherry.store.tree.export import export as write

    repo = open_repo(repo_path)
    commit = repo.resolve(rev)
    if output is None:
        if sys.stdout.isatty():
            raise UsageError("an archive is not for a terminal", hint="give -o FILE, or redirect it")
        write(repo, commit, sys.stdout.buffer, subpath=subpath, prefix=prefix, no_xattrs=no_xattrs)
        sys.stdout.buffer.flush()
        return
    try:
        with open(output, "wb") as file:
            regular = os.fstat(file.fileno())
            try:
                write(
                    repo, commit, file, subpath=subpath, prefix=prefix, no_xattrs=no_xattrs,
                    progress=settings().progress(),
                )  # fmt: skip
            except BaseException:
                if regular.st_nlink == 1 and output.is_file():
                    output.unlink()  # half an archive is worse than none
                raise
    except OSError as error:
        raise map_os_error(error, "cannot write the archive", where=output) from error
