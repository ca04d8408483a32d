"""``wherry store refs`` and ``rev-parse``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wherry.cli.output import print_json
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import Conflict, NotFound, UsageError

if TYPE_CHECKING:
    from wherry.core.digest import Ref
    from wherry.store.repository import Repository


@click.command(
    epilog="""\b
Examples:
  wherry store refs --repo=repo
  wherry store refs --repo=repo --create=os/stable os/main
  wherry store refs --repo=repo --alias --create=os/stable os/2.1
  wherry store refs --repo=repo --delete os/old"""
)
@repo_option
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option("--delete", is_flag=True, help="Delete the refs that are PREFIX or below it.")
@click.option("--list", "whole", is_flag=True, help="Do not cut the prefix off the names.")
@click.option("-r", "--revision", is_flag=True, help="Show the commits too.")
@click.option("-A", "--alias", is_flag=True, help="With --create: make another name for a ref; else list such names.")
@click.option("--create", metavar="NEWREF", help="Make a ref for the commit that PREFIX names.")
@click.option("-c", "--collections", is_flag=True, help="The refs of collections; PREFIX is a collection's ID.")
@click.option("--force", is_flag=True, help="With --create: replace one that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: ref and commit.")
def refs(
    repo_path: str | None,
    prefixes: tuple[str, ...],
    delete: bool,
    whole: bool,
    revision: bool,
    alias: bool,
    create: str | None,
    collections: bool,
    force: bool,
    as_json: bool,
) -> None:
    """List, make and delete refs."""
    if create is not None and len(prefixes) != 1:
        raise UsageError("--create needs one commit or ref", hint="wherry store refs --create=NEWREF COMMIT")
    if delete and not prefixes:
        raise UsageError("--delete needs a ref or a prefix")
    repo = open_repo(repo_path)
    if create is not None:
        if collections:
            _create_in_collection(repo, create, prefixes[0], force=force)
        else:
            _create(repo, create, prefixes[0], alias=alias, force=force)
    elif delete:
        for prefix in prefixes:
            _delete(repo, prefix, collections=collections)
    elif as_json:
        print_json({str(ref): commit for prefix in prefixes or ("",) for ref, commit in repo.refs(prefix).items()})
    else:
        for prefix in prefixes or ("",):
            _list(repo, prefix, whole=whole, revision=revision, alias=alias, collections=collections)


def _list(repo: Repository, prefix: str, *, whole: bool, revision: bool, alias: bool, collections: bool) -> None:
    from wherry.store.refs import parse_collection

    if alias:
        for ref, target in repo.aliases().items():
            if ref in repo.refs(prefix):
                print(f"{ref} -> {target}")
        return
    if collections:
        if prefix:
            parse_collection(prefix)
        for found, commit in repo.collection_refs(prefix).items():
            print(f"{found}\t{commit}" if revision else found)
        return
    listed = ((str(ref) if whole else _cut(ref, prefix), commit) for ref, commit in _match(repo, prefix))
    for name, its in sorted(listed):
        print(f"{name}\t{its}" if revision else name)


def _match(repo: Repository, prefix: str) -> list[tuple[Ref, str]]:
    from wherry.store.refs import parse_ref

    if prefix and not prefix.endswith((":", ":.")):
        parse_ref(prefix)
    return list(repo.refs(prefix).items())


def _cut(ref: Ref, prefix: str) -> str:
    """Returns a ref without the prefix, but with its remote, as ostree lists it; a ref that is the prefix stays."""
    remote, colon, name = ref.rpartition(":")
    below = prefix.rpartition(":")[2].rstrip("/") + "/"
    return f"{remote}{colon}{name.removeprefix(below)}"


def _create(repo: Repository, create: str, rev: str, *, alias: bool, force: bool) -> None:
    from wherry.core.digest import Ref
    from wherry.store.refs import parse_ref, split_ref

    new = parse_ref(create)
    replaces_alias = alias and new in repo.aliases()
    if new in repo.refs() and not force and not replaces_alias:
        raise Conflict(f"--create specified but ref {new} already exists", hint="--force replaces it")
    if not alias:
        repo.set_ref(new, repo.resolve(rev))
        return
    if split_ref(new)[0] is None and Ref(rev) not in repo.refs():
        raise NotFound(f"Cannot create alias to non-existent ref: {rev}", hint="`wherry store refs` lists the refs")
    repo.set_alias(new, Ref(rev))


def _create_in_collection(repo: Repository, create: str, rev: str, *, force: bool) -> None:
    from wherry.store.refs import parse_collection_ref

    collection, colon, name = create.partition(":")
    if not colon:
        raise UsageError(f"--create is not COLLECTION:REF: {create!r}")
    new = parse_collection_ref(collection, name)
    if new in repo.collection_refs(collection, remotes=False) and not force:
        raise Conflict(f"--create specified but ref {new} already exists", hint="--force replaces it")
    repo.set_collection_ref(new, repo.resolve(rev))


def _delete(repo: Repository, prefix: str, *, collections: bool) -> None:
    from wherry.store.refs import parse_collection

    if collections:
        with repo.transaction() as transaction:
            for found in repo.collection_refs(parse_collection(prefix), remotes=False):
                transaction.set_collection_ref(found, None)
        return
    named = {target: ref for ref, target in repo.aliases().items()}
    doomed = [ref for ref, _ in _match(repo, prefix)]
    for ref in doomed:
        if ref in named and named[ref] not in doomed:
            raise Conflict(f"Ref '{ref}' has an active alias: '{named[ref]}'", hint="delete or move the alias first")
    with repo.transaction() as transaction:
        for ref in doomed:
            transaction.set_ref(ref, None)


@click.command("rev-parse", epilog="\b\nExample:\n  wherry store rev-parse --repo=repo os/main^")
@repo_option
@click.argument("revs", nargs=-1, metavar="REV...")
@click.option("-S", "--single", is_flag=True, help="Print the only commit that there is.")
def rev_parse(repo_path: str | None, revs: tuple[str, ...], single: bool) -> None:
    """Print the commit that a revision names."""
    repo = open_repo(repo_path)
    if single and revs:
        raise UsageError("Cannot specify arguments with --single")
    if not single and not revs:
        raise UsageError("REV must be specified")
    if single:
        found = list(repo.commits())
        if len(found) != 1:
            which = "Multiple commit objects found" if found else "No commit objects found"
            raise Conflict(which, where=repo.path)
        print(found[0])
    for rev in revs:
        print(repo.resolve(rev))
