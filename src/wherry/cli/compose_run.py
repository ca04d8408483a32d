"""``wherry compose run`` and ``exec``: further commands in a project's containers, and in one more of them."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from wherry.cli.compose_context import engine_of, load_project, one_member, teller
from wherry.cli.compose_pull import BUILD, PULL, QUIET_PULL, provide_images
from wherry.cli.container_work import terminal_fd
from wherry.cli.context import settings
from wherry.cli.failing import failing_as_docker
from wherry.cli.output import note
from wherry.core.errors import UsageError

_OPTIONS_FIRST = {"allow_interspersed_args": False}


@click.command("exec", context_settings=_OPTIONS_FIRST)
@click.option("-d", "--detach", is_flag=True, help="Come back when it runs.")
@click.option("-T", "--no-TTY", "no_tty", is_flag=True, help="No terminal, also where there is one.")
@click.option("-i", "--interactive/--no-interactive", default=True, hidden=True)
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable, or hand one down.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Names of the image, or numbers.")
@click.option("-w", "--workdir", metavar="DIR", help="Its working directory.")
@click.option("--privileged", is_flag=True, help="With all capabilities.")
@click.option("--index", type=click.IntRange(1), metavar="N", help="The container with this number.")
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(service: str, command: tuple[str, ...], **given: Any) -> int:
    """Run a command in a service's container; with a terminal where there is one.

    \b
    Examples:
      wherry compose exec web sh
      wherry compose exec -T db pg_dump shop > shop.sql
    """
    current = settings()

    def work() -> int:
        from wherry.cli.container_options import parse_env

        engine = engine_of()
        member = one_member(engine, service, given["index"])
        tty = not given["no_tty"] and not given["detach"] and os.isatty(0) and os.isatty(1)
        options: dict[str, Any] = {
            "env": parse_env(given["env"], (), os.environ),
            "user": given["user"],
            "working_dir": given["workdir"],
            "privileged": given["privileged"],
            "tty": tty,
        }
        if given["detach"]:
            engine.exec_detached(member.info.id, command, **options)
            return 0
        from wherry.engine.person import Detached

        sys.stdout.flush()
        try:
            return engine.exec(
                member.info.id,
                command,
                stdin_fd=0 if given["interactive"] else None,
                terminal_fd=terminal_fd() if tty else None,
                **options,
            )
        except Detached:
            note(f"\r\nleft {command[0]} running in {member.info.name}")
            return 0

    return failing_as_docker(work, debug=current.debug)


@click.command(context_settings=_OPTIONS_FIRST)
@click.option("-d", "--detach", is_flag=True, help="Print the container's name and come back.")
@click.option("--rm", is_flag=True, help="Remove the container when it has ended.")
@click.option("--name", default="", metavar="NAME", help="Its name; made up when missing.")
@click.option("--no-deps", is_flag=True, help="Do not start what the service depends on.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the service's ports.")
@click.option("-p", "--publish", multiple=True, metavar="[IP:]HOST:CTR", help="Publish a port.")
@click.option("--use-aliases", is_flag=True, help="Let others find it by the service's names.")
@click.option("-T", "--no-TTY", "no_tty", is_flag=True, help="No terminal, also where there is one.")
@click.option("-i", "--interactive/--no-interactive", default=True, hidden=True)
@click.option("-t", "--tty", is_flag=True, hidden=True)
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable, or hand one down.")
@click.option("--env-from-file", multiple=True, metavar="FILE", help="Read variables from a file.")
@click.option("-v", "--volume", multiple=True, metavar="SRC:DST[:OPTS]", help="Mount a path or a volume.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Names of the image, or numbers.")
@click.option("-w", "--workdir", metavar="DIR", help="Its working directory.")
@click.option("--entrypoint", metavar="COMMAND", help="Replace the entrypoint.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Label the container.")
@click.option("--cap-add", multiple=True, metavar="CAP", help="Add a capability.")
@click.option("--cap-drop", multiple=True, metavar="CAP", help="Drop a capability.")
@click.option("--remove-orphans", is_flag=True, help="Remove containers of no service.")
@PULL
@QUIET_PULL
@BUILD
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(service: str, command: tuple[str, ...], **given: Any) -> int:
    """Run a command in one more container of a service, after what it depends on.

    \b
    Examples:
      wherry compose run --rm web sh -c 'echo $HOSTNAME'
      wherry compose run --rm --no-deps -e DEBUG=1 worker ./migrate
    """
    current = settings()
    project = load_project((service,))
    if service not in project.services:
        raise UsageError(f"no service {service!r}", hint=f"there are: {', '.join(sorted(project.services))}")

    def work() -> int:
        import shlex

        from wherry.cli.container_mounts import parse_volume
        from wherry.cli.container_network_options import parse_publish
        from wherry.cli.container_options import parse_env, parse_labels
        from wherry.core.value import replace
        from wherry.engine.compose.model import dependencies
        from wherry.engine.compose.project import lock
        from wherry.engine.compose.provide import provide
        from wherry.engine.compose.up import Wish, one_off_spec, up
        from wherry.engine.person import Detached
        from wherry.spec.container import RestartPolicy

        engine = engine_of(with_store=True)
        provide_images(
            engine,
            project,
            (service,),
            policy=given["pull"],
            dependencies_too=not given["no_deps"],
            build=given["build"],
            quiet=given["quiet_pull"],
        )
        tell = teller()
        with lock(engine.paths, project.name):
            waits = tuple(name for name in dependencies(project.services[service]) if name in project.services)
            if waits and not given["no_deps"]:
                up(engine, project, Wish(services=waits, remove_orphans=given["remove_orphans"]), tell)
            provide(engine.paths, project, (service,), tell)
            tty = not given["no_tty"] and not given["detach"] and os.isatty(0) and os.isatty(1)
            ports = tuple(port for text in given["publish"] for port in parse_publish(text))
            entrypoint = given["entrypoint"]
            base = one_off_spec(engine, project, service, {"labels": parse_labels(given["label"])})
            env = parse_env(given["env"], given["env_from_file"], os.environ)
            mounts = tuple(parse_volume(text, cwd=os.getcwd()) for text in given["volume"])
            places = {mount.target for mount in mounts}
            networks = base.networks
            if not given["use_aliases"]:
                networks = tuple(replace(item, aliases=()) for item in networks)
            args = tuple(command) or (None if entrypoint is not None else base.args)
            changes = {
                "name": given["name"] or f"{project.name}-{service}-run-{os.urandom(6).hex()}",
                "args": args,
                "entrypoint": tuple(shlex.split(entrypoint)) if entrypoint is not None else base.entrypoint,
                "env": {**base.env, **env},
                "mounts": (*(mount for mount in base.mounts if mount.target not in places), *mounts),
                "ports": ((*base.ports, *ports) if given["service_ports"] else ports),
                "networks": networks,
                "user": given["user"] or base.user,
                "working_dir": given["workdir"] or base.working_dir,
                "cap_add": (*base.cap_add, *given["cap_add"]),
                "cap_drop": (*base.cap_drop, *given["cap_drop"]),
                "tty": tty,
                "stdin_open": given["interactive"] and not given["detach"],
                "restart": RestartPolicy(),
                "rm": given["rm"],
            }
            info = engine.create(replace(base, **changes))
        if given["detach"]:
            engine.start(info.id)
            print(info.name)
            return 0
        sys.stdout.flush()
        try:
            return engine.start_attached(
                info.id,
                stdin_fd=0 if given["interactive"] else None,
                stdout_fd=1,
                stderr_fd=2,
                terminal_fd=terminal_fd() if tty else None,
            )
        except Detached:
            note(f"\r\nleft {info.name} running")
            return 0

    return failing_as_docker(work, debug=current.debug)
