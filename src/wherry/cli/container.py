"""``wherry container`` and the daily container words: looking at containers and ending them.

What makes containers and runs processes in them is in ``container_run.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from wherry.cli import completing
from wherry.cli.container_attach import attach
from wherry.cli.container_change import pause, prune, rename, unpause, update
from wherry.cli.container_copy import commit, cp, diff, export
from wherry.cli.container_events import events
from wherry.cli.container_run import create, exec_, open_engine, run, start
from wherry.cli.container_watch import port, stats, top
from wherry.cli.context import settings
from wherry.cli.each import each
from wherry.cli.failing import until_interrupted
from wherry.cli.generate import generate
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.engine.logs import LogEntry

__all__ = ["attach", "container", "exec_", "inspect", "kill", "logs", "ps", "rm", "run", "stop"]

KINDS = ("container", "image", "volume", "network")


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids alone.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten anything.")
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="The N that were made last; implies --all.")
@click.option("-l", "--latest", is_flag=True, help="The one that was made last; implies --all.")
@click.option("-s", "--size", is_flag=True, help="Show how much each has written.")
@click.option(
    *("-f", "--filter", "filters"),
    multiple=True,
    metavar="KEY=VALUE",
    help="label, name, status, health, id, ancestor, exited, before, since, volume, network, publish, expose.",
)
@click.option("--format", "form", metavar="FORMAT", help="json, a Go template, or 'table TEMPLATE'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    last: int | None,
    latest: bool,
    size: bool,
    filters: tuple[str, ...],
    form: str | None,
    as_json: bool,
) -> None:
    """List containers.

    \b
    Examples:
      wherry ps -a
      wherry ps -q --filter label=app=web --filter status=running
      wherry ps --format 'table {{.Names}}\\t{{.Status}}'
    """
    from wherry.cli import container_filters as select
    from wherry.cli import container_list as show
    from wherry.cli.output import print_json, print_table

    wanted = select.parse_filters(filters)
    last = 1 if latest else last
    everything = everything or last is not None or not select.ENDED_ONLY.isdisjoint(wanted)
    engine = open_engine(settings(), with_store=size)
    around = select.Surroundings.of(engine)
    for name in (*wanted.get("before", ()), *wanted.get("since", ())):
        around.created_s(name)  # one that is not there is an error, whatever else is listed
    found = [info for info in engine.list(all=everything) if select.matches(info, wanted, around)][:last]
    sizes = {info.id: show.size_text(engine, info) for info in found} if size else {}
    if as_json:
        print_json([show.summary(info) | ({"size": sizes[info.id]} if size else {}) for info in found])
    elif quiet:
        for info in found:
            print(show.short_id(info, truncate=not no_trunc))
    elif form:
        from wherry.cli.docker_shape import listed
        from wherry.cli.template import print_rows

        rows = [
            listed(info, truncate=not no_trunc, size=sizes.get(info.id, ""), networks=around.names(info))
            for info in found
        ]
        print_rows(form, rows, {"ID": "CONTAINER ID", "RunningFor": "CREATED", "CreatedAt": "CREATED AT"})
    else:
        head = (*show.HEAD, "SIZE") if size else show.HEAD
        cells = [show.row(info, truncate=not no_trunc) for info in found]
        if size:
            cells = [(*row, sizes[info.id]) for row, info in zip(cells, found, strict=True)]
        print_table(head, cells, shrink=show.SHRINK)


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the container ends.")
@click.option("-n", "--tail", default="all", metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only what is newer: 10m, or 2026-01-31T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Only what is older.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.option("--details", is_flag=True, help="Put the container's labels before each line.")
@click.argument("container", shell_complete=completing.containers)
def logs(
    follow: bool, tail: str, since: str | None, until: str | None, timestamps: bool, details: bool, container: str
) -> int:
    """Show what a container printed: its output here, its errors on standard error.

    \b
    Examples:
      wherry logs -n 20 web
      wherry logs -f --since 10m web
    """
    from wherry.cli.container_options import parse_since
    from wherry.core.errors import UsageError
    from wherry.engine.logwriter import format_time
    from wherry.engine.person import write_all

    if tail != "all" and not tail.isdigit():
        raise UsageError(f"--tail: not a number: {tail!r}", hint="write a number, or all")
    now_s = time.time()
    until_s = parse_since(until, now_s) if until else None
    engine = open_engine(settings())
    labels = engine.inspect(container).labels if details else {}
    extra = f"{','.join(f'{key}={value}' for key, value in sorted(labels.items()))} ".encode() if details else b""
    last = None if tail == "all" else int(tail)
    entries = engine.logs(
        container,
        follow=follow and (until_s is None or until_s > now_s),
        tail=last if until_s is None else None,
        since=parse_since(since, now_s) if since else None,
    )
    if until_s is not None:
        entries = _until(entries, until_s, last)

    def show() -> None:
        for entry in entries:
            prefix = f"{format_time(entry.time_s)} ".encode() if timestamps else b""
            write_all(1 if entry.stream == "stdout" else 2, prefix + extra + entry.data)

    return until_interrupted(show)


def _until(entries: Iterator[LogEntry], until_s: float, tail: int | None) -> Iterator[LogEntry]:
    from collections import deque
    from itertools import takewhile

    older = takewhile(lambda entry: entry.time_s <= until_s, entries)
    return older if tail is None else iter(deque(older, maxlen=tail))


@click.command()
@click.option("-t", "--time", "timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def stop(timeout: int | None, containers: tuple[str, ...]) -> int:
    """Stop containers: their stop signal, then SIGKILL.

    \b
    Examples:
      wherry stop web
      wherry stop -t 1 web db
    """
    engine = open_engine(settings())
    return each(containers, lambda name: engine.stop(name, timeout))


@click.command()
@click.option("-s", "--signal", "name", default="KILL", show_default=True, metavar="SIGNAL", help="Which signal.")
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
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
    return each(containers, lambda container: engine.kill(container, number))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill it first if it runs.")
@click.option("-v", "--volumes", is_flag=True, help="Taken and ignored: its anonymous volumes go in any case.")
@click.option("-l", "--link", is_flag=True, hidden=True)
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def rm(force: bool, volumes: bool, link: bool, containers: tuple[str, ...]) -> int:
    """Remove containers, with all that they wrote; named volumes stay.

    \b
    Examples:
      wherry rm web
      wherry rm -f $(wherry ps -aq)
    """
    if link:
        raise UsageError("--link is not there: containers of one network find each other by name, without links")
    engine = open_engine(settings())
    return each(containers, lambda name: engine.remove(name, force=force))


@click.command()
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template: {{.State.Pid}}.")
@click.option("-s", "--size", is_flag=True, help="Count what each has written: SizeRw.")
@click.option("--type", "kind", type=click.Choice(KINDS), help="What NAME is; otherwise the first that there is.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completing.containers)
def inspect(form: str | None, size: bool, kind: str | None, names: tuple[str, ...]) -> int:
    """Show all about containers, images, volumes and networks, as JSON.

    Docker's keys begin with a capital (State.Running); those in lower case are Wherry's own.

    \b
    Examples:
      wherry inspect web
      wherry inspect web | jq '.[0].ip'
      wherry inspect -f '{{.State.Pid}} {{.NetworkSettings.IPAddress}}' web
    """
    from wherry.cli.inspecting import inspect_each

    return inspect_each(names, form=form, size=size, kind=kind)


@click.command()
@click.option("-t", "--time", "timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def restart(timeout: int | None, containers: tuple[str, ...]) -> int:
    """Stop containers if they run, and start them.

    \b
    Examples:
      wherry container restart web
    """
    engine = open_engine(settings(), with_store=True)
    return each(containers, lambda name: engine.restart(name, timeout))


@click.command()
@click.option(
    "--condition",
    type=click.Choice(["not-running", "next-exit", "removed"]),
    default="not-running",
    show_default=True,
    help="What to wait for.",
)
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def wait(condition: str, containers: tuple[str, ...]) -> int:
    """Wait until containers have ended, and print their exit statuses.

    \b
    Examples:
      wherry wait job
      wherry wait --condition removed job
    """
    from wherry.engine.waiting import wait_for

    engine = open_engine(settings())
    return each(containers, lambda name: str(wait_for(engine, name, condition)))


@click.group()
def container() -> None:
    """Containers: all their commands.

    \b
    Examples:
      wherry container create --name web -p 8080:80 busybox httpd -f
      wherry container start web
      wherry container wait web
    """


_COMMANDS = (run, create, start, exec_, logs, stop, kill, restart, wait, rm, inspect, pause, unpause, rename, update)
_MORE = (cp, diff, commit, export, top, stats, port, events, prune, generate)
for _command in (*_COMMANDS, *_MORE):
    container.add_command(_command)
container.add_command(attach)
container.add_command(ps, "ls")
container.add_command(ps, "ps")
