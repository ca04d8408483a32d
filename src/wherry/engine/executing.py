"""Further processes in a container that runs: ``wherry exec``, attached and detached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wherry.core.errors import Conflict, WherryError
from wherry.engine import bundle
from wherry.engine.attach import SignalForwarder
from wherry.engine.console import serve
from wherry.engine.info import ContainerInfo
from wherry.engine.launch import await_report, fork_monitor, report_error, report_started
from wherry.engine.prepare import look_up_user
from wherry.engine.state import Paths
from wherry.runtime.container import Stdio, exec_process
from wherry.runtime.users import Identity


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
    started_fd: int | None = None,
) -> int:
    """Runs a command in a container and stays with it until its end; see ``Engine.exec``.

    Args:
        started_fd: told when the command runs (``launch.await_report``); the others are those of ``Engine.exec``.

    Returns:
        The exit status.
    """
    process = bundle.build_process(
        info.config,
        _identity(info, info.config.user if user is None else user),
        args,
        terminal=tty,
        env=tuple(f"{key}={value}" for key, value in env.items()),
        working_dir=working_dir,
        privileged=privileged,
    )
    with SignalForwarder() as signals:
        null_fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            input_fd = null_fd if stdin_fd is None else stdin_fd
            stdio = None if tty else Stdio(stdin_fd=input_fd, stdout_fd=stdout_fd, stderr_fd=stderr_fd)
            executed = exec_process(bundle.runtime_dir(paths, info.id), process, stdio=stdio)
        finally:
            os.close(null_fd)
        if started_fd is not None:
            report_started(started_fd)
        return serve(
            executed, signals, stdin_fd=stdin_fd, stdout_fd=stdout_fd, terminal_fd=terminal_fd if tty else None
        )


def execute_detached(paths: Paths, info: ContainerInfo, args: tuple[str, ...], **options: Any) -> None:
    """Runs a command in a container, and comes back when it runs.

    A process of its own stays as its parent until it ends; what it prints is lost.

    Args:
        paths: of the engine root.
        info: the container.
        args: the command.
        **options: as of `execute`, but for streams.
    """
    ready_fd, write_fd = os.pipe2(os.O_CLOEXEC)

    def work(fds: dict[str, int]) -> None:
        try:
            execute(paths, info, args, stdin_fd=None, started_fd=fds["ready"], **options)
        except WherryError as error:
            report_error(fds["ready"], error)

    try:
        fork_monitor(work, {"ready": write_fd})
        os.close(write_fd)
        write_fd = -1
        await_report(ready_fd)
    finally:
        os.close(ready_fd)
        if write_fd >= 0:
            os.close(write_fd)


def _identity(info: ContainerInfo, user: str) -> Identity:
    """Looks a user up in the running container's root, as it is now."""
    try:
        root_fd = os.open(f"/proc/{info.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Conflict(f"container {info.name} is not running") from error
    try:
        return look_up_user(root_fd, user)
    finally:
        os.close(root_fd)
