"""``wherry store``: OSTree's words and options on a repository. Each command's module is imported when it is called.

A script that was written for ``ostree`` runs when ``ostree`` is an alias of ``wherry store``: an error is one line
``error: ...`` and the exit status 1 whatever it is, as ``ostree`` has it, not one of the exit codes of other commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wherry.cli.context import settings
from wherry.core.durable import map_os_error
from wherry.core.errors import UsageError, WherryError
from wherry.version import __version__

if TYPE_CHECKING:
    from wherry.store.repository import Repository

# word: (module, attribute, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("store_write", "init", "Make a repository."),
    "commit": ("store_write", "commit", "Commit a directory, or another commit's tree."),
    "checkout": ("store_write", "checkout", "Lay a commit out as a directory."),
    "ls": ("store_read", "ls", "List the files of a commit."),
    "cat": ("store_read", "cat", "Print files of a commit."),
    "log": ("store_read", "log", "Show a commit and its parents."),
    "show": ("store_read", "show", "Show one commit or object."),
    "diff": ("store_read", "diff", "Compare commits and directories."),
    "refs": ("store_refs", "refs", "List, make and delete refs."),
    "rev-parse": ("store_refs", "rev_parse", "Print the commit that a revision names."),
    "fsck": ("store_care", "fsck", "Check every object."),
    "prune": ("store_care", "prune", "Remove what nothing needs any more."),
    "summary": ("store_care", "summary", "Write or show the summary that a remote reads."),
    "pull": ("store_pull", "pull", "Fetch commits from a remote over HTTP."),
    "pull-local": ("store_pull", "pull_local", "Copy commits from another repository."),
    "remote": ("store_pull", "remote", "Name the repositories to pull from."),
}
FEATURES = ("sign-ed25519",)
_REPO_KEY = "wherry.store.repo"
F = TypeVar("F", bound=Callable[..., Any])


class StoreGroup(click.Group):
    """Finds its commands in the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns every word, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found = getattr(import_module(f"wherry.cli.{module}"), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; tells an error in ostree's way."""
        try:
            return super().invoke(ctx)
        except (WherryError, click.UsageError, OSError) as error:
            if settings().debug or isinstance(error, BrokenPipeError):
                raise
            if isinstance(error, click.UsageError):
                text = error.format_message()
                if error.ctx is not None:
                    print(error.ctx.get_usage(), file=sys.stderr)
            else:
                text = str(
                    map_os_error(error, "the system says no", where=error.filename)
                    if isinstance(error, OSError)
                    else error
                )
            print(f"error: {text}", file=sys.stderr)
            raise click.exceptions.Exit(1) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table from its own lines of help."""
        with formatter.section("Commands"):
            formatter.write_dl([(word, text) for word, (_, _, text) in COMMANDS.items()])


_EPILOG = """\b
Examples:
  wherry store init --repo=repo --mode=archive
  wherry store commit --repo=repo -b os/main -s "first" rootfs/
  wherry store ls -R --repo=repo os/main /etc
  wherry store --repo=repo fsck

The real `ostree` reads and writes the same repositories."""


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Prints the version as ``ostree --version`` does: YAML, with the features that scripts look for."""
    if not value or ctx.resilient_parsing:
        return
    print(f"wherry store:\n Version: '{__version__}'\n Features:")
    for feature in FEATURES:
        print(f"  - {feature}")
    ctx.exit()


@click.group(cls=StoreGroup, epilog=_EPILOG)
@click.option("--repo", "repo_path", metavar="PATH", help="The repository; may stand behind the command's word too.")
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show version."
)
@click.pass_context
def store(ctx: click.Context, repo_path: str | None) -> None:
    """The content-addressed repository (OSTree's format)."""
    ctx.meta[_REPO_KEY] = repo_path


def repo_option(function: F) -> F:
    """Adds ``--repo`` to a command."""
    return click.option(
        "--repo",
        "repo_path",
        metavar="PATH",
        help="The repository. Without it: $OSTREE_REPO, this folder if it is one, else this machine's store.",
    )(function)


def repo_place(repo_path: str | None, *, new: bool = False) -> Path:
    """Returns the path of the repository that the command line, the environment or the place means.

    Args:
        repo_path: the command's own ``--repo``.
        new: whether it is to be made: then it must be named.

    Raises:
        UsageError: none is meant.
    """
    named = repo_path or click.get_current_context().meta.get(_REPO_KEY) or os.environ.get("OSTREE_REPO")
    if named:
        return Path(named)
    here = Path()
    if (here / "objects").is_dir() and (here / "config").is_file():
        return here
    machine = settings().root / "store"
    if not new and (machine / "config").is_file():
        return machine
    raise UsageError("no repository is named", hint="give --repo=PATH, or set OSTREE_REPO")


def open_repo(repo_path: str | None) -> Repository:
    """Opens the repository that is meant."""
    from wherry.store.repository import Repository

    return Repository.open(repo_place(repo_path))


def split_pair(text: str, option: str) -> tuple[str, str]:
    """Returns the halves of ``KEY=VALUE``.

    Raises:
        UsageError: there is no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{option} is not KEY=VALUE: {text!r}")
    return key, value


def parse_time(text: str, option: str) -> int:
    """Returns seconds since 1970 for ``@SECONDS`` or ISO 8601 (local time when it names no zone).

    Raises:
        UsageError: it is neither.
    """
    from datetime import datetime

    try:
        if text.startswith("@"):
            return int(text[1:])
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        raise UsageError(f"{option} is no time: {text!r}", hint="write @SECONDS or 2025-01-31T12:00:00Z") from None
