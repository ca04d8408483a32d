"""``wherry key``: the keys that revisions are signed with. No secret is taken from or written to the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wherry.trust.keys import PublicKey

_GENERATE_EPILOG = """\b
Examples:
  wherry key generate owner.key
  wherry device enroll --hub https://hub.example --trust owner.key.pub"""


@click.group(epilog=_GENERATE_EPILOG)
def key() -> None:
    """Keys that revisions are signed with (Ed25519)."""


@key.command(epilog=_GENERATE_EPILOG)
@click.argument("file", type=click.Path(path_type=Path), default="wherry.key")
def generate(file: Path) -> None:
    """Make a key: FILE, readable by you alone, and FILE.pub, which devices trust.

    FILE is wherry.key when it is not given. An existing file is never written over. The public key is printed.
    """
    import os

    from wherry.core.errors import Conflict, NotFound
    from wherry.trust.keys import PrivateKey

    public_file = file.with_name(f"{file.name}.pub")
    if not file.absolute().parent.is_dir():
        raise NotFound("no such folder", where=file.absolute().parent)
    if os.path.lexists(public_file):
        raise Conflict("will not write over an existing file", where=public_file, hint="name another file")
    made = PrivateKey.generate()
    made.save(file)
    made.public.save(public_file)
    click.echo(made.public.base64)


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Show the id and the public half of a private or public key file."""
    from wherry.cli.output import print_json

    kind, found = _read(file)
    if as_json:
        print_json({"kind": kind, "type": "ed25519", "id": found.key_id, "public": found.base64})
        return
    click.echo(f"kind    {kind}\ntype    ed25519\nid      {found.key_id}\npublic  {found.base64}")


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
def public(file: Path) -> None:
    """Print the public half of a key file: one line, as devices and ostree take it."""
    click.echo(_read(file)[1].base64)


def _read(file: Path) -> tuple[str, PublicKey]:
    from wherry.trust.keys import PrivateKey, is_private, load_public

    if is_private(file):
        return "private", PrivateKey.load(file).public
    return "public", load_public(file)
