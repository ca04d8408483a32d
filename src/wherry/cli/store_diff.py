"""``wherry store diff``, in ``ostree``'s own format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.store.repository import Repository
    from wherry.store.tree.diff import Tree
    from wherry.store.tree.modifier import Modifier


@click.command(
    epilog="""\b
Examples:
  wherry store diff --repo=repo os/main^ os/main
  wherry store diff --repo=repo os/main ./rootfs
  wherry store diff --repo=repo --stats os/main^ os/main"""
)
@repo_option
@click.argument("revs", nargs=-1, required=True, metavar="REV_OR_DIR [REV_OR_DIR]")
@click.option("--stats", is_flag=True, help="Print how many objects two commits have in common.")
@click.option("--fs-diff", is_flag=True, help="Print the paths that differ (without --stats that is so anyway).")
@click.option("--no-xattrs", is_flag=True, help="Leave out the extended attributes of directories.")
@click.option("--owner-uid", type=int, metavar="UID", help="Owner of the files of directories.")
@click.option("--owner-gid", type=int, metavar="GID", help="Group of the files of directories.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; also when the root's owner or mode changed.")
def diff(
    repo_path: str | None,
    revs: tuple[str, ...],
    stats: bool,
    fs_diff: bool,
    no_xattrs: bool,
    owner_uid: int | None,
    owner_gid: int | None,
    as_json: bool,
) -> None:
    """Compare two commits or directories, or a commit with its parent.

    A directory is named with a slash first or with "./". Prints M, D or A and the path.
    """
    from wherry.store.tree.modifier import Modifier

    if len(revs) > 2:
        raise UsageError("give one or two commits or directories")
    repo = open_repo(repo_path)
    old, new = revs if len(revs) == 2 else (f"{revs[0]}^", revs[0])
    if fs_diff or as_json or not stats:
        modifier = Modifier(
            owner_uid=owner_uid if owner_uid is not None and owner_uid >= 0 else None,
            owner_gid=owner_gid if owner_gid is not None and owner_gid >= 0 else None,
            no_xattrs=no_xattrs or repo.disable_xattrs,
        )
        _print_paths(repo, old, new, modifier, as_json=as_json)
    if stats and not as_json:
        _print_stats(repo, old, new)


def _print_paths(repo: Repository, old: str, new: str, modifier: Modifier, *, as_json: bool) -> None:
    from wherry.store.tree.diff import Kind, diff_trees

    changes = diff_trees(_side(repo, old, modifier), _side(repo, new, modifier))
    if as_json:
        from wherry.cli.output import print_json

        print_json([{"kind": change.kind, "path": f"/{change.path}"} for change in changes])
        return
    letters = {Kind.MODIFIED: "M", Kind.REMOVED: "D", Kind.ADDED: "A"}
    for change in changes:
        if not change.root:
            slash = "" if _is_directory(new if change.kind is Kind.ADDED else old) else "/"
            print(f"{letters[change.kind]}    {slash}{change.path}")


def _is_directory(text: str) -> bool:
    return text.startswith(("/", "./", "../")) or text in (".", "..")


def _side(repo: Repository, text: str, modifier: Modifier) -> Tree:
    from wherry.store.tree.diff import scan_directory, tree_of

    if _is_directory(text):
        return scan_directory(Path(text), modifier)
    return tree_of(repo, repo.resolve(text))


def _print_stats(repo: Repository, old: str, new: str) -> None:
    from wherry.cli.sizes import glib_size
    from wherry.store.format.objects import ObjectType
    from wherry.store.tree.walk import reachable

    before, after = (
        {item for item in reachable(repo, repo.resolve(rev)) if item[0] is not ObjectType.COMMITMETA}
        for rev in (old, new)
    )
    common = before & after
    size = sum(os.lstat(repo.object_path(*item)).st_size for item in common)
    print(f"[A] Object Count: {len(before)}")
    print(f"[B] Object Count: {len(after)}")
    print(f"Common Object Count: {len(common)}")
    print(f"Common Object Size: {glib_size(size)}")
