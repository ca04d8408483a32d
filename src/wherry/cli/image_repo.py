"""Which repository ``wherry image`` works on: this machine's store, or the one that ``--repo`` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.image.catalog import Images
    from wherry.store.repository import Repository

repo_option = click.option(
    "--repo", "repo_path", type=click.Path(path_type=Path), metavar="DIR", help="Another repository than ROOT/store."
)


def open_images(repo_path: Path | None) -> Images | None:
    """Returns the images of a repository; None: of this machine's store, which is not there yet.

    Raises:
        NotFound: there is no repository `repo_path`.
    """
    from wherry.image.catalog import Images
    from wherry.store.repository import Repository

    if repo_path is None:
        settings().enter_home()
    try:
        return Images(Repository.open(repo_path or settings().root / "store"))
    except NotFound:
        if repo_path is None:
            return None
        raise


def require_images(repo_path: Path | None, name: str) -> Images:
    """Returns the images of a repository; without a repository there is no image `name` either.

    Raises:
        NotFound: there is none.
    """
    found = open_images(repo_path)
    if found is None:
        raise NotFound(f"no such image: {name}", hint="there is no store yet; `wherry image import` makes it")
    return found


def open_or_make_store(repo_path: Path | None) -> Repository:
    """Returns the repository that images go into; this machine's store is made when it is not there."""
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    if repo_path is not None:
        return Repository.open(repo_path)
    settings().enter_home()
    return Repository.init(settings().root / "store", Mode.BARE_USER)


def users(repo: Repository) -> dict[Checksum, list[str]]:
    """Returns the commits that something on this machine stands on, and what that is."""
    from wherry.engine.engine import Engine
    from wherry.engine.imageuse import users_of

    return users_of(Engine(settings().root, settings().run_root, None), repo)
