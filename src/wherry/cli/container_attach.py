"""``attach``: this terminal, or these streams, with a container that runs already; docker's flags."""

from __future__ import annotations

import sys

import click

from wherry.cli import completing
from wherry.cli.container_run import open_engine
from wherry.cli.container_work import terminal_fd
from wherry.cli.context import settings
from wherry.cli.failing import failing_as_docker
from wherry.cli.output import note


@click.command()
@click.option("--detach-keys", metavar="KEYS", help="What leaves it running (ctrl-p,ctrl-q); '' is nothing.")
@click.option("--no-stdin", is_flag=True, help="Hand no input on.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, show_default=True, help="Hand this process's signals on.")
@click.argument("container", shell_complete=completing.containers)
def attach(detach_keys: str | None, no_stdin: bool, sig_proxy: bool, container: str) -> int:
    """Show what a running container prints from now on, and hand input and signals on to it.

    Its exit status is the container's. The detach keys leave a terminal and the container running.

    \b
    Examples:
      wherry attach shell
      wherry attach --no-stdin --no-sig-proxy web
      wherry attach --detach-keys ctrl-a,d shell
    """
    current = settings()

    def work() -> int:
        from wherry.engine.person import Detached, parse_detach_keys

        keys = None if detach_keys is None else parse_detach_keys(detach_keys)
        engine = open_engine(current)
        sys.stdout.flush()
        try:
            return engine.attach(
                container,
                stdin_fd=None if no_stdin else 0,
                terminal_fd=terminal_fd(),
                detach_keys=keys,
                forward_signals=sig_proxy,
            )
        except Detached:
            note(f"\r\nleft {container} running")
            return 0

    return failing_as_docker(work, debug=current.debug)
