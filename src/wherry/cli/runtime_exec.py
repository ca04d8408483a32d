"""``wherry runtime exec``: a further process in a container."""

from __future__ import annotations

import os

from wherry.cli.protecting import protect_interpreter
from wherry.cli.runtime_folder import CONFIG_COPY
from wherry.cli.runtime_process import (
    Console,
    Signals,
    check_terminal,
    preserved_fds,
    send_console,
    standard_fds,
    wait_for,
    write_pid_file,
)
from wherry.core.errors import Conflict, InvalidInput, UsageError
from wherry.core.value import replace
from wherry.linux.capabilities import NAMES, number
from wherry.linux.namespaces import CLONE_NEWUSER
from wherry.runtime.config_process import MAX_PROCESS_BYTES, parse_process, parse_process_of_config
from wherry.runtime.execute import exec_process
from wherry.runtime.state import load_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.arguments import Arguments
    from wherry.cli.runtime import Context
    from wherry.runtime.spec import Capabilities, Process


def exec_command(context: Context, found: Arguments) -> int:
    """Runs a process in a container."""
    container_id, *args = found.rest
    directory = context.directory(container_id)
    state = load_state(directory)
    if not state.namespaces & CLONE_NEWUSER:
        protect_interpreter()
    preserved, _ = preserved_fds(found, context.warn)
    process = _process(directory, found, tuple(args), context)
    if not found.flag("ignore-paused") and state.cgroup.groups:
        from wherry.cli.runtime_look import is_paused

        if is_paused(state):
            raise Conflict("the container is paused", where=container_id, hint="resume it, or use --ignore-paused")
    detach, socket = found.flag("detach"), found.text("console-socket")
    check_terminal(process, socket, detached=detach)
    kept = None if detach else Signals()
    executed = exec_process(
        directory,
        process,
        stdio=None if process.terminal else standard_fds(),
        preserved=preserved,
        cgroup=found.text("cgroup"),
        warn=context.warn,
    )
    console: Console | None = None
    if executed.console_fd is not None:
        if socket:
            send_console(socket, executed.console_fd)
        else:
            console = Console(executed.console_fd)
    try:
        if found.given("pid-file"):
            write_pid_file(found.text("pid-file"), executed.pid)
        return 0 if kept is None else wait_for(executed.pid, executed.pidfd, console, kept)
    finally:
        if console is not None:
            console.close()


def _process(directory: str, found: Arguments, args: tuple[str, ...], context: Context) -> Process:
    if found.given("process"):
        path = found.text("process")
        with open(path, "rb") as file:
            process = parse_process(file.read(MAX_PROCESS_BYTES + 1), where=path, warn=context.warn)
        if args:
            process = replace(process, args=args)
    else:
        if not args:
            raise UsageError("no command", hint="name one after the container, or give --process")
        path = f"{directory}/{CONFIG_COPY}"
        with open(path, "rb") as file:
            process = parse_process_of_config(file.read(), where=path)
        process = replace(process, args=args, terminal=False, oom_score_adj=None)
    return _changed(process, found, context)


def _changed(process: Process, found: Arguments, context: Context) -> Process:
    if found.given("tty"):
        process = replace(process, terminal=found.flag("tty"))
    if found.given("cwd"):
        process = replace(process, cwd=found.text("cwd"))
    if found.all("env"):
        process = replace(process, env=(*process.env, *(_variable(item) for item in found.all("env"))))
    if found.given("user"):
        # HOME is that of the other user.
        env = tuple(item for item in process.env if not item.startswith("HOME=")) + tuple(
            item for item in found.all("env") if item.startswith("HOME=")
        )
        process = replace(process, user=found.text("user"), env=env)
    if found.all("additional-gids"):
        process = replace(process, additional_gids=tuple(_gid(word) for word in found.all("additional-gids")))
    if found.all("cap"):
        process = replace(process, capabilities=_with(process.capabilities, found.all("cap"), context))
    if found.given("no-new-privs"):
        process = replace(process, no_new_privileges=found.flag("no-new-privs"))
    if found.given("process-label"):
        process = replace(process, selinux_label=found.text("process-label"))
    if found.given("apparmor"):
        process = replace(process, apparmor_profile=found.text("apparmor"))
    return process


def _variable(item: str) -> str:
    return item if "=" in item else f"{item}={os.environ.get(item, '')}"


def _gid(word: str) -> int:
    if not word.isdecimal() or len(word) > 10:
        raise UsageError(f"--additional-gids takes a number, not {word!r}")
    return int(word)


def _with(sets: Capabilities, words: tuple[str, ...], context: Context) -> Capabilities:
    """Returns the sets with some more capabilities, none of them inheritable or ambient, as with runc."""
    names = []
    for word in words:
        try:
            names.append(NAMES[number(word)])
        except InvalidInput as error:
            context.warn(f"--cap: {error.what}; ignored")

    def more(there: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*there, *names)))

    return replace(
        sets,
        bounding=more(sets.bounding),
        effective=more(sets.effective),
        permitted=more(sets.permitted),
    )
