"""``wherry store init`` and ``reset``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.cli.store import open_repo, repo_option, repo_place
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    pass

_MODES = ("bare", "bare-user", "bare-user-only", "archive", "archive-z2")


@click.command(epilog="\b\nExample:\n  wherry store init --repo=repo --mode=archive")
@repo_option
@click.option("--mode", type=click.Choice(_MODES), default="bare", show_default=True, help="How files are kept.")
@click.option("--collection-id", metavar="ID", default="", help="Name of this repository among others.")
def init(repo_path: str | None, mode: str, collection_id: str) -> None:
    """Make a repository.

    bare keeps owners on the files and needs root; bare-user keeps them in an attribute; archive keeps files
    compressed, to be served over HTTP.
    """
    from wherry.store.objects import Mode
    from wherry.store.repository import Repository

    Repository.init(
        repo_place(repo_path, new=True), Mode("archive" if mode == "archive-z2" else mode), collection_id=collection_id
    )


@click.command(epilog="\b\nExample:\n  wherry store reset --repo=repo os/main os/main^")
@repo_option
@click.argument("ref")
@click.argument("commit", metavar="COMMIT")
def reset(repo_path: str | None, ref: str, commit: str) -> None:
    """Move a ref to another commit, whether or not that is one of its parents."""
    from wherry.core.digest import Ref

    repo = open_repo(repo_path)
    if ref not in repo.refs():
        raise NotFound(f"Invalid ref '{ref}'", where=repo.path, hint="`wherry store refs` lists the refs")
    repo.set_ref(Ref(ref), repo.resolve(commit))
