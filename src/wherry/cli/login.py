"""``wherry login`` and ``logout``: credentials for registries, kept where docker keeps them."""

from __future__ import annotations

import sys

import click

from wherry.cli.output import note
from wherry.cli.registries import RegistryOptions, registry_options
from wherry.core.errors import NotFound, UsageError

DEFAULT_REGISTRY = "docker.io"
_MAX_PASSWORD_BYTES = 64 * 1024


@click.command(
    epilog="""\b
Examples:
  wherry login registry.example:5000
  echo "$TOKEN" | wherry login -u robot --password-stdin registry.example"""
)
@click.argument("registry", required=False, default=DEFAULT_REGISTRY, metavar="[REGISTRY]")
@click.option("-u", "--username", metavar="NAME", help="Who; asked for when it is not given.")
@click.option("-p", "--password", metavar="WORD", help="Seen by every user of this machine: use --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@registry_options
def login(
    registry: str, username: str | None, password: str | None, password_stdin: bool, registries: RegistryOptions
) -> None:
    """Log in to a registry: check name and password, and keep them.

    They are kept in docker's config.json, or by the credential helper that it names; podman and docker read them, too.
    """
    from wherry.image.registry.client import RegistryClient
    from wherry.image.registry.credentials import Credentials

    if password is not None and password_stdin:
        raise UsageError("--password and --password-stdin exclude each other")
    if password is not None:
        note("a password in the command line is seen by every user of this machine; use --password-stdin")
    if password_stdin:
        if not username:
            raise UsageError("--password-stdin needs --username")
        password = sys.stdin.buffer.read(_MAX_PASSWORD_BYTES).decode().rstrip("\r\n")
    if not (username and password is not None) and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at", hint="give --username and --password-stdin")
    name = _registry(registry)
    username = username or click.prompt("Username", err=True)
    if password is None:
        password = click.prompt("Password", hide_input=True, err=True)
    credentials = Credentials(user=username, password=password)
    client = RegistryClient(registries.hosts().find(name), lambda _repository: credentials)
    try:
        client.check_login()
    finally:
        client.close()
    where = registries.credentials()[0].put(name, credentials)
    click.echo(f"Login succeeded: {username} at {name}, kept in {where}")


@click.command(epilog="\b\nExamples:\n  wherry logout registry.example:5000")
@click.argument("registry", required=False, default=DEFAULT_REGISTRY, metavar="[REGISTRY]")
@registry_options
def logout(registry: str, registries: RegistryOptions) -> None:
    """Forget the credentials of a registry."""
    name = _registry(registry)
    gone = [file.remove(name) for file in registries.credentials()]  # of all files, not only of the first
    if True not in gone:
        raise NotFound(f"not logged in to {name}")
    click.echo(f"Removed the credentials of {name}")


def _registry(text: str) -> str:
    """Returns a registry's name of what a user wrote: docker takes addresses, too."""
    name = text.partition("://")[2] if "://" in text else text
    name = name.partition("/")[0]
    return DEFAULT_REGISTRY if name in ("index.docker.io", "registry-1.docker.io") else name
