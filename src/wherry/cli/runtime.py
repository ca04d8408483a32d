"""``wherry runtime`` and ``wherry-runc``: an OCI runtime's command line, with the words of runc and crun.

It has its own narrow parser (``arguments.py``), as it starts in the time in which a general one is imported. What goes
wrong stands on standard error in one line, and in the ``--log`` file as whoever called for it wants it; the exit status
is that of the error (core/errors.py), of ``run`` and ``exec`` that of the process.
"""

from __future__ import annotations

import os
import sys

from wherry.cli import arguments
from wherry.cli.arguments import Arguments
from wherry.core.errors import UsageError, WherryError
from wherry.runtime.spec import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_LEVELS = ("debug", "info", "warning", "error")
_BUG = 1
_INTERRUPTED = 130


class Context:
    """What every command of one call has in common.

    Attributes:
        root: where the states of containers are.
        program: how this command is called, for messages.
        cgroups: whether control groups are made; None leaves it to who calls.
    """

    def __init__(self, found: Arguments, program: str) -> None:
        self.program = program
        self.root = os.path.abspath(found.text("root") or default_root())
        self.debug = found.flag("debug")
        self.cgroups = _cgroups(found)
        self._log = found.text("log").removeprefix("file:")
        self._log_format = found.text("log-format", "text")
        level = found.text("log-level", "warning")
        if level not in _LEVELS:
            raise UsageError(f"--log-level is one of {', '.join(_LEVELS)}, not {level!r}")
        self._levels = _LEVELS[_LEVELS.index(level) :]
        if self._log_format not in ("text", "json"):
            raise UsageError(f"--log-format is text or json, not {self._log_format!r}")

    def warn(self, text: str) -> None:
        """Tells of something that was asked for and is not so."""
        self.log("warning", text)
        if not self._log:
            print(f"{self.program}: warning: {text}", file=sys.stderr)

    def log(self, level: str, text: str) -> None:
        """Writes a line to the log, if there is one."""
        if not self._log or level not in self._levels:
            return
        import time

        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._log_format == "json":
            from wherry.core import jsonio

            line = jsonio.compact({"level": level, "msg": text, "time": now}).decode() + "\n"
        else:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            line = f'time="{now}" level={level} msg="{quoted}"\n'
        try:
            fd = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, line.encode(errors="replace"))
            finally:
                os.close(fd)
        except OSError as error:
            print(f"{self.program}: cannot write the log {self._log}: {error.strerror}", file=sys.stderr)

    def directory(self, container_id: str) -> str:
        """Returns where the state of a container is.

        Raises:
            InvalidInput: no container can have that name.
        """
        from wherry.runtime.check import check_id

        check_id(container_id)
        return f"{self.root}/{container_id}"


def default_root() -> str:
    """Returns where states are kept unless it is said."""
    if os.geteuid() == 0:
        return "/run/wherry/runtime"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/wherry/runtime"


def _cgroups(found: Arguments) -> bool | None:
    manager = found.text("cgroup-manager")
    if found.flag("systemd-cgroup") or manager == "systemd":
        raise UsageError("control groups are made directly, not by systemd", hint="use --cgroup-manager cgroupfs")
    if manager not in ("", "cgroupfs", "disabled"):
        raise UsageError(f"--cgroup-manager is cgroupfs or disabled, not {manager!r}")
    return None if not manager else manager == "cgroupfs"


def main(words: Sequence[str], program: str = "wherry runtime") -> int:
    """Runs one command line; returns the exit status."""
    from wherry.cli.runtime_commands import GLOBAL

    context: Context | None = None
    debug = False
    try:
        found = arguments.parse(words, GLOBAL, stop=True)
        debug = found.flag("debug")
        if found.flag("version"):
            print(_version(program), end="")
            return 0
        if found.flag("help") or not found.rest or found.rest[0] == "help":
            print(_help(program), end="")
            return 0 if found.rest or found.flag("help") else UsageError.exit_code
        context = Context(found, program)
        return _run(found.rest[0], found.rest[1:], context)
    except WherryError as error:
        return _tell(error, context, program, debug)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _BUG
    except OSError as error:
        text = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error)
        return _tell(WherryError(text), context, program, debug)


def _run(name: str, words: Sequence[str], context: Context) -> int:
    from wherry.cli.runtime_commands import COMMANDS, MODULES, NOT_DONE

    command = COMMANDS.get(name)
    if command is None:
        why = NOT_DONE.get(name)
        raise UsageError(f"no such command: {name}" if why is None else f"{name}: {why}", hint="see --help")
    if "--help" in words or "-h" in words:
        found = arguments.parse(words, command.options, stop=command.program)
        if found.flag("help"):
            print(arguments.describe(command, context.program), end="")
            return 0
    found = arguments.parse_command(command, words)
    module = __import__(f"wherry.cli.runtime_{MODULES[name]}", fromlist=("*",))
    status: int = getattr(module, f"{name}_command")(context, found)
    return status


def _tell(error: WherryError, context: Context | None, program: str, debug: bool) -> int:
    text = str(error)
    if context is not None:
        context.log("error", text)
    print(f"{program}: {text}", file=sys.stderr)
    if debug:
        import traceback

        traceback.print_exception(error)
    return error.exit_code


def _version(program: str) -> str:
    from wherry.version import __version__

    return f"{program} version {__version__}\nspec: {OCI_VERSION}\n"


def _help(program: str) -> str:
    from wherry.cli.runtime_commands import COMMANDS, GLOBAL

    lines = [
        f"Usage: {program} [OPTIONS] COMMAND ...",
        "",
        "  An OCI runtime: containers from bundles.",
        "",
        "Commands:",
    ]
    lines += [f"  {command.name.ljust(10)} {command.help}" for command in COMMANDS.values()]
    lines += arguments.describe_options(GLOBAL)
    lines += ["", f"Each command has its own help: {program} COMMAND --help"]
    return "\n".join(lines) + "\n"


def main_runtime(*, alias: bool) -> NoReturn:
    """Runs the command line of this process, which is ``wherry runtime ...`` or, by its alias, ``wherry-runc ...``."""
    status = main(sys.argv[1 if alias else 2 :], "wherry-runc" if alias else "wherry runtime")
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        if warm := sys.modules.get("wherry.warm"):
            warm.keep_all()
    finally:
        os._exit(status)  # nothing is left to be put in order, and an interpreter takes milliseconds for that
