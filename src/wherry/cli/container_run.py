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

from wherry.cli.container_flags import FLAGS, REFUSED, REFUSED_SWITCHES
from wherry.cli.context import Settings, settings
from wherry.cli.output import note
from wherry.core.durable import map_os_error
from wherry.core.errors import CannotInvoke, Conflict, NotFound, UsageError, WherryError

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
    function = click.argument("command", nargs=-1, type=click.UNPROCESSED)(function)
    function = click.argument("image")(function)
    for name, reason in REFUSED.items():
        function = _refused(name, reason)(function)
    for flag in reversed(FLAGS):
        if not flag.metavar:
            option = click.option(*flag.names, flag.key, is_flag=True, help=flag.help)
        elif flag.many:
            option = click.option(*flag.names, flag.key, multiple=True, metavar=flag.metavar, help=flag.help)
        else:
            # an entrypoint may be taken away by an empty word
            default = None if flag.key == "entrypoint" else ""
            option = click.option(*flag.names, flag.key, default=default, metavar=flag.metavar, help=flag.help)
        function = option(function)
    return function


def _refused(name: str, reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def refuse(_context: click.Context, _parameter: click.Parameter, given: object) -> None:
        if given not in (None, False, ()):
            raise UsageError(f"{name} is not there: {reason}")

    switch = name in REFUSED_SWITCHES
    return click.option(name, is_flag=switch, multiple=not switch, hidden=True, expose_value=False, callback=refuse)


def make_source(path: str) -> None:
    """Makes the directory of a ``-v`` that is not there, as docker does."""
    if not os.path.exists(path):
        try:
            os.makedirs(path)
        except OSError as error:
            raise map_os_error(error, "cannot make the source of a mount", where=path) from error


def _create(engine: Engine, given: dict[str, Any]) -> str:
    from wherry.cli import container_spec
    from wherry.spec.container import MountType

    container_spec.check_pull(given["pull"])
    spec = container_spec.build(given, os.environ, cwd=os.getcwd())
    if given["secret"]:
        spec = _with_secrets(engine, spec, given["secret"])
    if given["volumes_from"]:
        from wherry.engine.inheriting import with_volumes_from

        spec = with_volumes_from(engine.paths, spec, given["volumes_from"])
    cidfile = given["cidfile"]
    if cidfile and os.path.exists(cidfile):
        raise Conflict("the file for the container's id is there already", where=cidfile, hint="remove it first")
    for mount in spec.mounts[: len(given["volume"])]:
        if mount.type == MountType.BIND:
            make_source(mount.source)
    info = engine.create(spec)
    if cidfile:
        Path(cidfile).write_text(info.id)
    return info.id


def _with_secrets(engine: Engine, spec: ContainerSpec, words: tuple[str, ...]) -> ContainerSpec:
    from wherry.cli.container_mounts import parse_secret
    from wherry.core.value import replace
    from wherry.engine import secrets
    from wherry.spec.container import Mount, MountType

    found = []
    for name, target in map(parse_secret, words):
        source = str(secrets.path(engine.paths, name))
        found.append(Mount(type=MountType.BIND, source=source, target=target, read_only=True))
    return replace(spec, mounts=(*spec.mounts, *found))


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
        from wherry.cli import container_options

        streams = container_options.parse_attach(given["attach"])
        if streams and detach:
            raise UsageError("-d and -a are two ways", hint="leave out one of them")
        engine = open_engine(current, with_store=True)
        container_id = _create(engine, given)
        if detach:
            engine.start(container_id)
            print(container_id)
            return 0
        keys = container_options.parse_keys(given["detach_keys"]) if given["detach_keys"] else None
        return _start_attached(
            engine, container_id, interactive=given["interactive"], tty=given["tty"], streams=streams, keys=keys
        )

    return failing_as_docker(work, debug=current.debug)


def _start_attached(
    engine: Engine,
    container_id: str,
    *,
    interactive: bool,
    tty: bool,
    streams: frozenset[str] = frozenset(),
    keys: bytes | None = None,
) -> int:
    from wherry.engine.person import Detached

    sys.stdout.flush()
    null_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if streams else -1
    try:
        return engine.start_attached(
            container_id,
            stdin_fd=0 if interactive else None,
            stdout_fd=1 if not streams or "stdout" in streams else null_fd,
            stderr_fd=2 if not streams or "stderr" in streams else null_fd,
            terminal_fd=terminal_fd() if tty else None,
            detach_keys=keys,
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
