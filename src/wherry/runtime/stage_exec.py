"""The child's side of a process that is added to a container; see ``stage.py``, which says what holds for both."""

from __future__ import annotations

import os
import sys

from wherry.core.value import Value
from wherry.linux.namespaces import CLONE_NEWNS, setns
from wherry.linux.process import set_dumpable
from wherry.runtime.become import At, Task, become, identify
from wherry.runtime.stage_steps import (
    be_root,
    clone_sibling,
    detach,
    fail,
    join_groups,
    lead,
    make_terminal,
    open_label,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class ExecTask(Value):
    """What a process that is added to a container needs further."""

    task: Task
    pidfd: int
    """Of the container's first process."""
    namespaces: int


def run_exec(run: ExecTask) -> NoReturn:
    """Enters a container's namespaces and becomes a command beside its first process.

    The caller has set the pid namespace of its children already.
    """
    at = At()
    try:
        _enter(run, at)
        _exec(run, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        fail(at, error)


def run_exec_between(run: ExecTask) -> NoReturn:
    """Enters a container's user namespace with all the others at once, and clones the process that is added."""
    at = At()
    try:
        _enter(run, at)
        be_root(at)
        clone_sibling(0, at)
        _exec(run, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        fail(at, error)


def _enter(run: ExecTask, at: At) -> None:
    """Enters the control groups and namespaces of a container."""
    set_dumpable(False)  # see `stage.run_init`
    detach(run.task, at, keep=(run.pidfd,))
    (pidfd,) = at.kept
    join_groups(run.task, at)
    open_label(run.task, at)
    at.step = "entering the container's namespaces"
    setns(pidfd, run.namespaces)
    os.close(pidfd)
    if run.namespaces & CLONE_NEWNS:
        os.chdir("/")
    set_dumpable(False)


def _exec(run: ExecTask, at: At) -> NoReturn:
    task = run.task
    lead(task, at)
    sys.meta_path.clear()
    at.step = "looking up the user"
    task = identify(task)
    if task.stdio is None:
        at.step = "making the terminal"
        make_terminal(task, at)
    become(task, at)
