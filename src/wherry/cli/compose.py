"""``wherry compose``: projects of several containers from Compose files, by docker compose's words and options."""

from __future__ import annotations

import click

from wherry.cli.compose_build import build, push
from wherry.cli.compose_config import config
from wherry.cli.compose_context import Chosen
from wherry.cli.compose_life import kill, pause, restart, rm, start, stop, unpause
from wherry.cli.compose_look import events, images, logs, ls, port, ps, top, version, wait
from wherry.cli.compose_pull import pull
from wherry.cli.compose_run import exec_, run
from wherry.cli.compose_up import create, down, scale, up
from wherry.core.errors import UsageError

REFUSED = {
    "attach": "`wherry container attach` with the container's name does that",
    "commit": "`wherry container commit` with the container's name does that",
    "convert": "it is `wherry compose config`",
    "cp": "`wherry cp` with the container's name does that",
    "export": "`wherry export` with the container's name does that",
    "publish": "there is no registry of projects",
    "stats": "`wherry stats` with the containers' names does that",
    "volumes": "`wherry volume ls` does that",
    "watch": "sources are not watched; bind them with volumes:",
}
"""docker compose's commands that are not there -> why, and what to do."""


@click.group()
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="A Compose file (several: merged).")
@click.option("-p", "--project-name", "name", default="", metavar="NAME", help="The project's name.")
@click.option("--project-directory", "directory", default="", metavar="DIR", help="Where relative paths begin.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Turn on services of a profile; * for all.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Variables, in the place of .env.")
@click.option("--ansi", type=click.Choice(["auto", "never", "always"]), default="auto", help="When there are colours.")
@click.option(
    "--progress", type=click.Choice(["auto", "tty", "plain", "quiet"]), default="auto", help="How progress shows."
)
@click.option("--parallel", type=int, metavar="N", hidden=True, expose_value=False)
@click.pass_context
def compose(
    context: click.Context,
    files: tuple[str, ...],
    name: str,
    directory: str,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    ansi: str,
    progress: str,
) -> None:
    """Run projects of several containers, from Compose files.

    \b
    Examples:
      wherry compose up -d
      wherry compose -f compose.yaml -f test.yaml -p test up --wait
      wherry compose logs -f web
      wherry compose down -v
    """
    context.meta["wherry.compose"] = Chosen(
        files=files,
        name=name,
        directory=directory,
        profiles=profiles,
        env_files=env_files,
        ansi=ansi,
        progress=progress,
    )


def _refusing(word: str, reason: str) -> click.Command:
    def refuse(**_given: object) -> None:
        raise UsageError(f"compose {word} is not there: {reason}")

    command = click.Command(word, callback=refuse, hidden=True, context_settings={"ignore_unknown_options": True})
    command.params.append(click.Argument(["words"], nargs=-1, type=click.UNPROCESSED))
    return command


_COMMANDS = (up, down, ps, logs, config, create, start, stop, restart, kill, rm, run, pause, unpause, scale)
_MORE = (build, images, pull, push, top, port, events, ls, wait, version)
for _command in (*_COMMANDS, *_MORE):
    compose.add_command(_command)
compose.add_command(exec_, "exec")
for _word, _reason in REFUSED.items():
    compose.add_command(_refusing(_word, _reason))
