"""The life of a container: create, start, exec, kill, delete.

    create ── child exists in its namespaces and control groups, its root is made; it waits
       │      (the caller gives its network namespace a network)
    start ─── the child executes the command, or the reason why not is raised
       │
    kill, exec_process ...
       │
    delete ── everything in the control groups is killed, they and the state are removed

The container's first process is a direct child of the caller of `create`, who reaps it with ``os.waitpid``. `start` is
by the same process, and if that one dies before it the child ends by itself; or, for a container that was created as
``detached``, by any process that may read the state directory (`start_detached`). The caller has a single thread, as
the child comes from a bare clone(2). What is *not* here: images, networks, restarts and logs (``engine/``). Budget:
under 8 ms from `create` to `delete`, with ``true`` in between.
"""

from __future__ import annotations

import os

from wherry.core.errors import Conflict, WherryError
from wherry.core.value import replace
from wherry.linux.process import pidfd_send_signal
from wherry.linux.signals import SIGKILL
from wherry.runtime import channel
from wherry.runtime import state as states
from wherry.runtime.create import Created, create, run_quietly, unlink
from wherry.runtime.spawn import Child, hand_over, reap
from wherry.runtime.state import State, Status, load_state, open_process, open_state
from wherry.runtime.task import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 the standard class, under its usual kind of name
    from collections.abc import Callable

    StrPath = str | os.PathLike[str]

__all__ = [
    "Created",
    "Stdio",
    "abandon",
    "create",
    "delete",
    "ended_state",
    "kill",
    "start",
    "start_detached",
]

_END_TIMEOUT_MS = 10_000


def start(created: Created, *, again: bool = False, warn: Callable[[str], None] | None = None) -> None:
    """Has a created container execute its command; returns when it has.

    Args:
        created: the container.
        again: it may have been told so already, by a process that was killed.
        warn: told what was asked for and could not be given.

    Raises:
        CommandNotFound: the command is not in the container.
        CannotInvoke: it is there, but cannot be executed.
        Conflict: it was started already.
        WherryError: another step failed. In each case the process has ended; the caller reaps and deletes it.
    """
    if created.end.fileno() < 0:
        raise Conflict("the container was started already", where=created.state_dir)
    state = created.state or load_state(created.state_dir)
    try:
        created.end.send(channel.GO)
    except (BrokenPipeError, ConnectionResetError):
        if not again:
            created.end.close()
            raise WherryError("the container's first process is gone", where=created.state_dir) from None
    created.state, created.mark = _follow_start(created.end, created.state_dir, state, warn)


def start_detached(state_dir: StrPath, *, warn: Callable[[str], None] | None = None) -> None:
    """Does what `start` does, for a container that was created as detached, from whichever process.

    Raises:
        Conflict: it does not wait to be started.
        WherryError: as of `start`.
    """
    directory = os.fspath(state_dir)
    state = load_state(directory)
    if state.status != Status.CREATED:
        raise Conflict(f"cannot start a container that is {state.status}", where=state.container_id)
    try:
        end = channel.connect(directory)
    except OSError:
        raise Conflict("the container does not wait to be started", where=state.container_id) from None
    try:
        end.send(channel.GO)
        taken = channel.receive(end)[0] == channel.TAKEN
    except OSError:
        taken = False
    if not taken:
        end.close()
        raise Conflict("the container was started already", where=state.container_id)
    _follow_start(end, directory, state, warn)
    unlink(f"{directory}/{channel.START_SOCKET}")


def _follow_start(
    end: Socket, state_dir: str, state: State, warn: Callable[[str], None] | None
) -> tuple[State, tuple[int, int]]:
    """Waits until the command was executed, and writes that down."""
    try:
        Child(state.pid, -1, end).follow(b"", on_listener=lambda fd: hand_over(state, state.pid, fd), warn=warn)
    finally:
        end.close()
    running = replace(state, status=Status.RUNNING)
    mark = states.save(state_dir, running)
    if state.hooks.poststart:
        run_quietly("poststart", running, Status.RUNNING, warn)
    return running, mark


def ended_state(created: Created) -> State:
    """Returns the state of a container whose first process has ended, read only if somebody has changed it.

    Raises:
        NotFound: it is deleted.
    """
    if created.state is None or not states.unchanged(created.state_dir, created.mark):
        return load_state(created.state_dir)
    return replace(created.state, status=Status.STOPPED)


def kill(state_dir: StrPath, number: int) -> None:
    """Sends a signal to the container's first process.

    Raises:
        Conflict: it does not live.
    """
    state, pidfd = open_state(state_dir)
    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise Conflict("the container does not run", where=state.container_id) from None
    finally:
        os.close(pidfd)


def delete(state_dir: StrPath, *, known: State | None = None, warn: Callable[[str], None] | None = None) -> None:
    """Kills whatever is left of a container, and removes its control groups and state; again does nothing.

    Its first process, if it lives, is left for the caller of `create` to reap.

    Args:
        state_dir: as for `create`.
        known: the state of a container whose first process has ended, for callers that have read it.
        warn: is told what went wrong on the way.

    Raises:
        Timeout: a process does not die.
    """
    directory = os.fspath(state_dir)
    if not os.path.lexists(f"{directory}/{states.FILE}"):
        states.remove_noted_groups(directory)  # of a creation that was cut short
        return
    state = known or load_state(directory)
    pidfd = -1 if known else open_process(state)
    if pidfd >= 0:
        try:
            pidfd_send_signal(pidfd, SIGKILL)
            if not state.cgroup.groups:
                _await_end(pidfd)  # nothing else tells that it is gone
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    state.cgroup.remove()
    unlink(f"{directory}/{channel.START_SOCKET}")
    unlink(f"{directory}/{states.GROUPS_FILE}")
    unlink(f"{directory}/{states.FILE}")
    if state.hooks.poststop:
        run_quietly("poststop", state, Status.STOPPED, warn)


def abandon(created: Created) -> None:
    """Ends a container that was created and is not to be started, reaps it, and deletes it."""
    created.end.close()
    reap(created.pid, created.pidfd)
    if created.console_fd is not None:
        os.close(created.console_fd)
    delete(created.state_dir)


def _await_end(pidfd: int) -> None:
    import select

    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    waiting.poll(_END_TIMEOUT_MS)
