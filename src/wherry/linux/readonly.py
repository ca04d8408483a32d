"""This process's own executable, out of reach: executed anew by a mount of it that is read-only and on no path.

A process that enters a container can be seen there before it becomes the container's command, and its
``/proc/PID/exe`` leads to the host's interpreter, for whoever may look through it (CAP_SYS_PTRACE), or by a script
whose interpreter is ``/proc/self/exe`` and that is put in place between a look at the command and its execution
(CVE-2019-5736). By such a mount nobody writes: it is in no mount namespace, so nothing can remount it.
"""

from __future__ import annotations

import os
import sys

from wherry.linux import x

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

_EXECUTABLE = "/proc/self/exe"


def is_read_only() -> bool:
    """Tells whether this process's executable lies on a mount that is read-only."""
    return bool(os.statvfs(_EXECUTABLE).f_flag & os.ST_RDONLY)


def execute_interpreter(args: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Executes this interpreter with other arguments, by a read-only mount of it where that can be had.

    Raises:
        OSError: it is not there any more.
    """
    try_to_execute(args, environment)
    os.execve(sys.executable, args, environment)  # noqa: S606 our own interpreter


def try_to_execute(args: list[str], environment: Mapping[str, str]) -> None:
    """As `execute_interpreter`, but comes back where there is no such mount."""
    try:
        os.execve(_read_only(sys.executable), args, environment)  # noqa: S606 our own interpreter
    except OSError:
        return


def _read_only(path: str) -> int:
    fd = x.open_tree(os.path.realpath(path))
    x.mount_setattr(fd, attr_set=x.MOUNT_ATTR_RDONLY)
    return fd


def execute_read_only(environment: Mapping[str, str]) -> None:
    """Executes this program again, with its arguments, by a read-only mount of its interpreter.

    Comes back where that cannot be: without CAP_SYS_ADMIN, and before Linux 5.12. To be called early, as nothing that
    was done is kept, and once, as the environment may say.
    """
    try:
        os.execve(_read_only(_EXECUTABLE), sys.orig_argv, environment)  # noqa: S606 this very program
    except OSError:
        return  # what else stands against it is described in docs/internals/runtime.md
