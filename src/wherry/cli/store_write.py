"""``wherry store init`` and ``reset``."""

from __future__ import annotations

import click

from wherry.cli.context import settings
from wherry.cli.output import note
from wherry.cli.store import NO_GPG, open_repo, repo_option, repo_place
from wherry.core.errors import NotFound, Unsupported

_MODES = ("bare", "bare-user", "bare-user-only", "bare-split-xattrs", "archive", "archive-z2")


@click.command(
    epilog="""\b
Examples:
  wherry store init --repo=repo --mode=archive
  wherry store init --repo=repo --mode=bare-user --collection-id=org.example.Os"""
)
@repo_option
@click.argument("ignored", nargs=-1, metavar="")
@click.option("--mode", type=click.Choice(_MODES), default="bare", show_default=True, help="How files are kept.")
@click.option("--collection-id", metavar="ID", default="", help="Name of this repository among others.")
def init(repo_path: str | None, ignored: tuple[str, ...], mode: str, collection_id: str) -> None:
    """Make a repository; nothing happens when there is one of this mode.

    bare keeps owners on the files and needs root; bare-user keeps them in an attribute; bare-user-only does not keep
    them; archive keeps files compressed, to be served over HTTP.
    """
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    if ignored:
        note(f"ignored: {' '.join(ignored)}", quiet=settings().quiet)
    path = repo_place(repo_path, new=True)
    Repository.init(path, Mode("archive" if mode == "archive-z2" else mode), collection_id=collection_id)


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


@click.command(
    "gpg-sign",
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExample, and what there is instead:\n  wherry store gpg-sign --repo=repo COMMIT KEY-ID\n"
    "  wherry store sign --repo=repo --keys-file=key COMMIT",
)
@repo_option
@click.argument("words", nargs=-1, metavar="COMMIT KEY-ID...")
def gpg_sign(repo_path: str | None, words: tuple[str, ...]) -> None:
    """Refused: Wherry has no GPG. `wherry store sign` signs with Ed25519."""
    raise Unsupported("gpg-sign is not supported", hint=NO_GPG)
