"""A container in the making: from a specification to a process that waits for the word.

The child's side is in ``stage.py``; the life that follows, in ``container.py``.
"""

from __future__ import annotations

import fcntl
import os
import time

from wherry.core import jsonio, trace
from wherry.core.errors import Conflict
from wherry.core.value import replace
from wherry.linux import usernamespace, x
from wherry.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    FLAG_OF_FILE,
)
from wherry.runtime import channel, stage
from wherry.runtime import state as states
from wherry.runtime.cgroup import Cgroup, Hierarchy, default_path
from wherry.runtime.cgroup_hierarchies import known_hierarchies
from wherry.runtime.check import check_spec
from wherry.runtime.default import ALL_DEVICES, ALWAYS_ALLOWED_DEVICES
from wherry.runtime.enter import open_missing_nodes, open_sources
from wherry.runtime.hooks import HookError, run_hooks
from wherry.runtime.rootfs import plan
from wherry.runtime.spawn import Child, spawn
from wherry.runtime.spec import Hooks, Namespace
from wherry.runtime.state import State, Status, oci_state
from wherry.runtime.task import make_task, need_stdio, without_mknod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812 the standard class, under its usual kind of name
    from collections.abc import Callable

    from wherry.linux.seccomp import Program
    from wherry.linux.seccomp_profile import Profile
    from wherry.runtime.become import Task
    from wherry.runtime.resources import Resources
    from wherry.runtime.spec import IdMapping, Spec
    from wherry.runtime.task import Stdio

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


class Created:
    """A container that waits for `start`.

    Attributes:
        pid: of its first process, a child of the caller.
        pidfd: of the same; the caller's to close.
        console_fd: the master side of its terminal, the caller's to close; None without one.
        state_dir: where its state is.
        end: the line to its first process.
        state: what was last written of it, by this process; None where another one made it.
        mark: of the file with that, for ``state.unchanged``.
    """

    def __init__(
        self,
        pid: int,
        pidfd: int,
        console_fd: int | None,
        state_dir: str,
        end: Socket,
        state: State | None = None,
        mark: tuple[int, int] = (0, 0),
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd
        self.state_dir = state_dir
        self.end = end
        self.state = state
        self.mark = mark


def create(
    spec: Spec,
    *,
    container_id: str,
    state_dir: StrPath,
    rootfs: StrPath,
    stdio: Stdio | None = None,
    bundle: str = "",
    detached: bool = False,
    mount_root: Callable[[], None] | int | None = None,
    parent_death_signal: int = 0,
    preserved: tuple[int, ...] = (),
    cgroups: bool = True,
    new_keyring: bool = True,
    pivot: bool = True,
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
            looked at: for a root that is mounted there alone. Or a descriptor of a mount that is nowhere yet, which is
            the root in the place of what is at `rootfs`, for a container in a user namespace, which could not mount it
            itself; it is closed.
        parent_death_signal: sent to the first process when the calling thread ends; 0: none.
        preserved: descriptors that become 3 and up in the container; -1 leaves a number out.
        cgroups: make control groups; without, no limit is kept.
        new_keyring: give it a session keyring of its own.
        pivot: False where pivot_root(2) cannot be, as the host runs from its initial ramfs.
        warn: told what was asked for and could not be given.

    Raises:
        Conflict: there is a container in `state_dir`, or processes in its control groups.
        Unsupported: this kernel cannot do what is asked for.
        InvalidInput: the specification contradicts itself.
        HookError: a hook failed.
        WherryError: a step of the setup failed; it is named, and nothing is left behind.
    """
    try:
        check_spec(spec, container_id)
        need_stdio(spec.process, stdio)
        directory = os.fspath(state_dir)
        lock = _claim(directory)
    except BaseException:
        _close_root(mount_root)
        raise
    try:
        making = _Making(spec, container_id, directory, os.fspath(rootfs), bundle, parent_death_signal)
        return making.run(
            stdio=stdio,
            detached=detached,
            mount_root=mount_root,
            preserved=preserved,
            cgroups=cgroups,
            keyring=container_id if new_keyring else "",
            pivot=pivot,
            warn=warn,
        )
    finally:
        os.close(lock)
        _close_root(mount_root)


def _close_root(root: Callable[[], None] | int | None) -> None:
    if isinstance(root, int):
        os.close(root)


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

    def __init__(
        self, spec: Spec, container_id: str, state_dir: str, rootfs: str, bundle: str, parent_death_signal: int
    ) -> None:
        self._spec = spec
        self._id = container_id
        self._dir = state_dir
        self._rootfs = rootfs
        self._bundle = bundle
        self._death_signal = parent_death_signal
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
        mount_root: Callable[[], None] | int | None,
        preserved: tuple[int, ...],
        cgroups: bool,
        keyring: str,
        pivot: bool,
        warn: Callable[[str], None] | None,
    ) -> Created:
        ours, theirs = channel.pair()
        listening: Socket | None = None
        sources: dict[int, int] = {}
        child: Child | None = None
        try:
            try:
                if cgroups:
                    self._make_groups()
                else:
                    self._cgroup.apply(self._spec.resources)  # refuses limits, as there is nothing to keep them
                self._guard_devices(cgroups)
                self._compile()
                if detached:
                    listening = channel.listen(self._dir)
                init = self._init_task(self._task(stdio, theirs, listening, preserved, keyring))
                if init.user_path is not None and os.geteuid() == 0:
                    sources = open_sources(init.plan)
                    if self._spec.devices and self._spec.uid_mappings and not usernamespace.inside():
                        sources.update(open_missing_nodes(init.plan, self._spec))
                if isinstance(mount_root, int):
                    init = replace(init, root_fd=mount_root)
                else:
                    init = replace(init, mount_root=mount_root)
                init = replace(init, pivot=pivot, sources=sources)
                child = self._spawn(ours, init)
                made_here = init.user_path is None and not _needs_between(init) and not init.runtime_hooks
            finally:
                theirs.close()
                for fd in sources.values():
                    os.close(fd)
            if made_here:  # its number is known: this is written while it mounts its root
                state, mark = self._save(child.pid, Status.CREATED)
            child.follow(channel.READY, on_map=self._write_maps, on_hooks=self._run_hooks, warn=warn)
            if not made_here:
                state, mark = self._save(child.pid, Status.CREATED)
        except BaseException:
            ours.close()
            if child is not None:
                child.end_it()
            self._undo()
            raise
        finally:
            if listening is not None:
                listening.close()
        return Created(child.pid, child.pidfd, child.console_fd, self._dir, child.end, state, mark)

    def _make_groups(self) -> None:
        from wherry.core.durable import map_os_error

        self._found = known_hierarchies()
        try:
            path = self._spec.cgroups_path or default_path(self._id, self._found)
            if usernamespace.inside() and not self._spec.cgroups_path:
                from wherry.runtime.cgroup_delegated import delegated

                self._found, path = delegated(self._id, self._found)
                if not self._found:
                    self._cgroup.apply(self._spec.resources)  # refuses limits, as there is nothing to keep them
                    return
            states.note_groups(self._dir, path)
            self._cgroup = Cgroup.create(path, found=self._found)
            trace.reach("runtime.grouped")
        except OSError as error:
            raise map_os_error(error, "cannot make control groups", where=error.filename) from error
        try:
            self._cgroup.apply(_with_default_devices(self._spec.resources))
        except OSError as error:
            raise map_os_error(error, "cannot set a limit", where=error.filename) from error
        if self._flags & CLONE_NEWUSER:
            self._cgroup.delegate(_host_id(self._spec.uid_mappings), _host_id(self._spec.gid_mappings))

    def _guard_devices(self, cgroups: bool) -> None:
        """Decides whether the container must not get at a device node of its own making in another way.

        It must, where the devices list cannot be kept. In a user namespace the kernel itself refuses device nodes.
        """
        denies = any(not rule.allow for rule in self._spec.resources.devices)
        apart = self._flags & CLONE_NEWUSER or usernamespace.inside()
        self._unguarded = denies and not self._cgroup.controls_devices and not apart

    def _compile(self) -> None:
        if self._spec.filter:
            from wherry.linux.seccomp import Program

            self._program = Program(self._spec.filter)
        elif self._spec.seccomp is not None:
            from wherry.linux.seccomp import compile_profile

            self._program = compile_profile(self._spec.seccomp)

    def _task(
        self, stdio: Stdio | None, theirs: Socket, listening: Socket | None, preserved: tuple[int, ...], keyring: str
    ) -> Task:
        process = without_mknod(self._spec.process) if self._unguarded else self._spec.process
        task = make_task(process, stdio, theirs.fileno(), keyring, self._program)
        return replace(
            task,
            listen_fd=-1 if listening is None else listening.fileno(),
            preserved=preserved,
            parent_death_signal=self._death_signal,
        )

    def _init_task(self, task: Task) -> stage.InitTask:
        spec, spaces = self._spec, self._spec.namespaces
        new = sum(_FLAG_OF_NAMESPACE[name] for name, path in spaces.items() if not path)
        apart = (Namespace.USER, Namespace.PID)
        hooks = spec.hooks
        needs_state = hooks.create_container or hooks.start_container
        return stage.InitTask(
            task=task,
            spec=spec,
            rootfs=self._rootfs,
            plan=plan(spec, _joined(self._cgroup, self._found), cgroup_paths=_own_groups(self._cgroup, self._found)),
            root_attributes=x.MOUNT_ATTR_NODEV if self._unguarded else 0,
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
        if init.user_path is not None or _needs_between(init):
            return spawn(ours, 0, lambda files: stage.run_init_between(_entering(init, files)), cgroup=self._cgroup)
        return spawn(
            ours,
            init.flags,
            lambda files: stage.run_init(_entering(init, files)),
            cgroup=self._cgroup,
            pid_namespace=init.pid_path,
            time_offsets=init.time_offsets,
            # an image may have to be mounted from a loop device, which the container itself may not open
            born_inside=init.mount_root is None or not self._cgroup.filters_devices,
        )

    def _write_maps(self, pid: int) -> None:
        from wherry.runtime.userns import write_mappings

        write_mappings(pid, self._spec.uid_mappings, self._spec.gid_mappings)

    def _run_hooks(self, pid: int) -> None:
        hooks = self._spec.hooks
        state, _ = self._save(pid, Status.CREATING)
        if hooks.prestart:
            # "after step 2 in the lifecycle" (runtime.md, State); the old prestart hooks were called by start
            run_hooks("prestart", hooks.prestart, jsonio.compact(oci_state(state, status=Status.CREATED)))
        run_hooks("createRuntime", hooks.create_runtime, self._state_json(state))

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
            filter_flags=0 if self._program is None else self._program.flags,
            listener=_listener(self._spec.seccomp, self._program),
            devices_unguarded=self._unguarded,
            created_s=int(time.time()),
            status=status,
            bundle=self._bundle,
            rootfs=self._rootfs,
            annotations=self._spec.annotations,
            hooks=Hooks(poststart=hooks.poststart, poststop=hooks.poststop),
            owner_uid=os.geteuid(),
        )

    def _save(self, pid: int, status: str) -> tuple[State, tuple[int, int]]:
        state = self._state(pid, states.start_ticks(pid) or 0, status)
        return state, states.save(self._dir, state)

    @staticmethod
    def _state_json(state: State) -> bytes:
        return jsonio.compact(oci_state(state))

    def _undo(self) -> None:
        """Removes everything of a container that could not be made, and tells the hooks that it has ended."""
        for name in (states.FILE, channel.START_SOCKET):
            unlink(f"{self._dir}/{name}")
        self._cgroup.remove()
        unlink(f"{self._dir}/{states.GROUPS_FILE}")
        if self._spec.hooks.poststop:
            run_quietly("poststop", self._state(0, 0, Status.STOPPED), Status.STOPPED, None)


def _needs_between(init: stage.InitTask) -> bool:
    """Tells whether there would be no way back for this process from what only children can enter."""
    return bool(init.pid_path or init.time_offsets is not None) and usernamespace.inside()


def _entering(init: stage.InitTask, files: tuple[str, ...]) -> stage.InitTask:
    return replace(init, task=replace(init.task, procs_files=files))


def run_quietly(point: str, state: State, status: str, warn: Callable[[str], None] | None) -> None:
    """Runs the hooks whose failure changes nothing: each of them, whatever the others do."""
    hooks = state.hooks.poststart if point == "poststart" else state.hooks.poststop
    text = jsonio.compact(oci_state(state, status=status))
    for hook in hooks:
        try:
            run_hooks(point, (hook,), text)
        except HookError as error:
            if warn is not None:
                warn(str(error))


def _listener(profile: Profile | None, program: Program | None) -> tuple[str, str] | None:
    if profile is None or program is None or not program.notifies:
        return None
    return profile.listener_path, profile.listener_metadata


def unlink(path: str) -> None:
    """Removes a file, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _with_default_devices(limits: Resources) -> Resources:
    """Returns limits with the devices at the end of the list that every container has."""
    rules = limits.devices
    more = tuple(rule for rule in ALWAYS_ALLOWED_DEVICES if rule not in rules)
    if not rules or not more or rules[-1] == ALL_DEVICES[0]:
        return limits
    return replace(limits, devices=(*rules, *more))


def _host_id(mappings: tuple[IdMapping, ...]) -> int:
    """Returns who root of a user namespace is outside; -1 when it is nobody, which chown leaves alone."""
    for item in mappings:
        if item.container_id <= 0 < item.container_id + item.size:
            return item.host_id - item.container_id
    return -1


def _joined(cgroup: Cgroup, found: tuple[Hierarchy, ...]) -> tuple[Hierarchy, ...]:
    """Returns the hierarchies that a container is in."""
    paths = [group.path for group in cgroup.groups]
    return tuple(item for item in found if any(path.startswith(f"{item.mount}/") for path in paths))


def _own_groups(cgroup: Cgroup, found: tuple[Hierarchy, ...]) -> dict[str, str]:
    """Returns a container's own group in each hierarchy, by where that is mounted."""
    paths = [group.path for group in cgroup.groups]
    return {item.mount: path for item in found for path in paths if path.startswith(f"{item.mount}/")}
