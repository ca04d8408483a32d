"""The end of a container's life: everything taken away, the outcome on disk, and whoever waits told by the lock.

May be done twice, by a second process where the first was killed in the middle.
"""

from __future__ import annotations

import fcntl
import os
import time

from wherry.core import trace
from wherry.core.errors import CannotInvoke, CommandNotFound, WherryError
from wherry.core.value import Value, replace
from wherry.engine.records import LastRun
from wherry.engine.state import Paths, container_lock, finish_run, read_last, write_last
from wherry.linux.process import pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.loop import Loop
    from wherry.engine.spec import ContainerConfig

EXIT_ENGINE, EXIT_CANNOT_INVOKE, EXIT_NOT_FOUND = 125, 126, 127


def exit_code_of(error: WherryError) -> int:
    """Returns the status that docker gives a container which could not be started."""
    if isinstance(error, CommandNotFound):
        return EXIT_NOT_FOUND
    return EXIT_CANNOT_INVOKE if isinstance(error, CannotInvoke) else EXIT_ENGINE


def not_started(paths: Paths, config: ContainerConfig, error: WherryError) -> LastRun:
    """Returns what is recorded of a start that failed; a container that ran before still has, so a boot tries again."""
    before = read_last(paths, config.id)
    return LastRun(
        started_s=0.0 if before is None else before.started_s,
        finished_s=time.time(),
        exit_code=exit_code_of(error),
        error=str(error),
    )


class Outcome(Value):
    """How a life ended."""

    last: LastRun
    never_started: bool = False
    """Whoever asked for the start still waits, and holds the container's lock for us."""


def settle(paths: Paths, config: ContainerConfig, outcome: Outcome, lock_fd: int) -> None:
    """Cleans up, and records the end; in this order, so that whoever waits finds all in place.

    Args:
        paths: of the engine root.
        config: the container's.
        outcome: how its life ended.
        lock_fd: holds its ``life.lock``, and gets the exit status; closed by the caller, which tells the others.

    Raises:
        WherryError: the outcome could not be recorded.
    """
    from wherry.engine import bundle, prepare
    from wherry.runtime.container import delete

    delete(bundle.runtime_dir(paths, config.id))
    last = outcome.last
    for problem in prepare.clean_up(paths, config):
        last = last if last.error else replace(last, error=f"cleaning up: {problem}")
    trace.reach("engine.life.cleaned")
    exit_code = last.exit_code if last.exit_code is not None else EXIT_ENGINE
    os.pwrite(lock_fd, f"{exit_code}\n".encode(), 0)
    if not config.spec.rm:
        try:
            write_last(paths, config.id, last, durably=True)
        finally:
            finish_run(paths, config.id)
    elif outcome.never_started:
        _remove(paths, config)
    else:
        with container_lock(paths, config.id):
            _remove(paths, config)
    # not left to the descriptor's end: a child that takes a network away may have a copy of it a little longer
    fcntl.flock(lock_fd, fcntl.LOCK_UN)
    trace.reach("engine.life.recorded")


def settle_in_child(
    loop: Loop, paths: Paths, config: ContainerConfig, outcome: Outcome, lock_fd: int, done: Callable[[], None]
) -> None:
    """Does what `settle` does in a process of its own, as it may wait for the disk and for locks; then calls `done`."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            settle(paths, config, outcome, lock_fd)
            status = 0
        finally:
            os._exit(status)
    worker = pidfd_open(pid)

    def settled(_: int) -> None:
        loop.forget(worker)
        failed = os.waitpid(pid, 0)[1]
        os.close(worker)
        if failed:
            try:
                settle(paths, config, outcome, lock_fd)  # it was killed, or could not: not without a second try
            except WherryError:
                pass  # a full disk: what is known stands in run.json, or is gone with the container
        done()

    loop.watch(worker, settled)


def _remove(paths: Paths, config: ContainerConfig) -> None:
    from wherry.engine.state import remove_container

    remove_container(paths, config)
