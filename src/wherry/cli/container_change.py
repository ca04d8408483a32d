"""``pause``, ``unpause``, ``rename``, ``update`` and ``prune``: containers changed where they are."""

from __future__ import annotations

from typing import Any

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.context import settings
from wherry.cli.each import each
from wherry.core.errors import UsageError
from wherry.core.units import parse_size


@click.command()
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def pause(containers: tuple[str, ...]) -> int:
    """Freeze all processes of containers.

    \b
    Examples:
      wherry pause web
    """
    from wherry.engine.pausing import pause as freeze

    engine = open_engine(settings())
    return each(containers, lambda name: freeze(engine.paths, engine.inspect(name)))


@click.command()
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def unpause(containers: tuple[str, ...]) -> int:
    """Let the processes of paused containers run on.

    \b
    Examples:
      wherry unpause web
    """
    from wherry.engine.pausing import unpause as thaw

    engine = open_engine(settings())
    return each(containers, lambda name: thaw(engine.paths, engine.inspect(name)))


@click.command()
@click.argument("container", shell_complete=completing.containers)
@click.argument("name", metavar="NEW_NAME")
def rename(container: str, name: str) -> None:
    """Give a container another name.

    \b
    Examples:
      wherry rename web old-web
    """
    from wherry.engine.updating import rename as change

    engine = open_engine(settings())
    change(engine.paths, container, name)


@click.command()
@click.option("-m", "--memory", metavar="SIZE", help="Limit memory, as in 64m; -1 for none.")
@click.option("--memory-reservation", metavar="SIZE", help="What it is pushed back to when memory is short.")
@click.option("--memory-swap", metavar="SIZE", help="Memory and swap together; -1 for no limit of swap.")
@click.option("--cpus", metavar="N", help="Limit CPU time, as in 1.5.")
@click.option("-c", "--cpu-shares", type=click.IntRange(2, 262144), metavar="N", help="Its share when CPUs are short.")
@click.option("--cpu-period", type=click.IntRange(1000, 1_000_000), metavar="US", help="Period of --cpu-quota.")
@click.option("--cpu-quota", type=int, metavar="US", help="CPU time in each period; -1 for no limit.")
@click.option("--cpuset-cpus", metavar="LIST", help="Which CPUs, as in 0-2,4.")
@click.option("--cpuset-mems", metavar="LIST", help="Which memory nodes.")
@click.option("--pids-limit", type=int, metavar="N", help="Limit the number of processes; -1 for none.")
@click.option("--blkio-weight", type=click.IntRange(10, 1000), metavar="N", help="Its share when disks are busy.")
@click.option("--restart", metavar="POLICY", help="no, on-failure[:N], always, unless-stopped.")
@click.argument("containers", nargs=-1, required=True, shell_complete=completing.containers)
def update(containers: tuple[str, ...], **given: Any) -> int:
    """Change the limits and the restart policy of containers, while they run or not.

    \b
    Examples:
      wherry update -m 128m --cpus 0.5 web
      wherry update --restart always web db
    """
    from wherry.cli.container_options import parse_restart
    from wherry.engine.updating import update as change

    restart = parse_restart(given["restart"]) if given["restart"] else None
    resources = _resources(given)
    if not resources and restart is None:
        raise UsageError("nothing to change", hint="name a limit or --restart; see --help")
    engine = open_engine(settings())

    def work(name: str) -> None:
        change(engine.paths, engine.inspect(name), resources=resources, restart=restart)

    return each(containers, work)


def _resources(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of ``spec.container.Resources`` that the flags set."""
    from wherry.cli.container_options import parse_cpus

    if given["cpus"] and (given["cpu_quota"] is not None or given["cpu_period"] is not None):
        raise UsageError("--cpus and --cpu-quota or --cpu-period contradict each other")
    found: dict[str, Any] = {}
    for flag, field in (
        ("memory", "memory_bytes"),
        ("memory_reservation", "memory_reservation_bytes"),
        ("memory_swap", "memory_swap_bytes"),
    ):
        if given[flag]:
            text = given[flag]
            found[field] = -1 if text == "-1" else parse_size(text, where=f"--{flag.replace('_', '-')}")
    if given["cpus"]:
        found["milli_cpus"] = parse_cpus(given["cpus"])
    for flag, field in (
        ("cpu_shares", "cpu_shares"),
        ("cpu_period", "cpu_period_us"),
        ("cpu_quota", "cpu_quota_us"),
        ("cpuset_cpus", "cpuset_cpus"),
        ("cpuset_mems", "cpuset_mems"),
        ("pids_limit", "pids"),
        ("blkio_weight", "blkio_weight"),
    ):
        if given[flag] is not None:
            found[field] = given[flag]
    return found


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=TIME, label=KEY[=VALUE], label!=..."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(force: bool, filters: tuple[str, ...], as_json: bool) -> None:
    """Remove all containers that do not run.

    \b
    Examples:
      wherry container prune
      wherry container prune -f --filter until=24h
    """
    from wherry.cli.system import confirm, print_removed
    from wherry.engine.pruning import Filters, prune_containers

    wanted = Filters.parse(filters)
    confirm("This removes all containers that do not run.", force=force)
    done = prune_containers(open_engine(settings()), wanted)
    print_removed({"containers": done}, as_json=as_json)
