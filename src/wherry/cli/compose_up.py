"""``wherry compose up``, ``create``, ``scale`` and ``down``: what makes a project so, and what takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wherry.cli.compose_context import (
    engine_of,
    load_project,
    parse_scale,
    project_or_name,
    teller,
)
from wherry.cli.compose_pull import BUILD, PULL, QUIET_PULL, provide_images
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.engine.compose.model import Project
    from wherry.engine.compose.up import Wish
    from wherry.engine.engine import Engine

_TIMEOUT = click.option("-t", "--timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL.")
_SERVICES = click.argument("services", nargs=-1)


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Come back when all runs.")
@click.option("--wait", is_flag=True, help="Come back when all runs and is healthy; implies --detach.")
@click.option("--wait-timeout", type=click.IntRange(1), metavar="S", help="How long --wait may take.")
@click.option("--force-recreate", is_flag=True, help="Make containers anew that are as they should be.")
@click.option("--always-recreate-deps", is_flag=True, help="With --force-recreate: dependencies, too.")
@click.option("--no-recreate", is_flag=True, help="Leave containers that are there as they are.")
@click.option("-V", "--renew-anon-volumes", is_flag=True, help="Give new containers empty anonymous volumes.")
@click.option(
    "--remove-orphans", is_flag=True, envvar="COMPOSE_REMOVE_ORPHANS", help="Remove containers of no service."
)
@click.option("--no-deps", is_flag=True, help="Do not start what the services depend on.")
@click.option("--no-start", is_flag=True, help="Make, and do not start.")
@click.option("--scale", multiple=True, metavar="SERVICE=N", help="How many containers a service has.")
@click.option("--abort-on-container-exit", is_flag=True, help="Stop all when one has ended.")
@click.option("--abort-on-container-failure", is_flag=True, help="Stop all when one has ended badly.")
@click.option("--exit-code-from", metavar="SERVICE", help="End with its status; implies --abort-on-container-exit.")
@click.option("--attach", multiple=True, metavar="SERVICE", help="Show the output of these alone.")
@click.option("--no-attach", multiple=True, metavar="SERVICE", help="Do not show the output of these.")
@click.option("--timestamps", is_flag=True, help="Put the time before each line.")
@click.option("--no-color", is_flag=True, help="No colours.")
@click.option("--no-log-prefix", is_flag=True, help="No name before a line.")
@_TIMEOUT
@PULL
@QUIET_PULL
@BUILD
@_SERVICES
def up(services: tuple[str, ...], **given: Any) -> int:
    """Make the containers of a project so, and start them in the order of their dependencies.

    Without -d their output is shown; Ctrl-C stops them, a second one kills them.

    \b
    Examples:
      wherry compose up -d
      wherry compose up --wait --wait-timeout 60 web
      wherry compose up --scale worker=3 --remove-orphans
    """
    from wherry.engine.compose.up import Wish

    if given["force_recreate"] and given["no_recreate"]:
        raise UsageError("--force-recreate and --no-recreate do not go together")
    detached = given["detach"] or given["wait"] or given["no_start"]
    abort = bool(given["abort_on_container_exit"] or given["abort_on_container_failure"] or given["exit_code_from"])
    if detached and abort:
        raise UsageError("--abort-on-container-exit and -d do not go together", hint="leave one of them out")
    project = load_project(services)
    engine = engine_of(with_store=True)
    provide_images(
        engine,
        project,
        services,
        policy=given["pull"],
        dependencies_too=not given["no_deps"],
        build=given["build"],
        quiet=given["quiet_pull"],
    )
    wish = Wish(
        services=services,
        with_dependencies=not given["no_deps"],
        force_recreate=given["force_recreate"],
        always_recreate_dependencies=given["always_recreate_deps"],
        recreate=not given["no_recreate"],
        renew_anonymous_volumes=given["renew_anon_volumes"],
        remove_orphans=given["remove_orphans"],
        start=not given["no_start"],
        scale=parse_scale(given["scale"]),
        timeout_s=given["timeout"],
    )
    if detached:
        return _detached(engine, project, wish, wait=given["wait"], wait_timeout_s=given["wait_timeout"])
    from wherry.cli.compose_attached import Attached

    return Attached(engine, project, wish, given).run()


def _detached(engine: Engine, project: Project, wish: Wish, *, wait: bool, wait_timeout_s: int | None) -> int:
    from wherry.engine.compose import waiting
    from wherry.engine.compose.project import lock
    from wherry.engine.compose.up import up as make

    tell = teller()
    with lock(engine.paths, project.name):
        found = make(engine, project, wish, tell)
    if wait:
        for member in found:
            tell("Container", member.info.name, "Waiting")
        waiting.until_ready(engine, found, wait_timeout_s)
        for member in found:
            tell("Container", member.info.name, "Healthy" if member.info.config.healthcheck else "Running")
    return 0


@click.command()
@click.option("--force-recreate", is_flag=True, help="Make containers anew that are as they should be.")
@click.option("--no-recreate", is_flag=True, help="Leave containers that are there as they are.")
@click.option("--remove-orphans", is_flag=True, help="Remove containers of no service.")
@click.option("--scale", multiple=True, metavar="SERVICE=N", help="How many containers a service has.")
@PULL
@QUIET_PULL
@BUILD
@_SERVICES
def create(services: tuple[str, ...], **given: Any) -> int:
    """Make the containers of a project; start nothing."""
    from wherry.engine.compose.up import Wish

    wish = Wish(
        services=services,
        force_recreate=given["force_recreate"],
        recreate=not given["no_recreate"],
        remove_orphans=given["remove_orphans"],
        scale=parse_scale(given["scale"]),
        start=False,
    )
    engine, project = engine_of(with_store=True), load_project(services)
    provide_images(engine, project, services, policy=given["pull"], build=given["build"], quiet=given["quiet_pull"])
    return _detached(engine, project, wish, wait=False, wait_timeout_s=None)


@click.command()
@click.option("--no-deps", is_flag=True, help="Do not start what the services depend on.")
@click.argument("scales", nargs=-1, required=True, metavar="SERVICE=N...")
def scale(no_deps: bool, scales: tuple[str, ...]) -> int:
    """Change how many containers services have.

    \b
    Examples:
      wherry compose scale worker=3
    """
    from wherry.engine.compose.up import Wish

    wanted = parse_scale(scales)
    wish = Wish(services=tuple(wanted), scale=wanted, with_dependencies=not no_deps, recreate=False)
    project = load_project(wanted)
    engine = engine_of(with_store=True)
    provide_images(engine, project, tuple(wanted), dependencies_too=not no_deps)
    return _detached(engine, project, wish, wait=False, wait_timeout_s=None)


@click.command()
@click.option("-v", "--volumes", is_flag=True, help="Remove the project's named volumes, with their data.")
@click.option(
    "--remove-orphans", is_flag=True, envvar="COMPOSE_REMOVE_ORPHANS", help="Remove containers of no service."
)
@click.option(
    "--rmi", type=click.Choice(["all", "local"]), help="Remove images, too: all, or those built without image:."
)
@_TIMEOUT
@_SERVICES
def down(services: tuple[str, ...], volumes: bool, remove_orphans: bool, rmi: str | None, timeout: int | None) -> int:
    """Stop and remove a project: its containers and networks.

    \b
    Examples:
      wherry compose down
      wherry compose -p shop down -v
    """
    from wherry.engine.compose.down import down as take_away
    from wherry.engine.compose.project import Member, lock

    name, project = project_or_name(services)
    engine = engine_of()
    known = {*project.services, *project.disabled} if project is not None else set()

    def keep(member: Member) -> bool:
        if services:
            return member.service not in services
        return project is not None and not remove_orphans and not member.one_off and member.service not in known

    with lock(engine.paths, name):
        take_away(engine, name, teller(), keep=keep, with_volumes=volumes, timeout_s=timeout)
    if rmi and project is not None:
        _remove_images(project, services, built_only=rmi == "local")
    return 0


def _remove_images(project: Project, services: tuple[str, ...], *, built_only: bool) -> None:
    from wherry.cli.image_remove import remove
    from wherry.core.errors import NotFound
    from wherry.engine.compose.wanted import wanted_images

    tell = teller()
    for each in wanted_images(project, services, dependencies_too=False):
        if built_only and each.elsewhere:
            continue
        for failure in remove([each.image], tell=lambda name: tell("Image", name, "Removed")):
            if not isinstance(failure, NotFound):
                tell("Image", each.image, "In use")
