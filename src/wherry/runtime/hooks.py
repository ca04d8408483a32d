"""Hooks: programs that are run at the six points of a container's life, with its state on standard input.

    create   prestart, createRuntime    in the runtime's namespaces, the container's are there and mounted
             createContainer            in the container's namespaces, before its root is entered
    start    startContainer             in the container, before its command
             poststart                  in the runtime's namespaces, after the command was executed
    delete   poststop                   in the runtime's namespaces, when everything is gone

A failure of the first four ends the container; one of the last two is only told. A hook that takes longer than its
timeout is killed, and has failed. The state is handed over as a file without a name, so that a hook that does not read
it stops nobody.
Source: Runtime Specification 1.2.0, config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".
"""

from __future__ import annotations

import os
import select

from wherry.core.errors import WherryError
from wherry.linux.process import pidfd_open, pidfd_send_signal
from wherry.linux.signals import SIGKILL, valid_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.runtime.spec import Hook

_MS = 1000
_inherited: dict[str, str] = {}


class HookError(WherryError):
    """A hook failed."""


def inherit(environment: Mapping[str, str]) -> None:
    """Gives hooks that have no environment of their own this one, as runc and crun do with theirs."""
    _inherited.update(environment)


def run_hooks(point: str, hooks: tuple[Hook, ...], state: bytes) -> None:
    """Runs the hooks of one point, in their order.

    Args:
        point: the specification's name of it.
        hooks: the hooks.
        state: the container's state, as JSON.

    Raises:
        HookError: one failed; those after it were not run.
    """
    for hook in hooks:
        _run(point, hook, state)


def _run(point: str, hook: Hook, state: bytes) -> None:
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        environment = dict(item.partition("=")[::2] for item in hook.env) if hook.env else _inherited
        try:
            pid = os.posix_spawn(
                hook.path,
                hook.args or (hook.path,),
                environment,
                file_actions=((os.POSIX_SPAWN_DUP2, stdin, 0),),
                setsigmask=(),
                setsigdef=valid_signals(),
            )
        except OSError as error:
            raise HookError(f"the {point} hook cannot be run: {error.strerror}", where=hook.path) from None
    finally:
        os.close(stdin)
    status = _wait(pid, hook.timeout_s)
    if status is None:
        raise HookError(f"the {point} hook took longer than {hook.timeout_s} s", where=hook.path)
    if status:
        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
        raise HookError(f"the {point} hook {how}", where=hook.path)


def _wait(pid: int, timeout_s: int | None) -> int | None:
    """Waits for a hook; kills it, and returns None, when its time is over."""
    if timeout_s is not None:
        pidfd = pidfd_open(pid)
        try:
            waiting = select.poll()
            waiting.register(pidfd, select.POLLIN)
            if not waiting.poll(timeout_s * _MS):
                pidfd_send_signal(pidfd, SIGKILL)
                os.waitpid(pid, 0)
                return None
        finally:
            os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
