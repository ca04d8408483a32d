"""``run``, ``create`` and ``exec``: making containers, and what starts processes in them; docker's flags.

Imports of the engine are inside the functions: ``--help`` needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from wherry.cli import container_work
from wherry.cli.container_flags import EXEC_FLAGS, FLAGS, REFUSED, REFUSED_SWITCHES, RUN_FLAGS, Flag
from wherry.cli.container_work import create_container, execute, run_container, start_attached
from wherry.cli.context import Settings, settings
from wherry.cli.failing import EXIT_ENGINE, failing_as_docker
from wherry.core.errors import UsageError

if TYPE_CHECKING:
    from wherry.engine.engine import Engine

_OPTIONS_FIRST = {"allow_interspersed_args": False}
"""What stands after the image belongs to the container's command."""


def open_engine(current: Settings, *, with_store: bool = False) -> Engine:
    """Returns the engine of this call's settings.

    Args:
        current: the settings.
        with_store: whether images are needed.
    """
    return container_work.open_engine(str(current.root), str(current.run_root), with_store=with_store)


def with_flags(flags: Iterable[Flag]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds a table of flags to a command."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for flag in reversed(tuple(flags)):
            if not flag.metavar:
                option = click.option(*flag.names, flag.key, is_flag=True, help=flag.help)
            elif flag.many:
                option = click.option(*flag.names, flag.key, multiple=True, metavar=flag.metavar, help=flag.help)
            else:
                option = click.option(*flag.names, flag.key, default=flag.default, metavar=flag.metavar, help=flag.help)
            function = option(function)
        return function

    return add


class _DockersStatus(click.Command):
    """A command that ends with 125 where its line is wrong, as docker's do; 2 could be the container's own status."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the line."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(EXIT_ENGINE) from error
        except UsageError as error:
            error.exit_code = EXIT_ENGINE
            raise


def _spec_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags that ``run`` and ``create`` share, but for ``run``'s own."""
    function = click.argument("command", nargs=-1, type=click.UNPROCESSED)(function)
    function = click.argument("image")(function)
    for name, reason in REFUSED.items():
        function = _refused(name, reason)(function)
    return function


def _refused(name: str, reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def refuse(_context: click.Context, _parameter: click.Parameter, given: object) -> None:
        if given not in (None, False, ()):
            raise UsageError(f"{name} is not there: {reason}")

    switch = name in REFUSED_SWITCHES
    return click.option(name, is_flag=switch, multiple=not switch, hidden=True, expose_value=False, callback=refuse)


@click.command(cls=_DockersStatus, context_settings=_OPTIONS_FIRST)
@with_flags(RUN_FLAGS)
@_spec_options
def run(**given: Any) -> int:
    """Make a container from an image and start it.

    Its exit status is the command's; 125 when a flag is wrong or the engine failed, 126 when the command cannot be
    executed, 127 when it is not there. Ctrl-P Ctrl-Q leaves a terminal and the container running.

    \b
    Examples:
      wherry run --rm -it debian:12 sh
      wherry run -d --name web -p 8080:80 -v ./site:/www:ro busybox httpd -f -h /www
      wherry run --rm -m 64m --cpus 0.5 --network none busybox true
    """
    current = settings()

    def work() -> int:
        return run_container(open_engine(current, with_store=True), given)

    return failing_as_docker(work, debug=current.debug)


@click.command(cls=_DockersStatus, context_settings=_OPTIONS_FIRST)
@with_flags(FLAGS)
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
        print(create_container(open_engine(current, with_store=True), given))
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
                return start_attached(engine, info.id, interactive=interactive, tty=info.config.spec.tty)
            engine.start(name)
            print(name)
        return 0

    return failing_as_docker(work, debug=current.debug)


@click.command("exec", cls=_DockersStatus, context_settings=_OPTIONS_FIRST)
@with_flags(EXEC_FLAGS)
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(container: str, command: tuple[str, ...], **given: Any) -> int:
    """Run a command in a running container.

    Its exit status is the command's; 125 when a flag is wrong or the engine failed, 126 when the command cannot be
    executed, 127 when it is not there.

    \b
    Examples:
      wherry exec web ls /www
      wherry exec -it web sh
    """
    current = settings()
    return failing_as_docker(lambda: execute(open_engine(current), container, command, given), debug=current.debug)
