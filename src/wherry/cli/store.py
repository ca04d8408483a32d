"""``wherry store``: OSTree's words and options on a repository. Each command's module is imported when it is called.

A script that was written for ``ostree`` runs when ``ostree`` is an alias of ``wherry store``: an error is one line
``error: ...`` and the exit status 1 whatever it is, as ``ostree`` has it, not one of the exit codes of other commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "cat": ("store_read", "cat", "Print files of a commit."),
    "checkout": ("store_checkout", "checkout", "Lay a commit out as a directory."),
    "checksum": ("store_read", "checksum", "Print the checksum of a file on disk."),
    "commit": ("store_commit", "commit", "Commit directories, archives, other commits."),
    "config": ("store_config", "config", "Get, set or unset a key of the config."),
    "create-usb": ("store_usb", "create_usb", "Copy refs to a disk that is carried around."),
    "delta": ("store_device_delta", "delta", "Wherry's own deltas for devices."),
    "diff": ("store_diff", "diff", "Compare commits and directories."),
    "export": ("store_export", "export", "Write a commit as a tar archive."),
    "find-remotes": ("store_find", "find_remotes", "Find remotes and disks that have refs."),
    "fsck": ("store_care", "fsck", "Check every object."),
    "gpg-sign": ("store_write", "gpg_sign", "Refused: there is no GPG, see sign."),
    "init": ("store_write", "init", "Make a repository."),
    "log": ("store_show", "log", "Show a commit and its parents."),
    "ls": ("store_read", "ls", "List the files of a commit."),
    "mount": ("store_mount", "mount", "Mount a commit as a folder."),
    "prune": ("store_care", "prune", "Remove what nothing needs any more."),
    "pull": ("store_pull", "pull", "Fetch commits from a remote over HTTP."),
    "pull-local": ("store_pull", "pull_local", "Copy commits from another repository."),
    "refs": ("store_refs", "refs", "List, make and delete refs."),
    "remote": ("store_remote", "remote", "Name the repositories to pull from."),
    "reset": ("store_write", "reset", "Move a ref to another commit."),
    "rev-parse": ("store_refs", "rev_parse", "Print the commit that a revision names."),
    "show": ("store_show", "show", "Show one commit or object."),
    "sign": ("store_sign", "sign", "Sign a commit."),
    "static-delta": ("store_delta", "static_delta", "Make, apply and remove deltas between commits."),
    "summary": ("store_summary", "summary", "Write or show what a remote reads first."),
    "unmount": ("store_mount", "unmount", "End a mount of a commit."),
}
"""Help is one short line each: scripts read the words from ``--help``, one to a line."""
FEATURES = (
    "libarchive",
    "sign-ed25519",
)
OSTREE_VERSION = f"2026.4 (wherry {__version__})"
"""Which ostree's formats and commands these are; scripts find it in ``--version``, and servers in the user agent."""
_REPO_KEY = "wherry.store.repo"
_EXTENSIONS_DIR = "/usr/lib/ostree"
F = TypeVar("F", bound=Callable[..., Any])


_ELSEWHERE = {"admin": "what a machine boots and runs is `wherry device`'s"}
"""Words of ``ostree`` that are not the store's."""


class SubcommandGroup(click.Group):
    """A group with ostree's words: ``Builtin "remote" Commands:``, and its errors for none and an unknown one.

    Give it to ``click.group(cls=SubcommandGroup)`` for the groups below ``wherry store``.
    """

    def __init__(self, name: str | None = None, **attributes: Any) -> None:
        super().__init__(name, **{"no_args_is_help": False, **attributes})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the first word that is no option for the subcommand; options before it are the subcommand's."""
        at = next((index for index, word in enumerate(args) if not word.startswith("-")), 0)
        own = {word for param in self.get_params(ctx) for word in param.opts}
        if at and not any(word.partition("=")[0] in own for word in args[:at]):
            args = [args[at], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand; without one the help goes to standard error."""
        if not _has_command(ctx):
            print(ctx.get_help(), file=sys.stderr)
            raise UsageError(f"No {self._kind(ctx)} specified")
        return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command of `args`."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            self.unknown(ctx, args)
        return super().resolve_command(ctx, args)

    def unknown(self, ctx: click.Context, args: list[str]) -> None:
        """Called for a word that is no command."""
        from difflib import get_close_matches

        near = get_close_matches(args[0], self.list_commands(ctx), n=1)
        hint = _ELSEWHERE.get(args[0]) or (f"did you mean {near[0]}?" if near else None)
        print(ctx.get_help(), file=sys.stderr)
        raise UsageError(f"Unknown {self._kind(ctx)} '{args[0]}'", hint=hint)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table of commands."""
        with formatter.section(f'Builtin "{ctx.info_name}" Commands'):
            formatter.write_dl(
                [(word, command.get_short_help_str()) for word, command in sorted(self.commands.items())]
            )

    def _kind(self, ctx: click.Context) -> str:
        return f'"{ctx.info_name}" subcommand'


class StoreGroup(SubcommandGroup):
    """Finds its commands in the table above."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Parses the options before the command's word; tells an error in ostree's way."""
        with _telling():
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the options before the command's word; those that are not the group's own are the command's."""
        known = {name: param for param in self.get_params(ctx) for name in param.opts}
        own: list[str] = []
        held: list[str] = []
        rest = list(args)
        while rest and rest[0].startswith("-") and rest[0] != "--":
            option = rest.pop(0)
            name, equals, _ = option.partition("=")
            param = known.get(name)
            (own if param is not None or not equals else held).append(option)
            if isinstance(param, click.Option) and not param.is_flag and not equals and rest:
                own.append(rest.pop(0))
        return super().parse_args(ctx, [*own, *rest[:1], *held, *rest[1:]])

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
        with _telling():
            return super().invoke(ctx)

    def unknown(self, ctx: click.Context, args: list[str]) -> None:
        """Becomes the program ``ostree-WORD`` when there is one, as ostree does."""
        import shutil

        program = shutil.which(f"ostree-{args[0]}", path=f"{_EXTENSIONS_DIR}:{os.environ.get('PATH', os.defpath)}")
        if program is not None and "/" not in args[0]:
            sys.stdout.flush()
            os.execv(program, [f"ostree-{args[0]}", *args[1:]])  # noqa: S606 in place of this program
        super().unknown(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table from its own lines of help."""
        with formatter.section("Builtin Commands"):
            formatter.write_dl([(word, text) for word, (_, _, text) in COMMANDS.items()])

    def _kind(self, ctx: click.Context) -> str:
        return "command"


def _has_command(ctx: click.Context) -> bool:
    return bool(ctx._protected_args or ctx.args)


@contextmanager
def _telling() -> Iterator[None]:
    """Prints an error as one line ``error: ...`` and makes it the exit status 1."""
    try:
        yield
    except (WherryError, click.UsageError, OSError) as error:
        if isinstance(error, BrokenPipeError) or settings().debug:
            raise
        if isinstance(error, click.UsageError):
            text = error.format_message()
            if error.ctx is not None:
                print(error.ctx.get_usage(), file=sys.stderr)
        else:
            text = str(
                map_os_error(error, "the system says no", where=error.filename) if isinstance(error, OSError) else error
            )
        sys.stdout.flush()
        print(f"error: {text}", file=sys.stderr)
        raise click.exceptions.Exit(1) from None


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
    print(f"libostree:\n Version: '{OSTREE_VERSION}'\n Features:")
    for feature in FEATURES:
        print(f"  - {feature}")
    ctx.exit()


def _be_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Has every trace point that is reached printed."""
    if value and not ctx.resilient_parsing:
        from wherry.core import trace

        trace.observe(lambda point: print(f"# {point}", file=sys.stderr))


def common_options(function: F) -> F:
    """Adds what every command of ostree takes: ``--verbose`` (``-v`` unless the command has one) and ``--version``."""
    taken = {name for param in getattr(function, "__click_params__", ()) for name in param.opts}
    names = ["--verbose"] if "-v" in taken else ["-v", "--verbose"]
    function = click.option(
        *names, is_flag=True, expose_value=False, callback=_be_verbose, help="Print what is being done."
    )(function)
    return click.option(
        "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show version."
    )(function)


@click.group(cls=StoreGroup, epilog=_EPILOG)
@click.option("--repo", "repo_path", metavar="PATH", help="The repository; may stand behind the command's word too.")
@common_options
@click.pass_context
def store(ctx: click.Context, repo_path: str | None) -> None:
    """The content-addressed repository (OSTree's format)."""
    ctx.meta[_REPO_KEY] = repo_path
    _take_test_variables()


def _take_test_variables() -> None:
    """Takes what ``ostree`` takes from the environment for tests of crashes (``docs/internals/trace-points.md``)."""
    boot_id = os.environ.get("OSTREE_BOOTID")
    if boot_id:
        from wherry.store.disk.staging import use_boot_id

        if not boot_id.replace("-", "").isalnum():
            raise UsageError("OSTREE_BOOTID is no name of a boot", where=boot_id[:80])
        use_boot_id(boot_id)
    for word in os.environ.get("OSTREE_REPO_TEST_ERROR", "").split(","):
        if word == "pre-commit":
            from wherry.core import trace

            trace.arm("store.transaction.staged", _fail_before_commit)
        elif word == "invalid-cache":
            from wherry.core import trace

            trace.arm("store.summary.invalid-cache", _fail_on_cache)


def _fail_before_commit() -> None:
    os.write(2, b"error: OSTREE_REPO_TEST_ERROR_PRE_COMMIT specified\n")
    os._exit(1)


def _fail_on_cache() -> None:
    raise WherryError("OSTREE_REPO_TEST_ERROR_INVALID_CACHE specified")


def repo_option(function: F) -> F:
    """Adds ``--repo`` to a command, and what all commands take."""
    function = common_options(function)
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
    """Returns seconds since 1970 for a time as ``date`` and ``ostree`` take it (see ``cli/times.py``).

    Raises:
        UsageError: it is none.
    """
    from wherry.cli.times import parse

    return parse(text, option)


def refuse(option: str, reason: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Returns the callback of an option of ostree's that is not there, so that it is an error that says why."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, False, ()):
            raise UsageError(f"{option} is not supported: {reason}")

    callback.__dict__["reason"] = reason  # for the table in the documentation
    return callback


NO_GPG = "Wherry has no GPG; sign with Ed25519 (--sign)"
NO_SELINUX = "Wherry does not compute SELinux labels; label the tree before it is committed"


def refused_option(*names: str, reason: str, **attributes: Any) -> Callable[[F], F]:
    """Adds an option that is always refused, with `reason`; it is shown in the help."""
    return click.option(
        *names,
        expose_value=False,
        callback=refuse(names[-1], reason),
        help=f"Refused: {reason}.",
        **attributes,
    )
