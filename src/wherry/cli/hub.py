"""``wherry hub``: making, serving and keeping a fleet server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wherry.cli.context import settings
from wherry.cli.output import ago, note, print_json, print_table
from wherry.core.errors import InvalidInput, Unsupported, UsageError
from wherry.core.units import format_duration, parse_duration_ms, parse_size

if TYPE_CHECKING:
    from wherry.hub.accounts import Accounts

PASSWORD_VARIABLE = "WHERRY_HUB_PASSWORD"  # noqa: S105 a name, not a secret
DEFAULT_DIR = "/var/lib/wherry/hub"
DEFAULT_USER = "admin"


@click.group(
    epilog="""\b
Examples:
  wherry hub init /srv/hub
  wherry hub serve --dir /srv/hub --listen 0.0.0.0:8443 --tls-cert hub.crt --tls-key hub.key
  wherry hub token create --dir /srv/hub --uses 20 --expires 8h"""
)
def hub() -> None:
    """The fleet server: one process, one folder."""


_dir = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    envvar="WHERRY_HUB_DIR",
    default=DEFAULT_DIR,
    show_default=True,
    help="The hub's folder.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@hub.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--user", default=DEFAULT_USER, show_default=True, help="Name of the first user.")
def init(directory: Path, user: str) -> None:
    """Make a hub in DIR, with its first user.

    The password is $WHERRY_HUB_PASSWORD, or asked for on a terminal, or made up and printed once.
    """
    _need_hub()
    from wherry.hub.accounts import check_user_name
    from wherry.hub.credentials import check_password_rules, make_password
    from wherry.hub.instance import make_instance

    given = _password(user)
    password = check_password_rules(given) if given else make_password()
    check_user_name(user)
    instance = make_instance(directory.absolute())
    with _accounts(instance.path) as accounts:
        accounts.add_user(user, password)
    print(f"hub made in {instance.path}")
    print(f"user: {user}")
    if not given:
        print(f"password: {password}")
        note("the password is not kept anywhere else: write it down", quiet=settings().quiet)
    note(f"next: wherry hub serve --dir {instance.path}", quiet=settings().quiet)


@hub.command()
@_dir
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="ADDRESS:PORT; port 0 takes a free one.")
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="Its private key, PEM.")
@click.option("--poll-interval", default="30s", show_default=True, help="How often devices ask.")
@click.option("--poll-jitter", type=click.IntRange(0, 100), default=10, show_default=True, help="In percent.")
@click.option(
    "--delta-space", default="2G", show_default=True, metavar="SIZE", help="For deltas to devices; 0 makes none."
)
@click.option("--trusted-proxy", default="", metavar="ADDRESS,...", help="Believe X-Forwarded-* from these.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Write the URL here once it listens.")
def serve(
    directory: Path,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    poll_interval: str,
    poll_jitter: int,
    delta_space: str,
    trusted_proxy: str,
    ready_file: Path | None,
) -> None:
    """Serve a hub until SIGTERM or Ctrl-C.

    Prints its URL once it listens.
    """
    _need_hub()
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together")
    interval_ms = parse_duration_ms(poll_interval, where="--poll-interval")
    if not 1000 <= interval_ms <= 24 * 3600 * 1000:
        raise UsageError("--poll-interval is between 1s and 24h")
    _log_to_stderr(debug=settings().debug)
    from wherry.core.listening import parse_listen
    from wherry.hub.context import HubSettings
    from wherry.hub.server import ServeOptions
    from wherry.hub.server import serve as serve_hub

    host, port = parse_listen(listen)
    options = ServeOptions(
        path=directory.absolute(),
        host=host,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        trusted_proxies=trusted_proxy,
        ready_file=ready_file,
        settings=HubSettings(
            poll_interval_s=interval_ms // 1000,
            poll_jitter_percent=poll_jitter,
            delta_bytes=parse_size(delta_space, where="--delta-space"),
        ),
    )
    serve_hub(options, tell=lambda url: print(f"hub: {url}", flush=True))


@hub.group()
def token() -> None:
    """Tokens that devices enrol with."""


@token.command("create")
@_dir
@click.option("--uses", type=click.IntRange(min=1), default=1, show_default=True, help="How many devices.")
@click.option("--expires", default="1h", show_default=True, help="For how long.")
@click.option("--note", "text", default="", help="What it is for.")
@_json
def token_create(directory: Path, uses: int, expires: str, text: str, as_json: bool) -> None:
    """Make an enrolment token and print it."""
    life_s = parse_duration_ms(expires, where="--expires") // 1000
    with _accounts(directory.absolute()) as accounts:
        made = accounts.make_enrolment_token(uses=uses, expires_in_s=life_s, note=text, by="command line")
    if as_json:
        print_json(made)
        return
    print(made.token)
    note(f"{uses} use{'s' * (uses > 1)}, expires in {format_duration(life_s)}; id {made.id}", quiet=settings().quiet)


@token.command("list")
@_dir
@_json
def token_list(directory: Path, as_json: bool) -> None:
    """List enrolment tokens (never the secrets)."""
    with _accounts(directory.absolute()) as accounts:
        found = accounts.list_enrolment_tokens()
    if as_json:
        print_json(found)
        return
    from wherry.cli.fleet import token_rows

    print_table(("ID", "STATE", "USES LEFT", "CREATED", "BY", "NOTE"), token_rows(found))


@token.command("revoke")
@_dir
@click.argument("token_id", metavar="ID")
def token_revoke(directory: Path, token_id: str) -> None:
    """Have an enrolment token open nothing any more."""
    with _accounts(directory.absolute()) as accounts:
        accounts.revoke_enrolment_token(token_id)


@hub.group()
def user() -> None:
    """People who may log in."""


@user.command("add")
@_dir
@click.argument("name")
def user_add(directory: Path, name: str) -> None:
    """Add a user; the password as in `wherry hub init`."""
    _need_hub()
    from wherry.hub.credentials import make_password

    given = _password(name)
    password = given or make_password()
    with _accounts(directory.absolute()) as accounts:
        accounts.add_user(name, password)
    if not given:
        print(f"password: {password}")


@user.command("list")
@_dir
@_json
def user_list(directory: Path, as_json: bool) -> None:
    """List users."""
    with _accounts(directory.absolute()) as accounts:
        found = accounts.list_users()
    if as_json:
        print_json([{"name": name, "role": role, "created_s": created_s} for name, role, created_s in found])
        return
    print_table(("NAME", "ROLE", "CREATED"), [(name, role, ago(created_s)) for name, role, created_s in found])


@user.command("passwd")
@_dir
@click.argument("name")
def user_passwd(directory: Path, name: str) -> None:
    """Change a password; the user is logged out everywhere."""
    given = _password(name)
    if not given:
        raise UsageError("no password given", hint=f"set {PASSWORD_VARIABLE}, or call it on a terminal")
    with _accounts(directory.absolute()) as accounts:
        accounts.set_password(name, given)


@contextmanager
def _accounts(path: Path) -> Iterator[Accounts]:
    _need_hub()
    import time

    from wherry.hub.accounts import Accounts
    from wherry.hub.instance import Instance

    database = Instance(path=path).open_database()
    try:
        yield Accounts(database, time.time)
    finally:
        database.close()


def _password(user_name: str) -> str:
    """Returns the password from the environment or a terminal; "" when there is neither."""
    found = os.environ.get(PASSWORD_VARIABLE, "")
    if found or not sys.stdin.isatty():
        return found
    first: str = click.prompt(f"password for {user_name} (empty: make one up)", default="", hide_input=True, err=True)
    if first and first != click.prompt("again", hide_input=True, err=True):
        raise InvalidInput("the two passwords differ")
    return first


def _need_hub() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "sqlalchemy", "alembic", "argon2", "jinja2") if find_spec(name) is None]
    if missing:
        raise Unsupported(
            f"the hub's libraries are not installed: {', '.join(missing)}", hint="pip install wherry[hub]"
        )


def _log_to_stderr(*, debug: bool) -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("wherry").setLevel(logging.DEBUG if debug else logging.INFO)
