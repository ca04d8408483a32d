"""``wherry compose start``, ``stop`` and the other words for containers that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from wherry.cli.compose_context import chosen_members, engine_of, teller

_TIMEOUT = click.option("-t", "--timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
_SERVICES = click.argument("services", nargs=-1)


def _changing(services: tuple[str, ...], work: Callable[..., None], **options: Any) -> int:
    """Does something to containers, with the project's lock held."""
    from wherry.engine.compose.project import lock

    engine = engine_of(with_store=True)
    name, _ = chosen_members(engine, services)
    with lock(engine.paths, name):
        _, found = chosen_members(engine, services)
        work(engine, found, teller(), **options)
    return 0


@click.command()
@_TIMEOUT
@_SERVICES
def stop(services: tuple[str, ...], timeout: int | None) -> int:
    """Stop containers of a project; what depends on others first."""
    from wherry.engine.compose.down import stop as work

    return _changing(services, work, timeout_s=timeout)


@click.command()
@_SERVICES
def start(services: tuple[str, ...]) -> int:
    """Start containers that are there."""
    from wherry.engine.compose.down import start as work

    return _changing(services, work)


@click.command()
@click.option("--no-deps", is_flag=True, hidden=True, expose_value=False)
@_TIMEOUT
@_SERVICES
def restart(services: tuple[str, ...], timeout: int | None) -> int:
    """Stop and start containers of a project."""
    from wherry.engine.compose import down as life
    from wherry.engine.compose.project import members

    def work(engine: Any, found: Any, tell: Any) -> None:
        life.stop(engine, found, tell, timeout_s=timeout)
        ids = {member.info.id for member in found}
        name = found[0].info.labels["com.docker.compose.project"] if found else ""
        life.start(engine, [member for member in members(engine, name) if member.info.id in ids], tell)

    return _changing(services, work)


@click.command()
@click.option("-s", "--signal", "name", default="KILL", show_default=True, metavar="SIGNAL", help="Which signal.")
@_SERVICES
def kill(name: str, services: tuple[str, ...]) -> int:
    """Send a signal to containers of a project."""
    from wherry.engine.bundle import signal_number
    from wherry.engine.compose.down import kill as work

    return _changing(services, work, number=signal_number(name))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Accepted: nothing is asked.")
@click.option("-s", "--stop", "first", is_flag=True, help="Stop them first.")
@click.option("-v", "--volumes", is_flag=True, help="Accepted: anonymous volumes go with their container.")
@_SERVICES
def rm(services: tuple[str, ...], force: bool, first: bool, volumes: bool) -> int:
    """Remove containers of a project that do not run."""
    from wherry.engine.compose import down as life

    def work(engine: Any, found: Any, tell: Any) -> None:
        if first:
            life.stop(engine, found, tell)
        life.remove(engine, [member for member in found if first or not member.runs], tell)

    return _changing(services, work)


@click.command()
@_SERVICES
def pause(services: tuple[str, ...]) -> int:
    """Freeze all processes of a project."""
    from wherry.engine.pausing import pause as freeze

    def work(engine: Any, found: Any, tell: Any) -> None:
        for member in found:
            if member.info.status == "running":
                freeze(engine.paths, member.info)
                tell("Container", member.info.name, "Paused")

    return _changing(services, work)


@click.command()
@_SERVICES
def unpause(services: tuple[str, ...]) -> int:
    """Let a paused project run on."""
    from wherry.engine.pausing import unpause as let_run

    def work(engine: Any, found: Any, tell: Any) -> None:
        for member in found:
            if member.info.status == "paused":
                let_run(engine.paths, member.info)
                tell("Container", member.info.name, "Unpaused")

    return _changing(services, work)
