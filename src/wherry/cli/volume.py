"""``wherry volume``: places for data that outlive containers; docker's words and flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.each import each
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.engine.state import Paths
    from wherry.engine.volume_mounts import Volume

FILTERS = ("dangling", "driver", "label", "name")


@click.group()
def volume() -> None:
    """Volumes: data that outlives containers.

    \b
    Examples:
      wherry volume create data
      wherry volume create --opt type=none --opt o=bind --opt device=/srv/data data
      wherry volume prune
    """


@volume.command()
@click.option("-d", "--driver", type=click.Choice(["local"]), default="local", help="Always local.")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label the volume.")
@click.option("-o", "--opt", "options", multiple=True, metavar="KEY=VALUE", help="type=tmpfs|nfs|none, o=, device=.")
@click.argument("name", required=False, default="")
def create(driver: str, labels: tuple[str, ...], options: tuple[str, ...], name: str) -> None:
    """Make a volume, and print its name; one that is there stays as it is.

    \b
    Examples:
      wherry volume create data
      wherry volume create --opt type=tmpfs --opt o=size=64m scratch
    """
    from wherry.cli.container_options import parse_labels
    from wherry.engine.volumes import create_volume

    engine = open_engine(settings())
    engine.paths.make()
    print(create_volume(engine.paths, name, labels=parse_labels(labels), options=_options(options)).name)


def _options(items: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--opt: not KEY=VALUE: {item!r}")
        found[key] = value
    return found


def document(paths: Paths, found: Volume) -> dict[str, Any]:
    """Returns a volume as docker's ``volume inspect`` prints it."""
    from wherry.engine.logwriter import format_time

    mountpoint = found.options.get("device", "") if found.options.get("o", "").find("bind") >= 0 else ""
    return {
        "CreatedAt": format_time(found.created_s),
        "Driver": "local",
        "Labels": dict(found.labels),
        "Mountpoint": mountpoint or f"{paths.volumes}/{found.name}/data",
        "Name": found.name,
        "Options": dict(found.options) or None,
        "Scope": "local",
        "Anonymous": found.anonymous,
    }


@volume.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Names alone.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help=f"{', '.join(FILTERS)}.")
@click.option("--format", "form", metavar="FORMAT", help="json, a Go template, or 'table TEMPLATE'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(quiet: bool, filters: tuple[str, ...], form: str | None, as_json: bool) -> None:
    """List volumes.

    \b
    Examples:
      wherry volume ls
      wherry volume ls -q --filter dangling=true
    """
    from wherry.cli.output import print_json, print_table
    from wherry.cli.template import print_rows
    from wherry.engine.volumes import read_volume

    engine = open_engine(settings())
    found = [read_volume(engine.paths, name) for name in engine.list_volumes()]
    found = _filtered(engine.paths, found, filters)
    if quiet:
        for item in found:
            print(item.name)
    elif as_json:
        print_json([document(engine.paths, item) for item in found])
    elif form:
        rows = [
            {**document(engine.paths, item), "Labels": ",".join(f"{k}={v}" for k, v in item.labels.items())}
            for item in found
        ]
        print_rows(form, rows, {"Name": "VOLUME NAME"})
    else:
        print_table(("DRIVER", "VOLUME NAME"), [("local", item.name) for item in found], shrink=1)


def _filtered(paths: Paths, found: list[Volume], filters: tuple[str, ...]) -> list[Volume]:
    from wherry.engine.pruning import has_label
    from wherry.engine.volumes import users_of

    used = users_of(paths) if any(item.startswith("dangling=") for item in filters) else {}
    names: list[str] = []
    for item in filters:
        key, equals, value = item.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"--filter: {item!r} is not supported", hint=f"use KEY=VALUE with {', '.join(FILTERS)}")
        if key == "label":
            found = [volume for volume in found if has_label(volume.labels, value)]
        elif key == "driver":
            found = [volume for volume in found if value == "local"]
        elif key == "name":
            names.append(value)
        elif value.lower() in ("1", "true", "0", "false"):
            dangling = value.lower() in ("1", "true")
            found = [volume for volume in found if (volume.name not in used) == dangling]
        else:
            raise UsageError(f"--filter: dangling is true or false, not {value!r}")
    return [volume for volume in found if not names or any(name in volume.name for name in names)]


@volume.command()
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Mountpoint}}.")
@click.argument("names", nargs=-1, required=True, shell_complete=completing.volumes)
def inspect(form: str | None, names: tuple[str, ...]) -> int:
    """Show all about volumes, as JSON with docker's keys.

    \b
    Examples:
      wherry volume inspect data
      wherry volume inspect -f '{{.Mountpoint}}' data
    """
    from wherry.cli.inspecting import inspect_each

    return inspect_each(names, form=form, kind="volume")


@volume.command()
@click.option("-f", "--force", is_flag=True, help="Do not mind one that is not there.")
@click.argument("names", nargs=-1, required=True, shell_complete=completing.volumes)
def rm(force: bool, names: tuple[str, ...]) -> int:
    """Remove volumes that no container has, with all that is in them.

    \b
    Examples:
      wherry volume rm data
    """
    engine = open_engine(settings())
    engine.paths.make()

    def work(name: str) -> None:
        try:
            engine.remove_volume(name)
        except NotFound:
            if not force:
                raise

    return each(names, work)


@volume.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that have a name, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="label=KEY[=VALUE], label!=KEY[=VALUE].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(everything: bool, force: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """Remove the anonymous volumes that no container has.

    \b
    Examples:
      wherry volume prune
      wherry volume prune -af --filter label!=keep
    """
    from wherry.cli.system import confirm, print_removed
    from wherry.engine.pruning import Filters, prune_volumes

    wanted = Filters.parse(filters)
    which = "" if everything else "anonymous "
    confirm(f"This removes all {which}volumes that no container has.", force=force)
    engine = open_engine(settings())
    print_removed({"volumes": prune_volumes(engine, wanted, everything=everything)}, as_json=as_json)
