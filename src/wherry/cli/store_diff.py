"""``wherry store diff``, in ``ostree``'s own format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.output import print_json
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.store.diff import Tree
    from wherry.store.modifier import Modifier
    from wherry.store.repository import Repository


@click.command(
    epilog="""\b
Examples:
  wherry store diff --repo=repo os/main^ os/main
  wherry store diff --repo=repo os/main ./rootfs"""
)
@repo_option
@click.argument("revs", nargs=-1, required=True, metavar="REV_OR_DIR [REV_OR_DIR]")
@click.option("--owner-uid", type=int, help="Owner of the files of directories.")
@click.option("--owner-gid", type=int, help="Group of the files of directories.")
@click.option("--no-xattrs", is_flag=True, help="Leave out the extended attributes of directories.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(
    repo_path: str | None,
    revs: tuple[str, ...],
    owner_uid: int | None,
    owner_gid: int | None,
    no_xattrs: bool,
    as_json: bool,
) -> None:
    """Compare two commits or directories, or a commit with its parent.

    A directory is named with a slash first or with "./". Prints M, D or A and the path.
    """
    from wherry.store.diff import Kind, diff_trees
    from wherry.store.modifier import Modifier

    if len(revs) > 2:
        raise UsageError("give one or two commits or directories")
    repo = open_repo(repo_path)
    if len(revs) == 1:
        revs = (f"{revs[0]}^", revs[0])
    modifier = Modifier(owner_uid=owner_uid, owner_gid=owner_gid, no_xattrs=no_xattrs)
    changes = diff_trees(_side(repo, revs[0], modifier), _side(repo, revs[1], modifier))
    if as_json:
        print_json([{"kind": change.kind, "path": f"/{change.path}"} for change in changes])
        return
    letters = {Kind.MODIFIED: "M", Kind.REMOVED: "D", Kind.ADDED: "A"}
    for change in changes:
        print(f"{letters[change.kind]}    /{change.path}")


def _side(repo: Repository, text: str, modifier: Modifier) -> Tree:
    from wherry.store.diff import scan_directory, tree_of

    if text.startswith(("/", "./", "../")) or text in (".", ".."):
        return scan_directory(Path(text), modifier)
    return tree_of(repo, repo.resolve(text))
