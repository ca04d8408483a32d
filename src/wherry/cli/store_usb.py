"""``wherry store create-usb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.store.refs import CollectionRef


def collection_refs(words: tuple[str, ...]) -> list[CollectionRef]:
    """Returns the pairs of collection and ref that stand on the command line.

    Raises:
        UsageError: a half is missing.
        InvalidInput: one is no such name.
    """
    from wherry.store.refs import CollectionRef, parse_collection, parse_ref

    if not words:
        raise UsageError("At least one COLLECTION-ID REF pair must be specified")
    if len(words) % 2:
        raise UsageError("Only complete COLLECTION-ID REF pairs may be specified")
    found = []
    for collection, name in zip(words[::2], words[1::2], strict=True):
        parse_collection(collection)
        parse_ref(name)
        found.append(CollectionRef(collection, name))
    return found


@click.command(
    "create-usb",
    epilog="""\b
Examples:
  wherry store create-usb --repo=repo /run/media/me/stick org.example.Os os/main
  wherry store create-usb --repo=repo --destination-repo=os /mnt org.example.Os os/main""",
)
@repo_option
@click.argument("mount", metavar="MOUNT-PATH", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="COLLECTION-ID REF [COLLECTION-ID REF...]")
@click.option("--disable-fsync", is_flag=True, help="Do not wait until all is on the medium.")
@click.option("--destination-repo", metavar="DEST", help="Path of the repository on the medium (.ostree/repo).")
@click.option("--commit", metavar="COMMIT", help="Copy this commit; for a single ref only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create_usb(
    repo_path: str | None,
    mount: Path,
    words: tuple[str, ...],
    disable_fsync: bool,
    destination_repo: str | None,
    commit: str | None,
    as_json: bool,
) -> None:
    """Copy the refs to a USB stick, or any folder, where `find-remotes` finds them."""
    from wherry.store.pull.usb import DEFAULT_PLACE, copy_to_media

    refs = collection_refs(words)
    if commit and len(refs) > 1:
        raise UsageError("The --commit option can only be used when a single COLLECTION-ID REF pair is specified")
    repo = open_repo(repo_path)
    place = destination_repo or DEFAULT_PLACE
    copied = copy_to_media(
        repo,
        mount,
        refs,
        place=place,
        commit=repo.resolve(commit) if commit else None,
        durable=not disable_fsync,
        progress=settings().progress(),
    )
    if as_json:
        from wherry.cli.output import print_json

        print_json(
            [{"collection": ref.collection, "ref": ref.name, "commit": found} for ref, found in copied.commits.items()]
        )
        return
    count = len(refs)
    print(
        f"Copied {count}/{count} refs successfully from ‘{repo.path.absolute()}’ to ‘{place}’ repository in ‘{mount}’."
    )
