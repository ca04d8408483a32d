"""``wherry store refs`` and ``rev-parse``."""

from __future__ import annotations

import click

from wherry.cli.output import print_json
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import Conflict, UsageError


@click.command(
    epilog="""\b
Examples:
  wherry store refs --repo=repo
  wherry store refs --repo=repo --create=os/stable os/main
  wherry store refs --repo=repo --delete os/old"""
)
@repo_option
@click.argument("prefix", required=False)
@click.option("--delete", is_flag=True, help="Delete the refs that are PREFIX or below it.")
@click.option("--list", "whole", is_flag=True, help="Do not cut the prefix off the names.")
@click.option("--create", metavar="NEWREF", help="Make a ref for the commit that PREFIX names.")
@click.option("--force", is_flag=True, help="With --create: replace one that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: ref and commit.")
def refs(
    repo_path: str | None, prefix: str | None, delete: bool, whole: bool, create: str | None, force: bool, as_json: bool
) -> None:
    """List, make and delete refs."""
    from wherry.core.digest import Ref
    from wherry.store.refs import parse_ref

    repo = open_repo(repo_path)
    if create:
        if not prefix:
            raise UsageError("--create needs a commit", hint="wherry store refs --create=NEWREF COMMIT")
        new = parse_ref(create)
        if new in repo.refs() and not force:
            raise Conflict("there is such a ref already", where=create, hint="--force replaces it")
        repo.set_ref(new, repo.resolve(prefix))
        return
    found = repo.refs(prefix or "")
    if delete:
        if not prefix:
            raise UsageError("--delete needs a ref or a prefix")
        with repo.transaction() as transaction:
            for ref in found:
                transaction.set_ref(ref, None)
        return
    cut = f"{prefix}/" if prefix and not whole else ""
    if as_json:
        print_json({str(ref): commit for ref, commit in found.items()})
        return
    for ref in found:
        print(Ref(ref.removeprefix(cut)))


@click.command("rev-parse", epilog="\b\nExample:\n  wherry store rev-parse --repo=repo os/main^")
@repo_option
@click.argument("revs", nargs=-1, metavar="REV...")
@click.option("-S", "--single", is_flag=True, help="Print the only commit that there is.")
def rev_parse(repo_path: str | None, revs: tuple[str, ...], single: bool) -> None:
    """Print the commit that a revision names."""
    repo = open_repo(repo_path)
    if single == bool(revs):
        raise UsageError("give a revision, or --single")
    if single:
        found = repo.commits()
        if len(found) != 1:
            raise Conflict(f"there are {len(found)} commits, not one", where=repo.path)
        print(found[0])
    for rev in revs:
        print(repo.resolve(rev))
