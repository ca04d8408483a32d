"""``wherry generate``: a container as something that another program starts; podman's words and flags."""

from __future__ import annotations

import os
import shutil
import sys

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings


@click.group()
def generate() -> None:
    """A container as a systemd unit.

    \b
    Examples:
      wherry generate systemd --files web
    """


@generate.command()
@click.option("--new", is_flag=True, help="Make the container anew at each start.")
@click.option("-f", "--files", is_flag=True, help="Write NAME.service here, and print its path.")
@click.option("-n", "--name", "by_name", is_flag=True, help="Taken and ignored: the name is used in any case.")
@click.option(
    "--restart-policy",
    type=click.Choice(("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")),
    default="on-failure",
    show_default=True,
    help="Systemd's Restart=.",
)
@click.option("--restart-sec", type=click.IntRange(0), metavar="S", help="Systemd's RestartSec=.")
@click.option("-t", "--time", "stop_timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
@click.option("--container-prefix", default="container", show_default=True, help="Begins the unit's name.")
@click.option("--separator", default="-", show_default=True, help="Between prefix and name.")
@click.option("--wants", multiple=True, metavar="UNIT", help="Further units that it wants.")
@click.option("--after", multiple=True, metavar="UNIT", help="Further units that it comes after.")
@click.option("--requires", multiple=True, metavar="UNIT", help="Units that it cannot be without.")
@click.option("--no-header", is_flag=True, help="No comment at the top.")
@click.argument("container", shell_complete=completing.containers)
def systemd(
    new: bool,
    files: bool,
    by_name: bool,
    restart_policy: str,
    restart_sec: int | None,
    stop_timeout: int | None,
    container_prefix: str,
    separator: str,
    wants: tuple[str, ...],
    after: tuple[str, ...],
    requires: tuple[str, ...],
    no_header: bool,
    container: str,
) -> None:
    """Print a systemd unit that runs a container.

    \b
    Examples:
      wherry generate systemd web > /etc/systemd/system/container-web.service
      wherry generate systemd --new --files --restart-policy always web
    """
    from wherry.engine.systemd_units import UnitOptions, unit_name, unit_text
    from wherry.version import __version__

    current = settings()
    config = open_engine(current).inspect(container).config
    options = UnitOptions(
        new=new,
        restart_policy=restart_policy,
        restart_sec=restart_sec,
        stop_timeout_s=stop_timeout,
        prefix=container_prefix,
        separator=separator,
        wants=wants,
        after=after,
        requires=requires,
        no_header=no_header,
    )
    command = [_program(), "--root", str(current.root), "--run-root", str(current.run_root)]
    text = unit_text(config, options, command=command, version=__version__)
    if not files:
        print(text, end="")
        return
    name = unit_name(config, options)
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    print(os.path.abspath(name))


def _program() -> str:
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == "wherry" and os.access(own, os.X_OK):
        return own
    return shutil.which("wherry") or "/usr/bin/wherry"
