"""``wherry image serve``: a registry over the store."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from wherry.cli.context import settings
from wherry.cli.image_repo import open_or_make_store, repo_option
from wherry.cli.output import note
from wherry.core.errors import Unsupported, UsageError

_LOCAL = ("127.", "::1")


@click.command(
    epilog="""\b
Examples:
  wherry image serve
  wherry image serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem
  wherry image serve --push --htpasswd users --delete
  podman pull --tls-verify=false localhost:5000/debian:12"""
)
@click.option("--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT", help="Where.")
@click.option("--push/--read-only", "push", default=False, help="Whether images can be pushed; by default read-only.")
@click.option("--delete", is_flag=True, help="What was pushed can be removed, too.")
@click.option(
    "--htpasswd",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who can log in: NAME:HASH lines, of `htpasswd -B`.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A token that is as good as a login.",
)
@click.option("--login-to-read", is_flag=True, help="Reading needs a login, too.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Its key.")
@click.option("--ready-file", type=click.Path(path_type=Path), metavar="FILE", help="Gets the URL once it answers.")
@click.option("--access-log", is_flag=True, help="Tell each request on standard error.")
@repo_option
def serve(
    listen: str,
    push: bool,
    delete: bool,
    htpasswd: Path | None,
    token_file: Path | None,
    login_to_read: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    ready_file: Path | None,
    access_log: bool,
    repo_path: Path | None,
) -> None:
    """Serve the images in the store as a registry, until a signal ends it.

    `podman pull`, `skopeo copy`, docker, a `docker-registry` that proxies, and `wherry image pull` work from it. It is
    read-only unless --push says otherwise, which needs accounts. What is pushed is called localhost/... in the store.
    """
    from wherry.core.listening import parse_listen

    try:
        from wherry.image.serving.access import Accounts, Door
        from wherry.image.serving.registry import Registry
        from wherry.image.serving.server import ServeOptions, Server, give_up_rights
    except ModuleNotFoundError as error:
        raise Unsupported(f"serving needs a package: {error.name}", hint="pip install 'wherry[images]'") from error

    host, port = parse_listen(listen)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    if delete and not push:
        raise UsageError("--delete needs --push")
    accounts = Accounts.load(htpasswd=htpasswd, token_file=token_file)
    if (push or login_to_read) and not accounts:
        raise UsageError("this needs accounts", hint="give --htpasswd or --token-file")
    repo = open_or_make_store(repo_path)

    def report(text: str) -> None:
        note(f"wherry: {text}")

    registry = Registry(repo, Door(accounts, read_needs_login=login_to_read), push=push, delete=delete, report=report)
    options = ServeOptions(host=host, port=port, tls_cert=tls_cert, tls_key=tls_key, ready_file=ready_file)
    server = Server(registry, options, log=report if access_log else None)
    give_up_rights(repo, push=push)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_args: server.stop())
    if accounts and tls_cert is None and not host.startswith(_LOCAL):
        note("passwords are sent in the clear: give --tls-cert, or put a proxy before it", quiet=settings().quiet)
    click.echo(server.url)
    server.run()
