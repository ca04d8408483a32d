"""``wherry image rm`` (``wherry rmi``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli import completing
from wherry.cli.image_repo import repo_option, require_images, users
from wherry.cli.output import note
from wherry.core.errors import Conflict, WherryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.core.digest import Checksum


@click.command("rm", epilog="\b\nExamples:\n  wherry image rm nginx:1.27\n  wherry image rm 3f57d9401f8d")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completing.images)
@click.option("-f", "--force", is_flag=True, help="Also when something stands on it; its files stay.")
@repo_option
def rm(names: tuple[str, ...], force: bool, repo_path: Path | None) -> None:
    """Remove images: their names, and the files that nothing else in the store needs.

    In another repository (--repo) the names alone go: revisions may need the files. `wherry store prune` frees them.
    """
    failures = remove(names, repo_path, force=force)
    for failure in failures[:-1]:
        note(f"wherry: {failure}")
    if failures:
        raise failures[-1]


def remove(
    names: Sequence[str],
    repo_path: Path | None = None,
    *,
    force: bool = False,
    tell: Callable[[str], None] = click.echo,
) -> list[WherryError]:
    """Removes images, as ``wherry image rm`` does.

    Args:
        names: or unique beginnings of identifiers.
        repo_path: None: of this machine.
        force: also when something stands on one.
        tell: told of each name that is gone.

    Returns:
        What kept some from going.
    """
    from wherry.image.indexrefs import beside_refs

    catalogue = require_images(repo_path, names[0])
    used = users(catalogue.repo) if repo_path is None else {}
    gone: set[Checksum] = set()
    failures: list[WherryError] = []
    for name in names:
        try:
            record = catalogue.get(name)
            same = {item.commit for item in catalogue.list() if catalogue.same(item, record)} | {record.commit}
            names_of_it = catalogue.names_of(record)
            one_of_several = catalogue.is_name(name) and len(names_of_it) > 1
            below = [record.reference] if one_of_several else names_of_it
            beside = {commit for item in below for commit in beside_refs(catalogue.repo, item).values()}
            doomed = beside | ({record.commit} if one_of_several else same)
            standing = [text for commit in sorted(doomed) for text in used.get(commit, ())]
            if standing and not force and not one_of_several:
                raise Conflict("; ".join(standing), where=name, hint="end that first, or use --force")
            for reference in catalogue.remove(name):
                tell(reference.familiar)
            gone |= doomed
        except WherryError as error:
            failures.append(error)
    if repo_path is None:
        from wherry.engine.imageuse import free

        free(catalogue.repo, gone, used)
    return failures
