"""``wherry store sign``, and what other commands need of signatures: engines, keys from the command line and files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry.cli.store import open_repo, repo_option
from wherry.core.errors import TrustError, UsageError, WherryError

if TYPE_CHECKING:
    from wherry.core.digest import Checksum
    from wherry.store.repository import Repository
    from wherry.store.sign import Engine

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_TYPE = "ed25519"
NO_SIGNATURES = "No valid signatures found"


def allow_dummy() -> bool:
    """Tells whether the dummy engine may sign and verify: only for tests, which say so in the environment."""
    return "OSTREE_DUMMY_SIGN_ENABLED" in os.environ


def key_options(function: F) -> F:
    """Adds ``--keys-file`` and ``--keys-dir``."""
    function = click.option(
        "--keys-dir",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Instead of the system's folders with trusted.ed25519.d and revoked.ed25519.d.",
    )(function)
    return click.option(
        "--keys-file", type=click.Path(path_type=Path), metavar="FILE", help="Keys in base64, one a line."
    )(function)


def signer(name: str) -> Engine:
    """Returns an engine to sign with."""
    from wherry.store.sign import engine

    return engine(name, allow_dummy=allow_dummy())


def signing(name: str, keys: tuple[str, ...], keys_file: Path | None) -> tuple[Engine, tuple[str, ...]] | None:
    """Returns an engine with the secret keys to sign with; None when there are none.

    Raises:
        InvalidInput: one of them is none: that is told before the work, not after it.
    """
    if not keys and keys_file is None:
        return None
    from wherry.store.sign import read_secrets

    engine = signer(name)
    secrets = (*keys, *(read_secrets(keys_file) if keys_file is not None else ()))
    for secret in secrets:
        engine.sign(b"", secret)
    return engine, secrets


def verifier(name: str, keys: tuple[str, ...], keys_file: Path | None, keys_dir: Path | None) -> Engine:
    """Returns an engine with public keys to verify with."""
    from wherry.store.sign import load_verifier

    return load_verifier(name, keys=keys, file=keys_file, keys_dir=keys_dir, allow_dummy=allow_dummy())


@click.command(
    epilog="""\b
Examples:
  wherry store sign --repo=repo --keys-file=secret.key os/main
  wherry store sign --repo=repo --verify --keys-file=public.keys os/main
  wherry store sign --repo=repo --verify os/main
  wherry store sign --repo=repo --delete os/main PUBLIC-KEY

A secret key on the command line is seen by everyone who may run ps: use --keys-file."""
)
@repo_option
@click.option("-d", "--delete", is_flag=True, help="Remove the signatures by these public keys.")
@click.option("--verify", is_flag=True, help="Verify signatures by these public keys; without any: by the system's.")
@click.option("-s", "--sign-type", default=DEFAULT_TYPE, metavar="NAME", help="How to sign (ed25519).")
@key_options
@click.argument("rev", metavar="COMMIT", required=False)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
def sign(
    repo_path: str | None,
    delete: bool,
    verify: bool,
    sign_type: str,
    keys_file: Path | None,
    keys_dir: Path | None,
    rev: str | None,
    keys: tuple[str, ...],
) -> None:
    """Sign a commit, or verify its signatures."""
    if rev is None:
        raise UsageError("Need a COMMIT to sign or verify")
    if verify and delete:
        raise UsageError("--verify and --delete exclude each other")
    if not verify and keys_file is None and not keys:
        raise UsageError("Need at least one KEY-ID to sign with", hint="give --keys-file=FILE")
    repo = open_repo(repo_path)
    commit = repo.resolve(rev)
    if verify:
        print(_verify(repo, commit, sign_type, keys, keys_file, keys_dir))
    elif delete:
        from wherry.store.sign import remove_signatures

        count = remove_signatures(repo, commit, verifier(sign_type, keys, keys_file, keys_dir))
        print(f"Signatures deleted: {count}")
    else:
        from wherry.store.sign import read_secrets, sign_commit

        engine = signer(sign_type)
        for secret in (*keys, *(read_secrets(keys_file) if keys_file is not None else ())):
            sign_commit(repo, commit, engine, secret)


def _verify(
    repo: Repository,
    commit: Checksum,
    name: str,
    keys: tuple[str, ...],
    keys_file: Path | None,
    keys_dir: Path | None,
) -> str:
    """Returns what to say about a good signature: by one of the keys given, else of the file's or the system's.

    As in ostree a key that is none, or does not verify, does not hinder another that does.
    """
    from wherry.store.sign import verify_commit

    for key in keys:
        engine = signer(name)
        try:
            engine.add_public(key)
            return verify_commit(repo, commit, engine)
        except WherryError:
            continue
    if keys and keys_file is None:
        raise TrustError(NO_SIGNATURES, where=commit)
    return verify_commit(repo, commit, verifier(name, (), keys_file, keys_dir))
