"""The parent's side of a process that sets itself up: made, listened to, and told to go on.

The process is a direct child of the caller, whichever way it came to be, and is known by a pidfd.
"""

from __future__ import annotations

import errno
import os

from wherry.core.errors import CannotInvoke, CommandNotFound, NoSpace, NotPermitted, Unsupported, WherryError
from wherry.linux import namespaces
from wherry.linux.namespaces import CLONE_NEWPID, CLONE_NEWTIME
from wherry.linux.process import pidfd_send_signal
from wherry.linux.signals import SIGKILL
from wherry.runtime import channel
from wherry.runtime.become import EXECUTING, LOOKING
from wherry.runtime.stage_steps import make_time_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 the standard class, under its usual kind of name
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from wherry.runtime.cgroup import Cgroup
    from wherry.runtime.channel import Failure
    from wherry.runtime.spec import TimeOffset
    from wherry.runtime.state import State

_NOT_INVOKED = (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELIBBAD, errno.ENOTDIR)
_NO_CLONE_INTO = (errno.ENOSYS, errno.EINVAL, errno.E2BIG, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
"""clone3(2) or its flag is missing, hidden by a filter, or may not be used here: the child then joins by itself."""


def hand_over(state: State, pid: int, fd: int) -> None:
    """Gives the listener of a filter to the process that answers for it.

    Source: Runtime Specification 1.2.0, config-linux.md, "The Container Process State".

    Raises:
        WherryError: it does not listen.
    """
    from wherry.core import jsonio
    from wherry.runtime.spec import OCI_VERSION
    from wherry.runtime.state import oci_state

    path, metadata = state.listener or ("", "")
    told = {
        "ociVersion": OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata,
        "state": oci_state(state),
    }
    try:
        channel.send_to(path, jsonio.compact(told), fd)
    except OSError as error:
        raise WherryError(f"cannot hand the listener of the filter over: {error.strerror}", where=path) from None


class Child:
    """A process that sets itself up.

    Attributes:
        pid: a child of this process.
        pidfd: of the same.
        console_fd: the master side of its terminal, once it has sent it.
        end: this side of the channel.
    """

    def __init__(self, pid: int, pidfd: int, end: Socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd: int | None = None
        self.end = end

    def follow(
        self,
        until: bytes,
        *,
        on_map: Callable[[int], None] | None = None,
        on_hooks: Callable[[int], None] | None = None,
        on_listener: Callable[[int], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Does what the process asks for, until it says a certain thing; ``b""`` is that it was executed.

        Raises:
            WherryError: it failed, and says with what.
        """
        while True:
            kind, text, fd = channel.receive(self.end)
            if kind == until:
                return
            if kind == channel.CONSOLE:
                self.console_fd = fd
            elif kind == channel.CHILD and fd is not None:
                os.waitpid(self.pid, 0)
                os.close(self.pidfd)
                self.pid, self.pidfd = int(text), fd
            elif kind == channel.MAP and on_map is not None:
                on_map(self.pid)
                self.end.send(channel.GO)
            elif kind == channel.HOOKS and on_hooks is not None:
                on_hooks(self.pid)
                self.end.send(channel.GO)
            elif kind == channel.LISTENER and fd is not None:
                try:
                    if on_listener is not None:
                        on_listener(fd)
                finally:
                    os.close(fd)
            elif kind == channel.WARNING:
                if warn is not None:
                    warn(text.decode(errors="replace"))
            else:
                raise setup_error(channel.failure_of(text) if kind == channel.FAILED else None)

    def end_it(self) -> None:
        """Kills the process, reaps it, and closes all that is known of it."""
        self.end.close()
        reap(self.pid, self.pidfd)
        if self.console_fd is not None:
            os.close(self.console_fd)


def reap(pid: int, pidfd: int) -> None:
    """Kills a child of this process, waits for its end, and closes its pidfd."""
    try:
        pidfd_send_signal(pidfd, SIGKILL)
    except ProcessLookupError:
        pass
    os.close(pidfd)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def spawn(
    end: Socket,
    flags: int,
    body: Callable[[tuple[str, ...]], NoReturn],
    *,
    cgroup: Cgroup,
    pid_namespace: int | str = "",
    time_offsets: Mapping[str, TimeOffset] | None = None,
    born_inside: bool = True,
) -> Child:
    """Makes a process in new namespaces, of which those that only children can enter are this process's for a moment.

    Args:
        end: this side of the channel.
        flags: ``CLONE_NEW*`` of the clone.
        body: what the process does; takes the files by which it joins its control groups.
        cgroup: they; it is born in the one of version 2 where possible.
        pid_namespace: of it: a pidfd, or the path of a namespace file; "" is this process's own, or that of `flags`.
        time_offsets: of a new time namespace for it; None makes none.
        born_inside: whether it may be born in the group of version 2; else it joins when it has done what it must
            before that.
    """
    before: list[tuple[int, int]] = []
    try:
        try:
            if pid_namespace != "":
                before.append((_open("/proc/self/ns/pid"), CLONE_NEWPID))
                target = _open(pid_namespace) if isinstance(pid_namespace, str) else os.dup(pid_namespace)
                try:
                    namespaces.setns(target, CLONE_NEWPID)
                finally:
                    os.close(target)
            if time_offsets is not None:
                before.append((_open("/proc/self/ns/time"), CLONE_NEWTIME))
                make_time_namespace(time_offsets)
            pid, pidfd, files = _clone(flags, cgroup, born_inside=born_inside)
        except OSError as error:
            raise _clone_error(error) from error
        if pid == 0:
            body(files)
        return Child(pid, pidfd, end)
    finally:
        for fd, flag in before:
            namespaces.setns(fd, flag)
            os.close(fd)


def _clone(flags: int, cgroup: Cgroup, *, born_inside: bool) -> tuple[int, int, tuple[str, ...]]:
    try:
        into = cgroup.open_for_clone() if born_inside else -1
    except FileNotFoundError as error:
        raise WherryError("the container's control group is gone", where=error.filename) from None
    if into < 0:
        return (*namespaces.clone(flags), cgroup.procs_files)
    try:
        return (*namespaces.clone(flags, cgroup_fd=into), cgroup.procs_files_after_clone)
    except OSError as error:
        if error.errno not in _NO_CLONE_INTO:
            raise
        return (*namespaces.clone(flags), cgroup.procs_files)
    finally:
        os.close(into)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _clone_error(error: OSError) -> WherryError:
    what = f"cannot make a process in new namespaces: {error.strerror}"
    if error.errno == errno.EPERM:
        return NotPermitted(what, hint="containers need root, or a user namespace of their own")
    if error.errno == errno.ENOSPC:
        return WherryError(what, hint="raise the limits in /proc/sys/user/max_*_namespaces")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
        return WherryError(f"cannot join a namespace: {error.strerror}", where=error.filename)
    return WherryError(what, hint="look whether a limit of processes or memory is reached")


def setup_error(failure: Failure | None) -> WherryError:
    """Returns the error for what a child could not do; None when it died without a word."""
    if failure is None:
        return WherryError(
            "the container's first process died while it was set up", hint="look at `dmesg` for an out-of-memory kill"
        )
    if failure.step in (LOOKING, EXECUTING):
        if failure.errno == errno.ENOENT:
            return CommandNotFound(f"command not found in the container: {failure.text}")
        if failure.errno in _NOT_INVOKED:
            return CannotInvoke(f"the command cannot be executed: {failure.text}")
    what = f"cannot set up the container: {failure.step}: {failure.text}"
    if failure.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(what)
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, hint="free some space, then try again")
    if failure.errno == errno.ENOSYS:
        return Unsupported(what, hint="see `wherry doctor`")
    return WherryError(what)
