"""The root command: the table of all commands, and what happens to an error."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from wherry.cli.context import Settings, arm_trace_points
from wherry.cli.failing import status_of
from wherry.cli.main import PROGRAM, STORE_ALIAS
from wherry.cli.places import default_root, default_run_root
from wherry.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION_VARIABLE = "_WHERRY_COMPLETE"

# section -> {word: (module, attribute, one line of help)}
COMMANDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "The project of a device": {
        "init": ("project", "init", "Make a project folder for a device."),
        "status": ("project", "status", "Show what has changed since the last commit."),
        "add": ("project", "add", "Have files go into the next commit."),
        "commit": ("project", "commit", "Record a signed revision of the whole device."),
        "diff": ("project", "diff", "Show changes in apps and files."),
        "log": ("project", "log", "Show the revisions, the newest first."),
        "show": ("project", "show", "Show one revision."),
        "remote": ("project", "remote", "Name the hubs that revisions are pushed to."),
        "push": ("project", "push", "Send revisions to a hub."),
        "clone": ("project", "clone", "Make a project folder from a hub's revision."),
    },
    "Containers": {
        "run": ("container", "run", "Make a container from an image and start it."),
        "create": ("container", "create", "Make a container; start nothing."),
        "start": ("container", "start", "Start containers that are there."),
        "exec": ("container", "exec_", "Run a command in a running container."),
        "attach": ("container", "attach", "Stay with a container that runs."),
        "ps": ("container", "ps", "List containers."),
        "logs": ("container", "logs", "Show what a container printed."),
        "stop": ("container", "stop", "Stop containers."),
        "kill": ("container", "kill", "Send a signal to containers."),
        "rm": ("container", "rm", "Remove containers."),
        "inspect": ("container", "inspect", "Show all about containers, as JSON."),
        "restart": ("container", "restart", "Stop and start containers."),
        "wait": ("container", "wait", "Wait until containers have ended."),
        "pause": ("container", "pause", "Freeze all processes of containers."),
        "unpause": ("container", "unpause", "Let paused containers run on."),
        "top": ("container", "top", "Show a container's processes."),
        "stats": ("container", "stats", "Show what containers use."),
        "events": ("container", "events", "Show what happens, as it happens."),
        "cp": ("container", "cp", "Copy files between a container and the host."),
        "export": ("container", "export", "Write a container's files as a tar archive."),
        "port": ("container", "port", "Show where ports are published."),
        "rename": ("container", "rename", "Give a container another name."),
        "update": ("container", "update", "Change limits and restart policy."),
    },
    "Images": {
        "images": ("image", "ls", "List images."),
        "rmi": ("image", "rm", "Remove images."),
        "import": ("image", "import_", "Make an image of a tree, an archive, a disk."),
        "load": ("image", "load", "Bring in the images of an archive."),
        "save": ("image", "save", "Write images to an archive."),
        "tag": ("image", "tag", "Give an image a further name."),
        "history": ("image", "history", "Show how an image came about."),
        "build": ("build", "build", "Build an image from a Dockerfile."),
        "pull": ("image", "pull", "Fetch images from a registry."),
        "pack": ("pack", "pack", "A command of an image as one executable file."),
        "login": ("login", "login", "Log in to a registry."),
        "logout": ("login", "logout", "Log out of a registry."),
    },
    "Machines": {
        "boot": ("boot", "boot", "Boot a host, an image or a kernel in a virtual machine."),
        "kernel": ("kernel", "kernel", "Kernels for containers and scripts in machines."),
    },
    "Groups": {
        "store": ("store", "store", "The content-addressed repository (OSTree's format)."),
        "image": ("image", "image", "Images in the store."),
        "builder": ("builder", "builder", "What builds keep."),
        "container": ("container", "container", "Containers (all their commands)."),
        "compose": ("compose", "compose", "Projects of several containers, from Compose files."),
        "volume": ("volume", "volume", "Data that outlives containers."),
        "secret": ("secret", "secret", "Files that containers get and logs do not."),
        "system": ("system", "system", "Disk use, and what can go."),
        "generate": ("generate", "generate", "A container as a systemd unit."),
        "network": ("network", "network", "Networks of containers."),
        "layer": ("layer", "layer", "What hosts are built from."),
        "host": ("host", "host", "Hosts: built from layers, into images."),
        "device": ("device", "device", "This machine as a device of a fleet."),
        "hub": ("hub", "hub", "The fleet server."),
        "fleet": ("fleet", "fleet", "Devices, as the hub knows them."),
        "key": ("key", "key", "Keys that revisions are signed with."),
    },
    "This machine": {
        "doctor": ("doctor", "doctor", "Check kernel, tools and permissions."),
        "completion": ("completion", "completion", "Print the shell's completion script."),
    },
}

_EPILOG = """\b
Examples:
  wherry image import rootfs.tar --name debian:12
  wherry run --rm -it debian:12 sh
  wherry init kiosk && cd kiosk && wherry commit -m "first" && wherry push
  wherry doctor

Exit status: 0 well, 2 wrong usage, 3 not found, 5 malformed input, 8 network; all of them:
docs/reference/exit-codes.md."""


DOCKER_WORDS = {
    "info": "`wherry system info`",
    "version": "`wherry --version`",
}
"""Words of docker's that are not commands here -> what to type instead."""


class RootGroup(click.Group):
    """Finds commands in the table and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns every command word, in the table's order."""
        return [word for section in COMMANDS.values() for word in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one command; None when there is no such word."""
        if cmd_name == STORE_ALIAS and not ctx.info_name:
            cmd_name = "store"
        for section in COMMANDS.values():
            if cmd_name in section:
                module, attribute, _ = section[cmd_name]
                found = getattr(import_module(f"wherry.cli.{module}"), attribute)
                if not isinstance(found, click.Command):
                    raise TypeError(f"{module}.{attribute} is not a command")
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command of `args`, with a guess in the error when there is none."""
        try:
            name, command, rest = super().resolve_command(ctx, args)
            return args[0] if name and not ctx.info_name else name, command, rest
        except click.UsageError as error:
            from difflib import get_close_matches

            if args and args[0] in DOCKER_WORDS:
                raise click.UsageError(f"No such command '{args[0]}': {DOCKER_WORDS[args[0]]}.", ctx) from None
            near = get_close_matches(args[0], self.list_commands(ctx), n=1) if args else []
            if near:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Completes command words from the table, without importing a command."""
        from click.shell_completion import CompletionItem

        words = [
            CompletionItem(word, help=text)
            for section in COMMANDS.values()
            for word, (_, _, text) in section.items()
            if word.startswith(incomplete)
        ]
        return [*words, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table from its own lines of help, so that nothing is imported."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(word, text) for word, (_, _, text) in section.items()])


@click.command(cls=RootGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message=f"{PROGRAM} %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
@click.option(
    "--root",
    metavar="DIR",
    envvar="WHERRY_ROOT",
    default="",
    show_default="/var/lib/wherry, without root ~/.local/share/wherry",
    help="Where this machine's images and containers live.",
)
@click.option(
    "--run-root",
    metavar="DIR",
    envvar="WHERRY_RUN_ROOT",
    default="",
    show_default="/run/wherry, without root $XDG_RUNTIME_DIR/wherry",
    help="Where state that a reboot may clear lives.",
)
@click.pass_context
def cli(ctx: click.Context, debug: bool, quiet: bool, root: str, run_root: str) -> None:
    """One signed revision for a whole Linux device."""
    uid = os.geteuid()
    ctx.obj = Settings.make(
        root=root or default_root(os.environ, uid),
        run_root=run_root or default_run_root(os.environ, uid),
        debug=debug,
        quiet=quiet,
    )


def run(args: list[str], *, program: str = PROGRAM) -> int:
    """Runs one command line and returns its exit status; prints the error when there is one.

    Args:
        args: the words after the program's name.
        program: the name that usage and help show; "" when the first word is the program's name.
    """
    return status_of(lambda: _run(args, program), debug="--debug" in args)


def _run(args: list[str], program: str) -> int:
    arm_trace_points(os.environ.get("WHERRY_TRACE", ""))
    try:
        result: Any = cli.main(args=args, prog_name=program, standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    sys.stdout.flush()
    return result if isinstance(result, int) else 0
