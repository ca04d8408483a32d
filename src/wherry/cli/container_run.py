"""``run``, ``create`` and ``exec``: making containers, and what starts processes in them; docker's flags.

Imports of the engine are inside the functions: ``--help`` needs none of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import Settings, settings
from wherry.cli.output import note
from wherry.core.durable import map_os_error
from wherry.core.errors import CannotInvoke, Conflict, NotFound, UsageError, WherryError
from wherry.core.units import parse_size

if TYPE_CHECKING:
    from wherry.engine.engine import Engine
    from wherry.engine.spec import ContainerSpec

EXIT_ENGINE = 125
_OPTIONS_FIRST = {"allow_interspersed_args": False}
"""What stands after the image belongs to the container's command."""


def open_engine(current: Settings, *, with_store: bool = False) -> Engine:
    """Returns the engine of this call's settings.

    Args:
        current: the settings.
        with_store: whether images are needed.
    """
    from wherry.engine.engine import Engine

    repo = None
    if with_store:
        from wherry.store.repository import Repository

        try:
            repo = Repository.open(current.root / "store")
        except NotFound:
            pass  # told when an image is asked for; a container with a root directory needs no store
    return Engine(current.root, current.run_root, repo)


def failing_as_docker(function: Callable[[], int], *, debug: bool) -> int:
    """Returns what `function` does; an error of the engine is 125, and of the command 126 or 127, as with docker."""
    try:
        return function()
    except UsageError:
        raise
    except WherryError as error:
        if debug:
            raise
        print(f"wherry: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CannotInvoke) else EXIT_ENGINE


def _spec_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags that ``run`` and ``create`` share."""
    options = (
        click.option("-i", "--interactive", is_flag=True, help="Keep standard input open."),
        click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
        click.option("--rm", is_flag=True, help="Remove the container when it has ended."),
        click.option("--name", default="", metavar="NAME", help="Its name; made up when missing."),
        click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable, or hand one down."),
        click.option("--env-file", multiple=True, metavar="FILE", help="Read variables from a file."),
        click.option("-v", "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Mount a path or a volume."),
        click.option("--mount", multiple=True, metavar="SPEC", help="Mount: type=bind|volume|tmpfs,source=,target=."),
        click.option("--tmpfs", multiple=True, metavar="DST[:OPTS]", help="Mount a tmpfs: size=64m,mode=1777."),
        click.option("--read-only", is_flag=True, help="Make the root file system read-only."),
        click.option("-p", "--publish", multiple=True, metavar="[IP:]HOST:CTR", help="Publish a port (/tcp, /udp)."),
        click.option(
            "--network",
            type=click.Choice(["bridge", "none", "host"]),
            default="bridge",
            show_default=True,
            help="Its network.",
        ),
        click.option("--network-alias", multiple=True, metavar="NAME", help="A further name for other containers."),
        click.option("-h", "--hostname", default="", metavar="NAME", help="Its host name."),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="Names of the image, or numbers."),
        click.option("-w", "--workdir", metavar="DIR", help="Its working directory."),
        click.option("--entrypoint", metavar="COMMAND", help="Replace the image's entrypoint."),
        click.option("--cap-add", multiple=True, metavar="CAP", help="Add a capability, or ALL."),
        click.option("--cap-drop", multiple=True, metavar="CAP", help="Drop a capability, or ALL."),
        click.option("--privileged", is_flag=True, help="All capabilities and devices, no filters."),
        click.option(
            "--security-opt",
            multiple=True,
            metavar="OPT",
            help="no-new-privileges=false or seccomp=unconfined.",
        ),
        click.option("-m", "--memory", metavar="SIZE", help="Limit memory, as in 64m."),
        click.option("--cpus", metavar="N", help="Limit CPU time, as in 1.5."),
        click.option("--pids-limit", type=int, metavar="N", help="Limit the number of processes."),
        click.option("--restart", default="no", metavar="POLICY", help="no, on-failure[:N], always, unless-stopped."),
        click.option("--health-cmd", metavar="COMMAND", help="A shell command that tells whether it is well."),
        click.option("--health-interval", metavar="TIME", help="Time between two checks (30s)."),
        click.option("--health-timeout", metavar="TIME", help="Time that a check may take (30s)."),
        click.option("--health-retries", type=click.IntRange(1), metavar="N", help="Failures until unhealthy (3)."),
        click.option("--health-start-period", metavar="TIME", help="Time in which failures do not count."),
        click.option("--no-healthcheck", is_flag=True, help="Do not run the image's check."),
        click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Label the container."),
        click.option("--log-opt", multiple=True, metavar="KEY=VALUE", help="max-size=10m, max-file=3."),
        click.option("--stop-signal", default="", metavar="SIGNAL", help="Signal that ends it (SIGTERM)."),
        click.option("--stop-timeout", type=click.IntRange(0), metavar="S", help="Seconds until SIGKILL (10)."),
        click.option("--rootfs", is_flag=True, help="IMAGE is a directory to run from; it is not written to."),
        click.option("--cidfile", type=click.Path(), metavar="FILE", help="Write the container's id to a file."),
        click.argument("image"),
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
    )
    for option in reversed(options):
        function = option(function)
    return function


def make_source(path: str) -> None:
    """Makes the directory of a ``-v`` that is not there, as docker does."""
    if not os.path.exists(path):
        try:
            os.makedirs(path)
        except OSError as error:
            raise map_os_error(error, "cannot make the source of a mount", where=path) from error


def _spec(given: dict[str, Any]) -> ContainerSpec:
    """Returns the request that the flags make."""
    from wherry.cli import container_options as parse
    from wherry.engine.spec import DEFAULT_STOP_TIMEOUT_S, ContainerSpec
    from wherry.spec.container import MountType, Resources

    cwd = Path.cwd()
    volumes = [parse.parse_volume(text, cwd=cwd) for text in given["volume"]]
    for mount in volumes:
        if mount.type == MountType.BIND:
            make_source(mount.source)
    no_new_privileges, seccomp = parse.parse_security(given["security_opt"])
    entrypoint = given["entrypoint"]
    return ContainerSpec(
        image="" if given["rootfs"] else given["image"],
        rootfs=os.path.abspath(given["image"]) if given["rootfs"] else "",
        name=given["name"],
        args=given["command"] or None,
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        env=parse.parse_env(given["env"], given["env_file"], os.environ),
        mounts=(
            *volumes,
            *(parse.parse_mount(text, cwd=cwd) for text in given["mount"]),
            *(parse.parse_tmpfs(text) for text in given["tmpfs"]),
        ),
        ports=tuple(parse.parse_port(text) for text in given["publish"]),
        network=given["network"],
        aliases=given["network_alias"],
        hostname=given["hostname"],
        resources=Resources(
            memory_bytes=parse_size(given["memory"], where="--memory") if given["memory"] else None,
            milli_cpus=parse.parse_cpus(given["cpus"]) if given["cpus"] else None,
            pids=given["pids_limit"],
        ),
        cap_add=given["cap_add"],
        cap_drop=given["cap_drop"],
        privileged=given["privileged"],
        no_new_privileges=no_new_privileges,
        seccomp=seccomp,
        user=given["user"],
        working_dir=given["workdir"],
        read_only=given["read_only"],
        restart=parse.parse_restart(given["restart"]),
        healthcheck=parse.health_check(
            given["health_cmd"],
            off=given["no_healthcheck"],
            interval=given["health_interval"],
            timeout=given["health_timeout"],
            retries=given["health_retries"],
            start_period=given["health_start_period"],
        ),
        labels=parse.parse_labels(given["label"]),
        tty=given["tty"],
        stdin_open=given["interactive"],
        log=parse.parse_log_options(given["log_opt"]),
        stop_signal=given["stop_signal"],
        stop_timeout_s=DEFAULT_STOP_TIMEOUT_S if given["stop_timeout"] is None else given["stop_timeout"],
        rm=given["rm"],
    )


def _create(engine: Engine, given: dict[str, Any]) -> str:
    cidfile = given["cidfile"]
    if cidfile and os.path.exists(cidfile):
        raise Conflict("the file for the container's id is there already", where=cidfile, hint="remove it first")
    info = engine.create(_spec(given))
    if cidfile:
        Path(cidfile).write_text(info.id)
    return info.id


def terminal_fd() -> int | None:
    """Returns the descriptor of the person's terminal, or None without one."""
    return next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)


@click.command(context_settings=_OPTIONS_FIRST)
@click.option("-d", "--detach", is_flag=True, help="Print the container's id and come back.")
@_spec_options
def run(detach: bool, **given: Any) -> int:
    """Make a container from an image and start it.

    Its exit status is the command's; 125 when the engine failed, 126 when the command cannot be executed, 127 when
    it is not there. Ctrl-P Ctrl-Q leaves a terminal and the container running.

    \b
    Examples:
      wherry run --rm -it debian:12 sh
      wherry run -d --name web -p 8080:80 -v ./site:/www:ro busybox httpd -f -h /www
      wherry run --rm -m 64m --cpus 0.5 --network none busybox true
    """
    current = settings()

    def work() -> int:
        engine = open_engine(current, with_store=True)
        container_id = _create(engine, given)
        if detach:
            engine.start(container_id)
            print(container_id)
            return 0
        return _start_attached(engine, container_id, interactive=given["interactive"], tty=given["tty"])

    return failing_as_docker(work, debug=current.debug)


def _start_attached(engine: Engine, container_id: str, *, interactive: bool, tty: bool) -> int:
    from wherry.engine.attach import Detached

    sys.stdout.flush()
    try:
        return engine.start_attached(
            container_id,
            stdin_fd=0 if interactive else None,
            stdout_fd=1,
            stderr_fd=2,
            terminal_fd=terminal_fd() if tty else None,
        )
    except Detached:
        note(f"\r\nleft {container_id[:12]} running")
        return 0


@click.command(context_settings=_OPTIONS_FIRST)
@_spec_options
def create(**given: Any) -> int:
    """Make a container and print its id; start nothing.

    \b
    Examples:
      wherry container create --name web -p 8080:80 busybox httpd -f
      wherry container start web
    """
    current = settings()

    def work() -> int:
        print(_create(open_engine(current, with_store=True), given))
        return 0

    return failing_as_docker(work, debug=current.debug)


@click.command()
@click.option("-a", "--attach", is_flag=True, help="Stay with it: output, signals and exit status.")
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on; implies --attach.")
@click.argument("containers", nargs=-1, required=True)
def start(attach: bool, interactive: bool, containers: tuple[str, ...]) -> int:
    """Start containers that are there.

    \b
    Examples:
      wherry container start web db
      wherry container start -ai shell
    """
    current = settings()
    attach = attach or interactive
    if attach and len(containers) > 1:
        raise UsageError("--attach is for one container")

    def work() -> int:
        engine = open_engine(current, with_store=True)
        for name in containers:
            if attach:
                info = engine.inspect(name)
                return _start_attached(engine, info.id, interactive=interactive, tty=info.config.spec.tty)
            engine.start(name)
            print(name)
        return 0

    return failing_as_docker(work, debug=current.debug)


@click.command("exec", context_settings=_OPTIONS_FIRST)
@click.option("-d", "--detach", is_flag=True, help="Come back when it runs.")
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable, or hand one down.")
@click.option("--env-file", multiple=True, metavar="FILE", help="Read variables from a file.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Names of the image, or numbers.")
@click.option("-w", "--workdir", metavar="DIR", help="Its working directory.")
@click.option("--privileged", is_flag=True, help="With all capabilities.")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(
    detach: bool,
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    privileged: bool,
    container: str,
    command: tuple[str, ...],
) -> int:
    """Run a command in a running container.

    Its exit status is the command's; 125 when the engine failed, 126 when the command cannot be executed, 127 when
    it is not there.

    \b
    Examples:
      wherry exec web ls /www
      wherry exec -it web sh
    """
    current = settings()

    def work() -> int:
        from wherry.cli.container_options import parse_env

        options: dict[str, Any] = {
            "env": parse_env(env, env_file, os.environ),
            "user": user,
            "working_dir": workdir,
            "privileged": privileged,
            "tty": tty,
        }
        engine = open_engine(current)
        if detach:
            engine.exec_detached(container, command, **options)
            return 0
        sys.stdout.flush()
        return engine.exec(
            container,
            command,
            stdin_fd=0 if interactive else None,
            terminal_fd=terminal_fd() if tty else None,
            **options,
        )

    return failing_as_docker(work, debug=current.debug)
