"""The life of a container: create, start, exec, kill, delete.

    create ── child exists in its namespaces and control groups, its root is made; it waits
       │      (the caller gives its network namespace a network)
    start ─── the child executes the command, or the reason why not is raised
       │
    kill, exec_process ...
       │
    delete ── everything in the control groups is killed, they and the state are removed

The container's first process is a direct child of the caller of `create`, who reaps it with ``os.waitpid``; if the
caller dies before `start`, the child ends by itself. The caller has a single thread, as the child comes from a bare
clone(2). What is *not* here: images, networks, restarts and logs (``engine/``); user namespaces; a `start` by
another process than the one that created. Budget: under 15 ms from `create` to the end of ``true``.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import NamedTuple, NoReturn

from wherry.core.durable import make_dirs, map_os_error
from wherry.core.errors import (
    CannotInvoke,
    CommandNotFound,
    Conflict,
    InvalidInput,
    NoSpace,
    NotPermitted,
    Unsupported,
    WherryError,
)
from wherry.core.value import replace
from wherry.linux import capabilities, namespaces, seccomp, x
from wherry.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWPID, FLAG_OF_FILE
from wherry.linux.process import pidfd_open, pidfd_send_signal
from wherry.runtime import channel, stage
from wherry.runtime import state as states
from wherry.runtime.cgroup import Cgroup, Hierarchy, hierarchies
from wherry.runtime.check import check_process, check_spec
from wherry.runtime.rootfs import plan
from wherry.runtime.spec import Capabilities, Namespace, Process, Spec
from wherry.runtime.state import State, Status, load_state

_FLAG_OF_NAMESPACE = {
    Namespace.PID: CLONE_NEWPID,
    Namespace.NETWORK: FLAG_OF_FILE["net"],
    Namespace.MOUNT: CLONE_NEWNS,
    Namespace.IPC: FLAG_OF_FILE["ipc"],
    Namespace.UTS: FLAG_OF_FILE["uts"],
    Namespace.CGROUP: CLONE_NEWCGROUP,
}
_NOT_INVOKED = (errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELIBBAD, errno.ENOTDIR)
_NO_CLONE_INTO = (errno.ENOSYS, errno.EINVAL, errno.E2BIG, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
"""clone3(2) or its flag is missing, hidden by a filter, or may not be used here: the child then joins by itself."""
_COMMAND_STEPS = ("looking for the command", "executing the command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """The descriptors that become 0, 1 and 2 in the container; they stay open in the caller."""

    stdin_fd: int
    stdout_fd: int
    stderr_fd: int


class Created:
    """A container that waits for `start`.

    Attributes:
        pid: of its first process, a child of the caller.
        pidfd: of the same; the caller's to close.
        console_fd: the master side of its terminal, the caller's to close; None without one.
        state_dir: where its state is.
    """

    def __init__(self, pid: int, pidfd: int, console_fd: int | None, state_dir: Path, end: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd
        self.state_dir = state_dir
        self._end = end


class Executed(NamedTuple):
    """A process that was added to a container; a child of the caller."""

    pid: int
    pidfd: int
    console_fd: int | None


def create(spec: Spec, *, container_id: str, state_dir: Path, rootfs: Path, stdio: Stdio | None = None) -> Created:
    """Makes a container whose first process waits for `start`.

    Args:
        spec: what it shall be.
        container_id: its name; control groups are called after it.
        state_dir: where its state is kept; made when missing. One container each.
        rootfs: its root tree; is not changed but for missing mount points.
        stdio: its standard descriptors; needed unless the process has a terminal.

    Raises:
        Conflict: there is a container in `state_dir`, or processes in its control groups.
        Unsupported: this kernel cannot do what is asked for.
        InvalidInput: the specification contradicts itself.
        WherryError: a step of the setup failed; it is named, and nothing is left behind.
    """
    check_spec(spec, container_id)
    _need_stdio(spec.process, stdio)
    make_dirs(state_dir, mode=0o700)
    if (state_dir / states.FILE).exists():
        raise Conflict("there is a container already", where=state_dir, hint="delete it first")
    found = hierarchies()
    try:
        cgroup = Cgroup.create(spec.cgroups_path or f"/wherry/{container_id}", found=found)
    except OSError as error:
        raise map_os_error(error, "cannot make control groups", where=error.filename) from error
    try:
        return _create(spec, container_id, state_dir, rootfs, stdio, cgroup, found)
    except BaseException:
        (state_dir / states.FILE).unlink(missing_ok=True)
        cgroup.remove()
        raise


def _create(
    spec: Spec,
    container_id: str,
    state_dir: Path,
    rootfs: Path,
    stdio: Stdio | None,
    cgroup: Cgroup,
    found: tuple[Hierarchy, ...],
) -> Created:
    try:
        cgroup.apply(spec.resources)
    except OSError as error:
        raise map_os_error(error, "cannot set a limit", where=error.filename) from error
    # Where the devices list cannot be kept, the container must not get at a device node of its own making.
    unguarded = not cgroup.controls_devices and any(not rule.allow for rule in spec.resources.devices)
    process = _without_mknod(spec.process) if unguarded else spec.process
    flags = sum(_FLAG_OF_NAMESPACE[name] for name, path in spec.namespaces.items() if not path)
    joined = tuple((path, _FLAG_OF_NAMESPACE[name]) for name, path in spec.namespaces.items() if path)
    program = None if spec.seccomp is None else seccomp.compile_profile(spec.seccomp)
    ours, theirs = channel.pair()
    try:
        init = stage.InitTask(
            task=_task(process, stdio, theirs.fileno(), cgroup, container_id, program),
            rootfs=str(rootfs),
            plan=plan(spec, _joined(cgroup, found)),
            root_attributes=x.MOUNT_ATTR_NODEV if unguarded else 0,
            new_cgroup_namespace=bool(flags & CLONE_NEWCGROUP),
            join=joined,
            hostname=spec.hostname,
            domainname=spec.domainname,
            sysctl=tuple(spec.sysctl.items()),
        )
        pid, pidfd = _clone(flags & ~CLONE_NEWCGROUP, cgroup, lambda files: stage.run_init(_entering(init, files)))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    console_fd: int | None = None
    try:
        while True:
            kind, failure, fd = channel.receive(ours)
            if kind == channel.CONSOLE:
                console_fd = fd
            elif kind == channel.READY:
                break
            else:
                raise _setup_error(failure)
        states.save(
            state_dir,
            State(
                container_id=container_id,
                pid=pid,
                start_ticks=states.start_ticks(pid) or 0,
                boot_id=states.boot_id(),
                cgroup=cgroup,
                namespaces=flags | sum(flag for _, flag in joined),
                filter=b"" if program is None else program.code,
                devices_unguarded=unguarded,
                created_s=int(time.time()),
                status=Status.CREATED,
            ),
        )
    except BaseException:
        ours.close()
        _reap(pid, pidfd)
        if console_fd is not None:
            os.close(console_fd)
        raise
    return Created(pid, pidfd, console_fd, state_dir, ours)


def start(created: Created) -> None:
    """Has a created container execute its command; returns when it has.

    Raises:
        CommandNotFound: the command is not in the container.
        CannotInvoke: it is there, but cannot be executed.
        Conflict: it was started already.
        WherryError: another step failed. In each case the process has ended; the caller reaps and deletes it.
    """
    end = created._end
    if end.fileno() < 0:
        raise Conflict("the container was started already", where=created.state_dir)
    with end:
        try:
            end.send(channel.GO)
        except BrokenPipeError:
            raise WherryError("the container's first process is gone", where=created.state_dir) from None
        kind, failure, _ = channel.receive(end)
        if kind:
            raise _setup_error(failure)
    current = load_state(created.state_dir)
    states.save(created.state_dir, changed(current, status=Status.RUNNING))


def exec_process(state_dir: Path, process: Process, *, stdio: Stdio | None = None) -> Executed:
    """Runs a further process in a container, with all its namespaces, limits and filter.

    Args:
        state_dir: the container's.
        process: the process; its capabilities are those that it gets.
        stdio: its standard descriptors; needed unless it has a terminal.

    Raises:
        Conflict: the container does not run.
        CommandNotFound: the command is not in the container.
        CannotInvoke: it is there, but cannot be executed.
        WherryError: another step failed; it is named.
    """
    check_process(process)
    _need_stdio(process, stdio)
    state, target = open_state(state_dir)
    own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = channel.pair()
    try:
        task = _task(
            _without_mknod(process) if state.devices_unguarded else process,
            stdio,
            theirs.fileno(),
            state.cgroup,
            state.container_id,
            seccomp.Program(state.filter) if state.filter else None,
        )
        try:
            if state.namespaces & CLONE_NEWPID:
                namespaces.setns(target, CLONE_NEWPID)
            pid, pidfd = _clone(
                0,
                state.cgroup,
                lambda files: stage.run_exec(task._replace(procs_files=files), target, state.namespaces),
            )
        except OSError as error:
            raise map_os_error(error, "cannot enter the container", where=state_dir) from error
        finally:
            namespaces.setns(own_pid_namespace, CLONE_NEWPID)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(own_pid_namespace)
        os.close(target)
    console_fd: int | None = None
    try:
        with ours:
            while True:
                kind, failure, fd = channel.receive(ours)
                if kind == channel.CONSOLE:
                    console_fd = fd
                elif kind:
                    raise _setup_error(failure)
                else:
                    return Executed(pid, pidfd, console_fd)
    except BaseException:
        _reap(pid, pidfd)
        if console_fd is not None:
            os.close(console_fd)
        raise


def open_state(state_dir: Path) -> tuple[State, int]:
    """Returns the state of a container that lives, and a pidfd of its first process, surely of that one.

    Raises:
        Conflict: it does not live.
    """
    state = load_state(state_dir)
    if state.status is not Status.STOPPED:
        try:
            pidfd = pidfd_open(state.pid)
        except ProcessLookupError:
            pass
        else:
            # The number may have been given to another process before the pidfd was there, not afterwards.
            if states.start_ticks(state.pid) == state.start_ticks:
                return state, pidfd
            os.close(pidfd)
    raise Conflict("the container does not run", where=state.container_id)


def kill(state_dir: Path, number: int) -> None:
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


def delete(state_dir: Path) -> None:
    """Kills whatever is left of a container, and removes its control groups and state; again does nothing.

    Its first process, if it lives, is left for the caller of `create` to reap.

    Raises:
        Timeout: a process does not die.
    """
    if not (state_dir / states.FILE).exists():
        return
    try:
        state, pidfd = open_state(state_dir)
    except Conflict:
        state = load_state(state_dir)
    else:
        try:
            pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    state.cgroup.remove()
    (state_dir / states.FILE).unlink(missing_ok=True)


def abandon(created: Created) -> None:
    """Ends a container that was created and is not to be started, reaps it, and deletes it."""
    created._end.close()
    _reap(created.pid, created.pidfd)
    if created.console_fd is not None:
        os.close(created.console_fd)
    delete(created.state_dir)


def _joined(cgroup: Cgroup, found: tuple[Hierarchy, ...]) -> tuple[Hierarchy, ...]:
    """Returns the hierarchies that a container is in."""
    paths = [group.path for group in cgroup.groups]
    return tuple(item for item in found if any(path.startswith(f"{item.mount}/") for path in paths))


def _clone(flags: int, cgroup: Cgroup, body: Callable[[tuple[str, ...]], NoReturn]) -> tuple[int, int]:
    """Makes the child, born in its group of version 2 where possible; `body` takes the files to join the others."""
    try:
        try:
            into = cgroup.open_for_clone()
        except FileNotFoundError as error:
            raise WherryError("the container's control group is gone", where=error.filename) from None
        try:
            pid, pidfd = namespaces.clone(flags, cgroup_fd=into)
        except OSError as error:
            if into < 0 or error.errno not in _NO_CLONE_INTO:
                raise
            pid, pidfd = namespaces.clone(flags)
            if pid == 0:
                body(cgroup.procs_files)
        finally:
            if into >= 0:
                os.close(into)
    except OSError as error:
        what = f"cannot make a process in new namespaces: {error.strerror}"
        if error.errno == errno.EPERM:
            raise NotPermitted(what, hint="containers need root") from error
        if error.errno == errno.ENOSPC:
            raise WherryError(what, hint="raise the limits in /proc/sys/user/max_*_namespaces") from error
        raise WherryError(what, hint="look whether a limit of processes or memory is reached") from error
    if pid == 0:
        body(cgroup.procs_files if into < 0 else cgroup.procs_files_after_clone)
    return pid, pidfd


def _entering(init: stage.InitTask, files: tuple[str, ...]) -> stage.InitTask:
    return init._replace(task=init.task._replace(procs_files=files))


def _reap(pid: int, pidfd: int) -> None:
    try:
        pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.close(pidfd)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def _task(
    process: Process,
    stdio: Stdio | None,
    channel_fd: int,
    cgroup: Cgroup,
    container_id: str,
    program: seccomp.Program | None,
) -> stage.Task:
    environment: dict[bytes, bytes] = {}
    for item in process.env:
        name, equals, value = item.partition("=")
        if not name or not equals or "\0" in item:
            raise InvalidInput("not NAME=VALUE", where=f"process.env: {item}")
        environment[os.fsencode(name)] = os.fsencode(value)
    return stage.Task(
        process=process,
        sets=_sets(process.capabilities),
        filter=program,
        environment=environment,
        stdio=None if process.terminal or stdio is None else (stdio.stdin_fd, stdio.stdout_fd, stdio.stderr_fd),
        channel_fd=channel_fd,
        procs_files=cgroup.procs_files,
        keyring=container_id,
    )


def _sets(wanted: Capabilities) -> stage.Sets:
    have = capabilities.permitted()
    return stage.Sets(
        bounding=capabilities.mask(wanted.bounding),
        effective=capabilities.mask(wanted.effective) & have,
        permitted=capabilities.mask(wanted.permitted) & have,
        inheritable=capabilities.mask(wanted.inheritable) & have,
        ambient=capabilities.mask(wanted.ambient) & have,
    )


def _without_mknod(process: Process) -> Process:
    """Returns the process without CAP_MKNOD, for hosts on which nothing else keeps it from the host's devices."""

    def less(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name != "CAP_MKNOD")

    sets = process.capabilities
    return replace(
        process,
        capabilities=Capabilities(
            bounding=less(sets.bounding),
            effective=less(sets.effective),
            permitted=less(sets.permitted),
            inheritable=less(sets.inheritable),
            ambient=less(sets.ambient),
        ),
    )


def _need_stdio(process: Process, stdio: Stdio | None) -> None:
    if stdio is None and not process.terminal:
        raise InvalidInput("a process without a terminal needs standard descriptors")


def _setup_error(failure: channel.Failure | None) -> WherryError:
    if failure is None:
        return WherryError(
            "the container's first process died while it was set up", hint="look at `dmesg` for an out-of-memory kill"
        )
    if failure.step in _COMMAND_STEPS:
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
