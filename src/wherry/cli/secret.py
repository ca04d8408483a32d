"""``wherry secret``: what containers may know and logs may not; podman's words and flags."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.each import each
from wherry.core.durable import map_os_error
from wherry.core.errors import UsageError


@click.group()
def secret() -> None:
    """Secrets: files that containers get below /run/secrets.

    \b
    Examples:
      printf %s "$PASSWORD" | wherry secret create db -
      wherry run --secret db busybox cat /run/secrets/db
    """


@secret.command()
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label the secret.")
@click.option("--env", "variable", is_flag=True, help="FILE is the name of a variable that holds it.")
@click.option("--replace", is_flag=True, help="Put it in the place of one that is there.")
@click.argument("name")
@click.argument("file", metavar="FILE|-")
def create(labels: tuple[str, ...], variable: bool, replace: bool, name: str, file: str) -> None:
    """Make a secret of a file, or of standard input, and print its name.

    \b
    Examples:
      wherry secret create tls.key ./tls.key
      printf %s "$PASSWORD" | wherry secret create db -
    """
    from wherry.cli.container_options import parse_labels
    from wherry.engine import secrets

    engine = open_engine(settings())
    engine.paths.make()
    data = _read(file, variable=variable, limit=secrets.MAX_SECRET_BYTES + 1)
    print(secrets.create(engine.paths, name, data, labels=parse_labels(labels), replace=replace).name)


def _read(file: str, *, variable: bool, limit: int) -> bytes:
    if variable:
        if file not in os.environ:
            raise UsageError(f"the variable {file} is not set")
        return os.environb[os.fsencode(file)]
    if file == "-":
        if sys.stdin.isatty():
            raise UsageError("a secret is not read from a terminal", hint="pipe it in, or name a file")
        return sys.stdin.buffer.read(limit)
    try:
        with open(file, "rb") as source:
            return source.read(limit)
    except OSError as error:
        raise map_os_error(error, "cannot read the secret", where=file) from error


def _document(found: Any) -> dict[str, Any]:
    from wherry.engine.logwriter import format_time

    return {
        "ID": found.name,
        "CreatedAt": format_time(found.created_s),
        "UpdatedAt": format_time(found.updated_s),
        "Spec": {"Name": found.name, "Driver": {"Name": "file"}, "Labels": dict(found.labels)},
    }


@secret.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="name=, label=.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(quiet: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """List secrets, without what is in them.

    \b
    Examples:
      wherry secret ls
    """
    from wherry.cli.output import ago, print_json, print_table
    from wherry.engine import secrets
    from wherry.engine.pruning import has_label

    found = secrets.list_secrets(open_engine(settings()).paths)
    for item in filters:
        key, equals, value = item.partition("=")
        if not equals or key not in ("name", "label"):
            raise UsageError(f"--filter: {item!r} is not supported", hint="use name= or label=")
        found = [one for one in found if (value in one.name if key == "name" else has_label(one.labels, value))]
    if as_json:
        print_json([_document(one) for one in found])
    elif quiet:
        for one in found:
            print(one.name)
    else:
        rows = [(one.name, ago(one.created_s), ago(one.updated_s)) for one in found]
        print_table(("NAME", "CREATED", "UPDATED"), rows, shrink=0)


@secret.command()
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Spec.Name}}.")
@click.argument("names", nargs=-1, required=True, shell_complete=completing.secrets)
def inspect(form: str | None, names: tuple[str, ...]) -> None:
    """Show what is known of secrets, as JSON; not what is in them.

    \b
    Examples:
      wherry secret inspect db
    """
    from wherry.cli.output import print_json
    from wherry.cli.template import Template
    from wherry.engine import secrets

    paths = open_engine(settings()).paths
    found = [_document(secrets.read(paths, name)) for name in names]
    if form and form != "json":
        template = Template(form)
        for one in found:
            print(template.render(one))
        return
    print_json(found)


@secret.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All of them.")
@click.option("-i", "--ignore", is_flag=True, help="Do not mind one that is not there.")
@click.argument("names", nargs=-1, shell_complete=completing.secrets)
def rm(everything: bool, ignore: bool, names: tuple[str, ...]) -> int:
    """Remove secrets; containers that run keep what they have.

    \b
    Examples:
      wherry secret rm db
    """
    from wherry.core.errors import NotFound
    from wherry.engine import secrets

    engine = open_engine(settings())
    if everything == bool(names):
        raise UsageError("name secrets, or give --all")

    def work(name: str) -> None:
        try:
            secrets.remove(engine.paths, name)
        except NotFound:
            if not ignore:
                raise

    engine.paths.make()
    return each([one.name for one in secrets.list_secrets(engine.paths)] if everything else names, work)
