"""``wherry store log`` and ``show``, in ``ostree``'s own formats."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.output import print_json
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import NotFound

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.objects import Commit
    from wherry.store.repository import Repository


def _print_commit(repo: Repository, checksum: Checksum, commit: Commit) -> None:
    """Prints a commit as ``ostree show`` does."""
    print(f"commit {checksum}")
    if commit.parent:
        print(f"Parent:  {commit.parent}")
    print(f"ContentChecksum:  {_content_checksum(commit)}")
    print(f"Date:  {_date(commit.timestamp_s)}")
    version = commit.metadata.get("version")
    if isinstance(version, str):
        print(f"Version: {version}")
    end = commit.metadata.get("ostree.endoflife")
    if isinstance(end, str):
        print(f"End-of-life: {end}")
    if repo.is_partial(checksum):
        print("Partial: not all of its objects are here")
    if commit.subject:
        print()
        print("\n".join(f"    {line}" for line in commit.subject.splitlines()))
    else:
        print("(no subject)")
    if commit.body:
        print()
        print("\n".join(f"    {line}" for line in commit.body.splitlines()))
    print()


def _content_checksum(commit: Commit) -> str:
    return hashlib.sha256(bytes.fromhex(commit.tree) + bytes.fromhex(commit.meta)).hexdigest()


def _date(time_s: int) -> str:
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")
    except (ValueError, OverflowError, OSError):
        return f"@{time_s}"


def _print_raw(repo: Repository, checksum: Checksum) -> None:
    """Prints a metadata object as text, with its integers swapped, as OSTree does."""
    from wherry.store import objects, variant
    from wherry.store.objects import ObjectType
    from wherry.store.vtext import byteswapped, to_text

    types = {
        ObjectType.COMMIT: objects.COMMIT_TYPE,
        ObjectType.DIRTREE: objects.DIRTREE_TYPE,
        ObjectType.DIRMETA: objects.DIRMETA_TYPE,
    }
    for kind, type_ in types.items():
        if repo.has(kind, checksum):
            value = variant.decode(type_, repo.metadata_bytes(kind, checksum), where=checksum)
            print(f"{kind.extension} {checksum}")
            print(to_text(type_, byteswapped(type_, value)))
            return
    raise NotFound("no such commit, dirtree or dirmeta", where=checksum)


def _commit_json(checksum: Checksum, commit: Commit) -> dict[str, Any]:
    from wherry.store.variant import from_plain
    from wherry.store.vtext import variant_text

    return {
        "commit": checksum,
        "parent": commit.parent,
        "content_checksum": _content_checksum(commit),
        "timestamp_s": commit.timestamp_s,
        "subject": commit.subject,
        "body": commit.body,
        "metadata": {key: variant_text(from_plain(value)) for key, value in commit.metadata.items()},
    }


@click.command(epilog="\b\nExample:\n  wherry store log --repo=repo os/main")
@repo_option
@click.argument("rev")
@click.option("--raw", is_flag=True, help="Print the commits as GVariant text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def log(repo_path: str | None, rev: str, raw: bool, as_json: bool) -> None:
    """Show a commit and its parents, the newest first."""
    from wherry.store.objects import ObjectType

    repo = open_repo(repo_path)
    current: Checksum | None = repo.resolve(rev)
    listed = []
    while current is not None:
        commit = repo.load_commit(current)
        if as_json:
            listed.append(_commit_json(current, commit))
        elif raw:
            _print_raw(repo, current)
        else:
            _print_commit(repo, current, commit)
        current = commit.parent
        if current is not None and not repo.has(ObjectType.COMMIT, current):
            if not as_json:
                print("<< History beyond this commit not fetched >>")
            break
    if as_json:
        print_json(listed)


@click.command(
    epilog="""\b
Examples:
  wherry store show --repo=repo os/main
  wherry store show --repo=repo --print-metadata-key=version os/main"""
)
@repo_option
@click.argument("name", metavar="OBJECT")
@click.option("--raw", is_flag=True, help="Print it as GVariant text.")
@click.option("--print-metadata-key", metavar="KEY", help="Print one value of the commit's metadata.")
@click.option("--print-detached-metadata-key", metavar="KEY", help="Print one value of its detached metadata.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    repo_path: str | None,
    name: str,
    raw: bool,
    print_metadata_key: str | None,
    print_detached_metadata_key: str | None,
    as_json: bool,
) -> None:
    """Show one commit, or by its checksum another metadata object."""
    from wherry.store.objects import ObjectType
    from wherry.store.variant import from_plain
    from wherry.store.vtext import variant_text

    repo = open_repo(repo_path)
    checksum = repo.resolve(name)
    key = print_metadata_key or print_detached_metadata_key
    if key is not None:
        values = repo.load_commit(checksum).metadata if print_metadata_key else repo.read_detached(checksum)
        if key not in values:
            raise NotFound(f"no such metadata key: {key}", where=checksum)
        print(variant_text(from_plain(values[key])))
    elif as_json:
        print_json(_commit_json(checksum, repo.load_commit(checksum)))
    elif not repo.has(ObjectType.COMMIT, checksum) or raw:
        _print_raw(repo, checksum)
    else:
        _print_commit(repo, checksum, repo.load_commit(checksum))
