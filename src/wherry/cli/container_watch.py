"""``top``, ``stats`` and ``port``: what containers do just now."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.failing import until_interrupted
from wherry.cli.output import print_table
from wherry.core.errors import NotFound, UsageError

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.info import ContainerInfo
    from wherry.engine.usage import Sample, Usage

STATS_INTERVAL_S = 1.0
STATS_HEAD = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
_STATS_FIELDS = ("Container", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("container", shell_complete=completing.containers)
@click.argument("options", nargs=-1, metavar="[PS OPTIONS]", type=click.UNPROCESSED)
def top(as_json: bool, container: str, options: tuple[str, ...]) -> None:
    """Show a container's processes, with their numbers on the host.

    With options of ps(1), the host's ps is called and its lines of other processes left out.

    \b
    Examples:
      wherry top web
      wherry top web -o pid,stat,rss,args
    """
    from wherry.cli.output import print_json
    from wherry.engine import processes

    engine = open_engine(settings())
    info = engine.inspect(container)
    if options and as_json:
        raise UsageError("--json goes with no options of ps")
    if options:
        print(processes.by_ps(engine.paths, info, options))
        return
    found = processes.list_processes(engine.paths, info)
    if as_json:
        print_json([process._asdict() for process in found])
        return
    rows = [processes.row(process) for process in found]
    print_table(processes.HEAD, rows, shrink=len(processes.HEAD) - 1)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("--no-stream", is_flag=True, help="Print once, and end.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten ids.")
@click.option("--format", "form", metavar="FORMAT", help="json, or a Go template: {{.Name}} {{.CPUPerc}}.")
@click.option("--json", "as_json", is_flag=True, help="Print numbers as JSON, one line for each.")
@click.argument("containers", nargs=-1, shell_complete=completing.containers)
def stats(
    everything: bool, no_stream: bool, no_trunc: bool, form: str | None, as_json: bool, containers: tuple[str, ...]
) -> int:
    """Show what containers use: processor, memory, network, disk, processes.

    \b
    Examples:
      wherry stats
      wherry stats --no-stream --format '{{.Name}}: {{.CPUPerc}}' web
    """
    from wherry.engine.usage import between

    engine = open_engine(settings())
    for name in containers:
        engine.inspect(name)  # told once, and at once
    live = sys.stdout.isatty() and not (form or as_json)

    def show() -> None:
        before = _samples(engine, containers, everything)
        while True:
            time.sleep(STATS_INTERVAL_S)
            now = _samples(engine, containers, everything)
            used = []
            for container_id, (info, sample) in now.items():
                first = before.get(container_id, (info, None))[1]
                used.append((info, between(first, sample) if sample is not None else None))
            if live:
                sys.stdout.write("\033[H\033[J")
            _print(used, form=form, as_json=as_json, truncate=not no_trunc)
            sys.stdout.flush()
            if no_stream:
                return
            before = now

    return until_interrupted(show)


def _samples(engine: Engine, names: Iterable[str], everything: bool) -> dict[str, tuple[ContainerInfo, Sample | None]]:
    from wherry.engine.usage import sample

    found: list[ContainerInfo] = []
    if names:
        for name in names:
            try:
                found.append(engine.inspect(name))
            except NotFound:
                continue  # removed meanwhile
    else:
        found.extend(engine.list(all=everything))
    return {info.id: (info, sample(engine.paths, info)) for info in found}


def _print(used: list[tuple[ContainerInfo, Usage | None]], *, form: str | None, as_json: bool, truncate: bool) -> None:
    import json

    from wherry.cli.template import print_rows

    if as_json:
        from wherry.cli.container_list import full

        for info, usage in used:
            print(json.dumps({"id": info.id, "name": info.name, **(full(usage) if usage is not None else {})}))
        return
    rows = [stats_row(info, usage, truncate=truncate) for info, usage in used]
    if form:
        documents = [{**dict(zip(_STATS_FIELDS, row, strict=True)), "ID": row[0]} for row in rows]
        print_rows(form, documents, dict(zip(_STATS_FIELDS, STATS_HEAD, strict=True)))
        return
    print_table(STATS_HEAD, rows, shrink=(1, 6, 5))


def stats_row(info: ContainerInfo, usage: Usage | None, *, truncate: bool) -> tuple[str, ...]:
    """Returns a container's cells for `STATS_HEAD`."""
    head = (info.id[:12] if truncate else info.id, info.name)
    if usage is None:
        return (*head, "--", "-- / --", "--", "--", "--", "--")
    return (
        *head,
        f"{usage.cpu_percent:.2f}%",
        f"{binary_size(usage.memory_bytes)} / {binary_size(usage.memory_limit_bytes)}",
        f"{usage.memory_percent:.2f}%",
        f"{decimal_size(usage.net_received_bytes)} / {decimal_size(usage.net_sent_bytes)}",
        f"{decimal_size(usage.read_bytes)} / {decimal_size(usage.written_bytes)}",
        str(usage.pids),
    )


def binary_size(count: float) -> str:
    """Returns a size as docker's stats print memory: ``12.3MiB``."""
    return _size(count, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))


def decimal_size(count: float) -> str:
    """Returns a size as docker's stats print traffic: ``1.45kB``."""
    return _size(count, 1000.0, ("B", "kB", "MB", "GB", "TB"))


def _size(count: float, base: float, units: tuple[str, ...]) -> str:
    index = 0
    while count >= base and index < len(units) - 1:
        count /= base
        index += 1
    return f"{count:.4g}{units[index]}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("container", shell_complete=completing.containers)
@click.argument("wanted", metavar="[PORT[/PROTOCOL]]", required=False)
def port(as_json: bool, container: str, wanted: str | None) -> None:
    """Show where a container's ports are published.

    \b
    Examples:
      wherry port web
      wherry port web 80/tcp
    """
    from wherry.cli.container_list import full
    from wherry.cli.output import print_json

    info = open_engine(settings()).inspect(container)
    ports = info.ports if info.pid else ()
    if wanted:
        number, _, protocol = wanted.partition("/")
        ports = tuple(
            item for item in ports if str(item.container_port) == number and item.protocol == (protocol or "tcp")
        )
        if not ports:
            raise NotFound(f"no public port {number}/{protocol or 'tcp'} published for {info.name}")
    if as_json:
        print_json([full(item) for item in ports])
        return
    for item in ports:
        address = f"[{item.host_ip}]" if ":" in item.host_ip else item.host_ip
        place = f"{address}:{item.host_port}"
        print(place if wanted else f"{item.container_port}/{item.protocol} -> {place}")
