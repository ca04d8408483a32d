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

import fcntl
import os
import time

from wherry.core.errors import Conflict, InvalidInput, WherryError
from wherry.core.value import Value, replace
from wherry.linux import capabilities, x
from wherry.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    FLAG_OF_FILE,
)
from wherry.linux.process import pidfd_open, pidfd_send_signal
from wherry.linux.signals import SIGKILL
from wherry.runtime import channel, stage
from wherry.runtime import state as states
from wherry.runtime.become import Sets, Task
from wherry.runtime.cgroup import Cgroup, Group, Hierarchy, hierarchies
from wherry.runtime.check import check_process, check_spec
from wherry.runtime.hooks import HookError, run_hooks
from wherry.runtime.rootfs import plan
from wherry.runtime.spawn import Child, reap, setup_error, spawn
from wherry.runtime.spec import Capabilities, Hooks, Namespace
from wherry.runtime.state import State, Status, load_state, oci_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 the standard class, under its usual kind of name
    from collections.abc import Callable

    from wherry.linux.seccomp import Program
    from wherry.runtime.spec import Process, Spec

    StrPath = str | os.PathLike[str]

_FLAG_OF_NAMESPACE = {
    Namespace.PID: CLONE_NEWPID,
    Namespace.NETWORK: FLAG_OF_FILE["net"],
    Namespace.MOUNT: CLONE_NEWNS,
    Namespace.IPC: FLAG_OF_FILE["ipc"],
    Namespace.UTS: FLAG_OF_FILE["uts"],
    Namespace.CGROUP: CLONE_NEWCGROUP,
    Namespace.USER: CLONE_NEWUSER,
    Namespace.TIME: CLONE_NEWTIME,
}
_NOT_CLONED = CLONE_NEWCGROUP | CLONE_NEWUSER | CLONE_NEWTIME
"""What a child makes, or what is made for it, apart from the clone."""


class Stdio(Value):
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

    def __init__(self, pid: int, pidfd: int, console_fd: int | None, state_dir: str, end: Socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd
        self.state_dir = state_dir
        self._end = end


class Executed(Value):
    """A process that was added to a container; a child of the caller."""

    pid: int
    pidfd: int
    console_fd: int | None


def create(
    spec: Spec,
    *,
    container_id: str,
    state_dir: StrPath,
    rootfs: StrPath,
    stdio: Stdio | None = None,
    bundle: str = "",
    detached: bool = False,
    mount_root: Callable[[], None] | None = None,
    preserved: tuple[int, ...] = (),
    cgroups: bool = True,
    new_keyring: bool = True,
    warn: Callable[[str], None] | None = None,
) -> Created:
    """Makes a container whose first process waits for `start`.

    Args:
        spec: what it shall be.
        container_id: its name; control groups are called after it.
        state_dir: where its state is kept; made when missing. One container each.
        rootfs: its root tree; is not changed but for missing mount points.
        stdio: its standard descriptors; needed unless the process has a terminal.
        bundle: the directory that it came from, for the state.
        detached: another process will start it, by `start_detached`; it outlives this one.
        mount_root: called in the child, in its new mount namespace and still in the host's root, before `rootfs` is
            looked at: for a root that is mounted there alone.
        preserved: descriptors that become 3 and up in the container.
        cgroups: make control groups; without, no limit is kept.
        new_keyring: give it a session keyring of its own.
        warn: told what was asked for and could not be given.

    Raises:
        Conflict: there is a container in `state_dir`, or processes in its control groups.
        Unsupported: this kernel cannot do what is asked for.
        InvalidInput: the specification contradicts itself.
        HookError: a hook failed.
        WherryError: a step of the setup failed; it is named, and nothing is left behind.
    """
    check_spec(spec, container_id)
    _need_stdio(spec.process, stdio)
    directory = os.fspath(state_dir)
    lock = _claim(directory)
    try:
        making = _Making(spec, container_id, directory, os.fspath(rootfs), bundle)
        return making.run(
            stdio=stdio,
            detached=detached,
            mount_root=mount_root,
            preserved=preserved,
            cgroups=cgroups,
            keyring=container_id if new_keyring else "",
            warn=warn,
        )
    finally:
        os.close(lock)


def _claim(directory: str) -> int:
    """Makes a state directory and locks it for the time of the making; two at once are told apart by that."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        from wherry.core.durable import map_os_error

        raise map_os_error(error, "cannot make the state directory", where=directory) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(f"{directory}/{states.FILE}"):
            raise BlockingIOError
    except BlockingIOError:
        os.close(lock)
        raise Conflict("there is a container already", where=directory, hint="delete it first") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


class _Making:
    """One container in the making: what its parts have in common."""

    def __init__(self, spec: Spec, container_id: str, state_dir: str, rootfs: str, bundle: str) -> None:
        self._spec = spec
        self._id = container_id
        self._dir = state_dir
        self._rootfs = rootfs
        self._bundle = bundle
        self._found: tuple[Hierarchy, ...] = ()
        self._cgroup = Cgroup(())
        self._program: Program | None = None
        self._unguarded = False
        self._flags = sum(_FLAG_OF_NAMESPACE[name] for name in spec.namespaces)

    def run(
        self,
        *,
        stdio: Stdio | None,
        detached: bool,
        mount_root: Callable[[], None] | None,
        preserved: tuple[int, ...],
        cgroups: bool,
        keyring: str,
        warn: Callable[[str], None] | None,
    ) -> Created:
        ours, theirs = channel.pair()
        listening: Socket | None = None
        child: Child | None = None
        try:
            try:
                if cgroups:
                    self._make_groups()
                self._guard_devices(cgroups)
                self._compile()
                if detached:
                    listening = channel.listen(self._dir)
                init = self._init_task(self._task(stdio, theirs, listening, preserved, keyring), mount_root=mount_root)
                child = self._spawn(ours, init)
            finally:
                theirs.close()
            child.follow(channel.READY, on_map=self._write_maps, on_hooks=self._run_hooks, warn=warn)
            self._save(child.pid, Status.CREATED)
        except BaseException:
            ours.close()
            if child is not None:
                child.end_it()
            self._undo()
            raise
        finally:
            if listening is not None:
                listening.close()
        return Created(child.pid, child.pidfd, child.console_fd, self._dir, child.end)

    def _make_groups(self) -> None:
        from wherry.core.durable import map_os_error

        self._found = hierarchies()
        try:
            self._cgroup = Cgroup.create(self._spec.cgroups_path or f"/wherry/{self._id}", found=self._found)
        except OSError as error:
            raise map_os_error(error, "cannot make control groups", where=error.filename) from error
        try:
            self._cgroup.apply(self._spec.resources)
        except OSError as error:
            raise map_os_error(error, "cannot set a limit", where=error.filename) from error

    def _guard_devices(self, cgroups: bool) -> None:
        """Decides whether the container must not get at a device node of its own making in another way.

        It must, where the devices list cannot be kept. In a user namespace the kernel itself refuses device nodes.
        """
        denies = any(not rule.allow for rule in self._spec.resources.devices)
        self._unguarded = denies and not self._cgroup.controls_devices and not self._flags & CLONE_NEWUSER

    def _compile(self) -> None:
        if self._spec.seccomp is not None:
            from wherry.linux.seccomp import compile_profile

            self._program = compile_profile(self._spec.seccomp)

    def _task(
        self, stdio: Stdio | None, theirs: Socket, listening: Socket | None, preserved: tuple[int, ...], keyring: str
    ) -> Task:
        process = _without_mknod(self._spec.process) if self._unguarded else self._spec.process
        task = _task(process, stdio, theirs.fileno(), keyring, self._program)
        return replace(task, listen_fd=-1 if listening is None else listening.fileno(), preserved=preserved)

    def _init_task(self, task: Task, *, mount_root: Callable[[], None] | None) -> stage.InitTask:
        spec, spaces = self._spec, self._spec.namespaces
        new = sum(_FLAG_OF_NAMESPACE[name] for name, path in spaces.items() if not path)
        apart = (Namespace.USER, Namespace.PID)
        hooks = spec.hooks
        needs_state = hooks.create_container or hooks.start_container
        return stage.InitTask(
            task=task,
            spec=spec,
            rootfs=self._rootfs,
            plan=plan(spec, _joined(self._cgroup, self._found)),
            root_attributes=x.MOUNT_ATTR_NODEV if self._unguarded else 0,
            mount_root=mount_root,
            flags=new & ~_NOT_CLONED,
            new_cgroup_namespace=bool(new & CLONE_NEWCGROUP),
            join=tuple((path, _FLAG_OF_NAMESPACE[name]) for name, path in spaces.items() if path and name not in apart),
            user_path=spaces.get(Namespace.USER),
            pid_path=spaces.get(Namespace.PID, ""),
            time_offsets=spec.time_offsets if new & CLONE_NEWTIME else None,
            runtime_hooks=bool(hooks.prestart or hooks.create_runtime),
            create_container=hooks.create_container,
            start_container=hooks.start_container,
            state=self._state_json(self._state(stage.PID_MARK, 0, Status.CREATING)) if needs_state else b"",
        )

    def _spawn(self, ours: Socket, init: stage.InitTask) -> Child:
        if init.user_path is not None:
            return spawn(ours, 0, lambda files: stage.run_init_between(_entering(init, files)), cgroup=self._cgroup)
        return spawn(
            ours,
            init.flags,
            lambda files: stage.run_init(_entering(init, files)),
            cgroup=self._cgroup,
            pid_namespace=init.pid_path,
            time_offsets=init.time_offsets,
        )

    def _write_maps(self, pid: int) -> None:
        from wherry.runtime.userns import write_mappings

        write_mappings(pid, self._spec.uid_mappings, self._spec.gid_mappings)

    def _run_hooks(self, pid: int) -> None:
        hooks = self._spec.hooks
        state = self._save(pid, Status.CREATING)
        text = self._state_json(state)
        run_hooks("prestart", hooks.prestart, text)
        run_hooks("createRuntime", hooks.create_runtime, text)

    def _state(self, pid: int, ticks: int, status: str) -> State:
        hooks = self._spec.hooks
        return State(
            container_id=self._id,
            pid=pid,
            start_ticks=ticks,
            boot_id=states.boot_id(),
            cgroup=self._cgroup,
            namespaces=self._flags,
            filter=b"" if self._program is None else self._program.code,
            devices_unguarded=self._unguarded,
            created_s=int(time.time()),
            status=status,
            bundle=self._bundle,
            rootfs=self._rootfs,
            annotations=self._spec.annotations,
            hooks=Hooks(poststart=hooks.poststart, poststop=hooks.poststop),
            owner_uid=os.geteuid(),
        )

    def _save(self, pid: int, status: str) -> State:
        state = self._state(pid, states.start_ticks(pid) or 0, status)
        states.save(self._dir, state)
        return state

    @staticmethod
    def _state_json(state: State) -> bytes:
        return _json(oci_state(state))

    def _undo(self) -> None:
        """Removes everything of a container that could not be made, and tells the hooks that it has ended."""
        for name in (states.FILE, channel.START_SOCKET):
            _unlink(f"{self._dir}/{name}")
        self._cgroup.remove()
        if self._spec.hooks.poststop:
            _run_quietly("poststop", self._state(0, 0, Status.STOPPED), Status.STOPPED, None)


def start(created: Created, *, warn: Callable[[str], None] | None = None) -> None:
    """Has a created container execute its command; returns when it has.

    Raises:
        CommandNotFound: the command is not in the container.
        CannotInvoke: it is there, but cannot be executed.
        Conflict: it was started already.
        WherryError: another step failed. In each case the process has ended; the caller reaps and deletes it.
    """
    if created._end.fileno() < 0:
        raise Conflict("the container was started already", where=created.state_dir)
    _go(created._end, created.state_dir, load_state(created.state_dir), warn)


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
    _go(end, directory, state, warn)
    _unlink(f"{directory}/{channel.START_SOCKET}")


def _go(end: Socket, state_dir: str, state: State, warn: Callable[[str], None] | None) -> None:
    try:
        try:
            end.send(channel.GO)
        except (BrokenPipeError, ConnectionResetError):
            raise WherryError("the container's first process is gone", where=state_dir) from None
        while True:
            kind, text, _ = channel.receive(end)
            if kind == channel.WARNING:
                if warn is not None:
                    warn(text.decode(errors="replace"))
            elif kind:
                raise setup_error(channel.failure_of(text))
            else:
                break
    finally:
        end.close()
    state = replace(state, status=Status.RUNNING)
    states.save(state_dir, state)
    if state.hooks.poststart:
        _run_quietly("poststart", state, Status.RUNNING, warn)


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
        preserved: descriptors that become 3 and up.
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
    _need_stdio(process, stdio)
    state, target = open_state(state_dir)
    program: Program | None = None
    if state.filter:
        from wherry.linux.seccomp import Program as Loaded

        program = Loaded(state.filter)
    group = _below(state.cgroup, cgroup)
    ours, theirs = channel.pair()
    try:
        task = _task(
            _without_mknod(process) if state.devices_unguarded else process,
            stdio,
            theirs.fileno(),
            state.container_id if new_keyring else "",
            program,
        )
        task = replace(task, preserved=preserved)
        if state.namespaces & CLONE_NEWUSER:
            run = stage.ExecTask(task=task, pidfd=target, namespaces=state.namespaces)
            child = spawn(ours, 0, lambda files: stage.run_exec_between(_adding(run, files)), cgroup=group)
        else:
            run = stage.ExecTask(task=task, pidfd=target, namespaces=state.namespaces & ~CLONE_NEWPID)
            pid_namespace: int | str = target if state.namespaces & CLONE_NEWPID else ""
            child = spawn(
                ours, 0, lambda files: stage.run_exec(_adding(run, files)), cgroup=group, pid_namespace=pid_namespace
            )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(target)
    try:
        child.follow(b"", warn=warn)
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


def _entering(init: stage.InitTask, files: tuple[str, ...]) -> stage.InitTask:
    return replace(init, task=replace(init.task, procs_files=files))


def _adding(run: stage.ExecTask, files: tuple[str, ...]) -> stage.ExecTask:
    return replace(run, task=replace(run.task, procs_files=files))


def open_state(state_dir: StrPath) -> tuple[State, int]:
    """Returns the state of a container that lives, and a pidfd of its first process, surely of that one.

    Raises:
        Conflict: it does not live.
    """
    state = load_state(state_dir)
    if state.status != Status.STOPPED:
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


def delete(state_dir: StrPath, *, warn: Callable[[str], None] | None = None) -> None:
    """Kills whatever is left of a container, and removes its control groups and state; again does nothing.

    Its first process, if it lives, is left for the caller of `create` to reap.

    Raises:
        Timeout: a process does not die.
    """
    directory = os.fspath(state_dir)
    if not os.path.lexists(f"{directory}/{states.FILE}"):
        return
    try:
        state, pidfd = open_state(directory)
    except Conflict:
        state = load_state(directory)
    else:
        try:
            pidfd_send_signal(pidfd, SIGKILL)
            if not state.cgroup.groups:
                _await_end(pidfd)  # nothing else tells that it is gone
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    state.cgroup.remove()
    _unlink(f"{directory}/{channel.START_SOCKET}")
    _unlink(f"{directory}/{states.FILE}")
    if state.hooks.poststop:
        _run_quietly("poststop", state, Status.STOPPED, warn)


def abandon(created: Created) -> None:
    """Ends a container that was created and is not to be started, reaps it, and deletes it."""
    created._end.close()
    reap(created.pid, created.pidfd)
    if created.console_fd is not None:
        os.close(created.console_fd)
    delete(created.state_dir)


_END_TIMEOUT_MS = 10_000


def _await_end(pidfd: int) -> None:
    import select

    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    waiting.poll(_END_TIMEOUT_MS)


def _run_quietly(point: str, state: State, status: str, warn: Callable[[str], None] | None) -> None:
    """Runs the hooks whose failure changes nothing: each of them, whatever the others do."""
    hooks = state.hooks.poststart if point == "poststart" else state.hooks.poststop
    text = _json(oci_state(state, status=status))
    for hook in hooks:
        try:
            run_hooks(point, (hook,), text)
        except HookError as error:
            if warn is not None:
                warn(str(error))


def _json(value: dict[str, object]) -> bytes:
    from wherry.core import jsonio

    return jsonio.compact(value)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _joined(cgroup: Cgroup, found: tuple[Hierarchy, ...]) -> tuple[Hierarchy, ...]:
    """Returns the hierarchies that a container is in."""
    paths = [group.path for group in cgroup.groups]
    return tuple(item for item in found if any(path.startswith(f"{item.mount}/") for path in paths))


def _task(
    process: Process,
    stdio: Stdio | None,
    channel_fd: int,
    keyring: str,
    program: Program | None,
) -> Task:
    environment: dict[bytes, bytes] = {}
    for item in process.env:
        name, equals, value = item.partition("=")
        if not name or not equals or "\0" in item:
            raise InvalidInput("not NAME=VALUE", where=f"process.env: {item}")
        environment[os.fsencode(name)] = os.fsencode(value)
    return Task(
        process=process,
        sets=_sets(process.capabilities),
        filter=program,
        environment=environment,
        stdio=None if process.terminal or stdio is None else (stdio.stdin_fd, stdio.stdout_fd, stdio.stderr_fd),
        channel_fd=channel_fd,
        keyring=keyring,
    )


def _sets(wanted: Capabilities) -> Sets:
    return Sets(
        bounding=capabilities.mask(wanted.bounding),
        effective=capabilities.mask(wanted.effective),
        permitted=capabilities.mask(wanted.permitted),
        inheritable=capabilities.mask(wanted.inheritable),
        ambient=capabilities.mask(wanted.ambient),
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
