"""``wherry container`` and the daily container words: looking at containers and ending them.

What makes containers and runs processes in them is in ``container_run.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from wherry.cli.container_run import create, exec_, open_engine, run, start
from wherry.cli.context import settings
from wherry.core.errors import WherryError

__all__ = ["container", "exec_", "inspect", "kill", "logs", "ps", "rm", "run", "stop"]


def _each(names: tuple[str, ...], work: Callable[[str], object]) -> int:
    """Does one thing to several containers; a failure does not keep it from the others.

    Returns:
        0, or the status of the last failure.
    """
    status = 0
    debug = settings().debug
    for name in names:
        try:
            result = work(name)
        except WherryError as error:
            if debug:
                raise
            print(f"wherry: {error}", file=sys.stderr)
            status = error.exit_code
        else:
            print(name if result is None else result)
    return status


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten anything.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="label, name, status, health, id, ancestor."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(everything: bool, quiet: bool, no_trunc: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """List containers.

    \b
    Examples:
      wherry ps -a
      wherry ps -q --filter label=app=web --filter status=running
    """
    from wherry.cli import container_list as show
    from wherry.cli.output import print_json, print_table

    wanted = show.parse_filters(filters)
    everything = everything or "status" in wanted
    found = [info for info in open_engine(settings()).list(all=everything) if show.matches(info, wanted)]
    if as_json:
        print_json([show.summary(info) for info in found])
    elif quiet:
        for info in found:
            print(show.short_id(info, truncate=not no_trunc))
    else:
        print_table(show.HEAD, [show.row(info, truncate=not no_trunc) for info in found], shrink=1)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the container ends.")
@click.option("-n", "--tail", default="all", metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or 2026-01-31T12:00:00Z.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.argument("container")
def logs(follow: bool, tail: str, since: str | None, timestamps: bool, container: str) -> None:
    """Show what a container printed: its output here, its errors on standard error.

    \b
    Examples:
      wherry logs -n 20 web
      wherry logs -f --since 10m web
    """
    from wherry.cli.container_options import parse_since
    from wherry.core.errors import UsageError
    from wherry.engine.attach import write_all
    from wherry.engine.logs import format_time

    if tail != "all" and not tail.isdigit():
        raise UsageError(f"--tail: not a number: {tail!r}", hint="write a number, or all")
    entries = open_engine(settings()).logs(
        container,
        follow=follow,
        tail=None if tail == "all" else int(tail),
        since=parse_since(since, time.time()) if since else None,
    )
    for entry in entries:
        prefix = f"{format_time(entry.time_s)} ".encode() if timestamps else b""
        write_all(1 if entry.stream == "stdout" else 2, prefix + entry.data)


@click.command()
@click.option("-t", "--time", "timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
@click.argument("containers", nargs=-1, required=True)
def stop(timeout: int | None, containers: tuple[str, ...]) -> int:
    """Stop containers: their stop signal, then SIGKILL.

    \b
    Examples:
      wherry stop web
      wherry stop -t 1 web db
    """
    engine = open_engine(settings())
    return _each(containers, lambda name: engine.stop(name, timeout))


@click.command()
@click.option("-s", "--signal", "name", default="KILL", show_default=True, metavar="SIGNAL", help="Which signal.")
@click.argument("containers", nargs=-1, required=True)
def kill(name: str, containers: tuple[str, ...]) -> int:
    """Send a signal to containers.

    \b
    Examples:
      wherry kill web
      wherry kill -s HUP web
    """
    from wherry.engine.bundle import signal_number

    number = signal_number(name)
    engine = open_engine(settings())
    return _each(containers, lambda container: engine.kill(container, number))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs.")
@click.argument("containers", nargs=-1, required=True)
def rm(force: bool, containers: tuple[str, ...]) -> int:
    """Remove containers, with all that they wrote; named volumes stay.

    \b
    Examples:
      wherry rm web
      wherry rm -f $(wherry ps -aq)
    """
    engine = open_engine(settings())
    return _each(containers, lambda name: engine.remove(name, force=force))


@click.command()
@click.argument("containers", nargs=-1, required=True)
def inspect(containers: tuple[str, ...]) -> None:
    """Show all about containers, as JSON.

    \b
    Examples:
      wherry inspect web
      wherry inspect web | jq '.[0].ip'
    """
    from wherry.cli.container_list import full
    from wherry.core.jsonio import pretty

    engine = open_engine(settings())
    print(pretty([full(engine.inspect(name)) for name in containers]))


@click.command()
@click.option("-t", "--time", "timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
@click.argument("containers", nargs=-1, required=True)
def restart(timeout: int | None, containers: tuple[str, ...]) -> int:
    """Stop containers if they run, and start them.

    \b
    Examples:
      wherry container restart web
    """
    engine = open_engine(settings(), with_store=True)
    return _each(containers, lambda name: engine.restart(name, timeout))


@click.command()
@click.argument("containers", nargs=-1, required=True)
def wait(containers: tuple[str, ...]) -> int:
    """Wait until containers have ended, and print their exit statuses.

    \b
    Examples:
      wherry container wait job
    """
    engine = open_engine(settings())
    return _each(containers, lambda name: str(engine.wait(name)))


@click.group()
def container() -> None:
    """Containers: all their commands.

    \b
    Examples:
      wherry container create --name web -p 8080:80 busybox httpd -f
      wherry container start web
      wherry container wait web
    """


for _command in (run, create, start, exec_, logs, stop, kill, restart, wait, rm, inspect):
    container.add_command(_command)
container.add_command(ps, "ls")
container.add_command(ps, "ps")
