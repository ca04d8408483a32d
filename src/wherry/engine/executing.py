"""Further processes in a container that runs: ``wherry exec``, attached and detached."""

from __future__ import annotations

import os

from wherry.core.errors import WherryError
from wherry.engine import bundle
from wherry.engine.console import serve
from wherry.engine.ending import exit_code_of
from wherry.engine.signals import Signals
from wherry.engine.specification import further_process
from wherry.engine.telling import Execution
from wherry.engine.wire import DETACH_KEYS, dump_error, load_error
from wherry.linux.process import close_from
from wherry.runtime.execute import exec_process
from wherry.runtime.task import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wherry.engine.info import ContainerInfo
    from wherry.engine.state import Paths

STARTED = b"+"


def execute(
    paths: Paths,
    info: ContainerInfo,
    args: tuple[str, ...],
    *,
    env: Mapping[str, str],
    user: str | None,
    working_dir: str | None,
    privileged: bool,
    tty: bool,
    stdin_fd: int | None,
    stdout_fd: int = 1,
    stderr_fd: int = 2,
    terminal_fd: int | None = None,
    detach_keys: bytes | None = None,
    preserved: tuple[int, ...] = (),
    started_fd: int | None = None,
    stay: bool = True,
) -> int:
    """Runs a command in a container and stays with it until its end; see ``Engine.exec``.

    Args:
        started_fd: told when the command runs.
        stay: whether to stay until it has ended; the other arguments are those of ``Engine.exec``.

    Returns:
        The exit status.
    """
    process = further_process(
        paths,
        info.config,
        args,
        user=user,
        terminal=tty,
        env=tuple(f"{key}={value}" for key, value in env.items()),
        working_dir=working_dir,
        privileged=privileged,
    )
    with Signals() as signals:
        null_fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            input_fd = null_fd if stdin_fd is None else stdin_fd
            stdio = None if tty else Stdio(stdin_fd=input_fd, stdout_fd=stdout_fd, stderr_fd=stderr_fd)
            execution = Execution(paths, info.config, args)
            executed = exec_process(bundle.runtime_dir(paths, info.id), process, stdio=stdio, preserved=preserved)
        except WherryError as error:
            execution.died(exit_code_of(error))
            raise
        finally:
            for fd in (null_fd, *preserved):
                os.close(fd)
        if started_fd is not None:
            os.write(started_fd, STARTED)
            os.close(started_fd)
        if not stay:
            return 0
        exit_code = serve(
            executed,
            signals,
            stdin_fd=stdin_fd,
            stdout_fd=stdout_fd,
            terminal_fd=terminal_fd if tty else None,
            keys=DETACH_KEYS if detach_keys is None else detach_keys,
        )
        execution.died(exit_code)
        return exit_code


def execute_detached(paths: Paths, info: ContainerInfo, args: tuple[str, ...], **options: Any) -> None:
    """Runs a command in a container, and comes back when it runs; what it prints is lost.

    Nothing of ours stays with it, but for a process that holds its terminal when it has one.

    Args:
        paths: of the engine root.
        info: the container.
        args: the command.
        **options: as of `execute`, but for streams.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _run_alone(paths, info, args, writer, options)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as file:
        told = file.read()
    if told != STARTED:
        raise load_error(told)


def _run_alone(paths: Paths, info: ContainerInfo, args: tuple[str, ...], writer: int, options: dict[str, Any]) -> None:
    """Starts the command in a process that has nothing of the caller's open but what the command is to get."""
    first = 3 + len(options.get("preserved", ()))
    fd = os.dup2(writer, first, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    close_from(first + 1)
    try:
        execute(paths, info, args, stdin_fd=None, started_fd=fd, stay=options.get("tty", False), **options)
    except WherryError as error:
        os.write(fd, dump_error(error))
