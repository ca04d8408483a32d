"""Further processes in a container that runs.

The caller has a single thread, as the child comes from a bare clone(2); it reaps the child.
"""

from __future__ import annotations

import os

from wherry.core.errors import InvalidInput
from wherry.core.value import Value, replace
from wherry.linux import usernamespace
from wherry.linux.namespaces import CLONE_NEWPID, CLONE_NEWUSER
from wherry.runtime import channel
from wherry.runtime.cgroup import Cgroup, Group
from wherry.runtime.check import check_process
from wherry.runtime.spawn import hand_over, spawn
from wherry.runtime.stage_exec import ExecTask, run_exec, run_exec_between
from wherry.runtime.state import open_state
from wherry.runtime.task import Stdio, make_task, need_stdio, without_mknod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.seccomp import Program
    from wherry.runtime.spec import Process

    StrPath = str | os.PathLike[str]


class Executed(Value):
    """A process that was added to a container; a child of the caller."""

    pid: int
    pidfd: int
    console_fd: int | None


def exec_process(
    state_dir: StrPath,
    process: Process,
    *,
    stdio: Stdio | None = None,
    preserved: tuple[int, ...] = (),
    cgroup: str = "",
    new_keyring: bool = True,
    warn: Callable[[str], None] | None = None,
) -> Executed:
    """Runs a further process in a container, with all its namespaces, limits and filter.

    Args:
        state_dir: the container's.
        process: the process; its capabilities are those that it gets.
        stdio: its standard descriptors; needed unless it has a terminal.
        preserved: descriptors that become 3 and up; -1 leaves a number out.
        cgroup: a group below the container's own, which is there.
        new_keyring: give it a session keyring of its own.
        warn: told what was asked for and could not be given.

    Raises:
        Conflict: the container does not run.
        CommandNotFound: the command is not in the container.
        CannotInvoke: it is there, but cannot be executed.
        WherryError: another step failed; it is named.
    """
    check_process(process)
    need_stdio(process, stdio)
    state, target = open_state(state_dir)
    program: Program | None = None
    if state.filter:
        from wherry.linux.seccomp import Program as Loaded

        program = Loaded(state.filter, state.filter_flags, notifies=state.listener is not None)
    group = _below(state.cgroup, cgroup)
    ours, theirs = channel.pair()
    try:
        task = make_task(
            without_mknod(process) if state.devices_unguarded else process,
            stdio,
            theirs.fileno(),
            state.container_id if new_keyring else "",
            program,
        )
        task = replace(task, preserved=preserved)
        if state.namespaces & CLONE_NEWUSER or (state.namespaces & CLONE_NEWPID and usernamespace.inside()):
            # there would be no way back for this process
            run = ExecTask(task=task, pidfd=target, namespaces=state.namespaces)
            child = spawn(ours, 0, lambda files: run_exec_between(_adding(run, files)), cgroup=group)
        else:
            run = ExecTask(task=task, pidfd=target, namespaces=state.namespaces & ~CLONE_NEWPID)
            pid_namespace: int | str = target if state.namespaces & CLONE_NEWPID else ""
            child = spawn(
                ours, 0, lambda files: run_exec(_adding(run, files)), cgroup=group, pid_namespace=pid_namespace
            )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(target)
    try:
        child.follow(b"", on_listener=lambda fd: hand_over(state, child.pid, fd), warn=warn)
    except BaseException:
        child.end_it()
        raise
    ours.close()
    return Executed(pid=child.pid, pidfd=child.pidfd, console_fd=child.console_fd)


def _below(groups: Cgroup, path: str) -> Cgroup:
    """Returns the groups of a name below a container's own."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        raise InvalidInput("not a control group below the container's", where=path)
    if not parts:
        return groups
    name = "/".join(parts)
    return Cgroup(tuple(Group(group.version, group.controllers, f"{group.path}/{name}") for group in groups.groups))


def _adding(run: ExecTask, files: tuple[str, ...]) -> ExecTask:
    return replace(run, task=replace(run.task, procs_files=files))
