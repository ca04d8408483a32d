"""The child's side: what runs between the clone and the last steps before the exec (``become.py``).

The entries run in a process that came out of `linux.namespaces.clone`: one thread, every signal blocked, the memory of
the caller. They run no finalizers, and end by exec or by ``os._exit``; whatever goes wrong is told to the parent with
the name of the step. Once they are about to leave the host's root they can import nothing any more: the import
system's finders are taken away, so that nothing of a container is ever loaded into this process.

A user namespace takes one process more: the *between* enters it and everything that it must own, and clones the real
child as its sibling, so that it is the caller's child in any case.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys

from wherry.core.value import Value, replace
from wherry.linux import attributes, procfs
from wherry.linux.beneath import open_in_root
from wherry.linux.loopback import bring_loopback_up
from wherry.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWNS,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_PARENT,
    clone,
    setns,
    unshare,
)
from wherry.linux.process import (
    close_from,
    join_new_session_keyring,
    mount_id,
    reset_signals,
    set_dumpable,
    setdomainname,
    sethostname,
)
from wherry.linux.terminal import make_controlling, open_pair, set_window_size
from wherry.runtime import channel
from wherry.runtime.become import At, Task, become, identify, look_early
from wherry.runtime.enter import enter, mount_console, open_with_host
from wherry.runtime.hooks import run_hooks
from wherry.runtime.spec import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from wherry.linux.mountplan import Step, Work
    from wherry.runtime.spec import Hook, Spec, TimeOffset

_FIRST_FD = 3
_SPARE_FD = 512
"""Where descriptors wait out of the way while the first ones are laid."""
_PID_MARK = b"4294967296"
"""Stands in the text of a state for the process's own number, which only it knows; no process has it."""


_NOTHING: Mapping[int, int] = {}


class InitTask(Value):
    """What the first process of a container needs further."""

    task: Task
    spec: Spec
    rootfs: str
    plan: tuple[Step, ...]
    root_attributes: int = 0
    mount_root: Callable[[], None] | None = None
    root_fd: int = -1
    """A mount that is nowhere yet, in the place of what is at `rootfs`; -1: none."""
    opened: Work | None = None
    """What was opened before `mount_root`."""
    pivot: bool = True
    sources: Mapping[int, int] = _NOTHING
    """Steps of the plan and descriptors of what they mount, where the caller has rights that the container has not."""
    flags: int = 0
    """``CLONE_NEW*`` of the clone."""
    new_cgroup_namespace: bool = False
    join: tuple[tuple[str, int], ...] = ()
    """Namespace files to enter, and their flags; without those of the user and pid namespaces."""
    user_path: str | None = None
    """Of the user namespace: None for the caller's, "" for a new one."""
    pid_path: str = ""
    time_offsets: Mapping[str, TimeOffset] | None = None
    """None: no new time namespace."""
    runtime_hooks: bool = False
    """The caller has hooks to run when everything is mounted."""
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    state: bytes = b""
    """The state for the hooks, with `PID_MARK` for the number of this process."""

    def kept(self) -> tuple[int, ...]:
        """Returns the descriptors that are used after all others were closed."""
        return (*self.sources.values(), *((self.root_fd,) if self.root_fd >= 0 else ()))


class ExecTask(Value):
    """What a process that is added to a container needs further."""

    task: Task
    pidfd: int
    """Of the container's first process."""
    namespaces: int


PID_MARK = int(_PID_MARK)


def run_init(init: InitTask) -> NoReturn:
    """Sets up a container around this process, waits for the word, and becomes its command."""
    at = At()
    try:
        _detach(init.task, at, keep=init.kept())
        if init.mount_root is not None:
            # Before the control groups: their list of devices would keep an image on a loop device from being mounted.
            at.step = "mounting the root file system"
            opened = open_with_host(init.plan)
            init.mount_root()
            init = replace(init, mount_root=None, opened=opened)
        _join_groups(init.task, at)
        for path, flag in init.join:
            _join(path, flag, at)
        _init(init, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def run_init_between(init: InitTask) -> NoReturn:
    """Enters the user namespace, if it gets one, and what belongs to it, and clones the container's first process."""
    at = At()
    try:
        _detach(init.task, at, keep=init.kept())
        _join_groups(init.task, at)
        # What is not the new user namespace's to enter is entered before; what is, afterwards.
        later = [item for item in _joined(init) if not _can_join(*item, at)]
        at.step = "entering the user namespace"
        if init.user_path:
            _join(init.user_path, CLONE_NEWUSER, at)
        elif init.user_path is not None:
            unshare(CLONE_NEWUSER)
            _ask(at, channel.MAP)
        if init.time_offsets is not None:
            at.step = "making the time namespace"
            # Before the user changes, which takes this process's files below /proc/self from it.
            make_time_namespace(init.time_offsets)
        _be_root(at)
        for path, flag in later:
            _join(path, flag, at)
        _clone_sibling(init.flags, at)
        _init(init, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def run_exec(run: ExecTask) -> NoReturn:
    """Enters a container's namespaces and becomes a command beside its first process.

    The caller has set the pid namespace of its children already.
    """
    at = At()
    try:
        _enter(run, at)
        _exec(run, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def run_exec_between(run: ExecTask) -> NoReturn:
    """Enters a container's user namespace with all the others at once, and clones the process that is added."""
    at = At()
    try:
        _enter(run, at)
        _be_root(at)
        _clone_sibling(0, at)
        _exec(run, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def make_time_namespace(offsets: Mapping[str, TimeOffset]) -> None:
    """Makes a time namespace for the next children of this process.

    Source: time_namespaces(7); the offsets can be written until the first process is in it.
    """
    unshare(CLONE_NEWTIME)
    if not offsets:
        return
    fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for clock, offset in offsets.items():
            os.write(fd, b"%s %d %d\n" % (clock.encode(), offset.secs, offset.nanosecs))
    finally:
        os.close(fd)


def _init(init: InitTask, at: At) -> NoReturn:
    task, spec = init.task, init.spec
    # From here on processes of a container that shares its pid namespace can see this one, which still has the host's
    # interpreter as its executable: they must not reach it by /proc/PID (CVE-2016-9962, CVE-2019-5736).
    set_dumpable(False)
    _lead(task, at)
    if init.new_cgroup_namespace:
        at.step = "making the cgroup namespace"
        unshare(CLONE_NEWCGROUP)
    at.step = "setting the host name"
    if spec.hostname:
        sethostname(spec.hostname)
    if spec.domainname:
        setdomainname(spec.domainname)
    if spec.namespaces.get(Namespace.NETWORK) == "":
        at.step = "bringing the loopback up"
        bring_loopback_up()
    if spec.sysctl:
        at.step = "setting sysctl"
        _write_sysctls(spec.sysctl)
    if spec.personality is not None:
        at.step = "setting the personality"
        attributes.set_personality(spec.personality.domain)
    _open_label(task, at)
    if init.mount_root is not None:
        at.step = "mounting the root file system"
        init.mount_root()
    at.step = "setting up the root file system"
    _enter_root(init, at)
    task = identify(task)
    if task.stdio is None:
        at.step = "making the terminal"
        _make_terminal(task, at, console=True)
    if at.listen_fd >= 0:
        look_early(task, at)
    at.step = "waiting for the start"
    if at.listen_fd < 0:
        _ask(at, channel.READY)
    else:
        os.write(at.channel_fd, channel.READY)
        _await_start(at)
    if init.start_container:
        at.step = "running hooks"
        run_hooks("startContainer", init.start_container, _own_state(init, b"created"))
    become(task, at)


def _exec(run: ExecTask, at: At) -> NoReturn:
    task = run.task
    _lead(task, at)
    sys.meta_path.clear()
    at.step = "looking up the user"
    task = identify(task)
    if task.stdio is None:
        at.step = "making the terminal"
        _make_terminal(task, at, console=False)
    become(task, at)


def _enter_root(init: InitTask, at: At) -> None:
    """Makes the container's root this process's; the one place that calls `enter`."""

    def leave_host() -> None:
        if init.runtime_hooks:
            at.step = "running hooks"
            _ask(at, channel.HOOKS)
        if init.create_container:
            at.step = "running hooks"
            run_hooks("createContainer", init.create_container, _own_state(init, b"creating"))
        sys.meta_path.clear()
        at.step = "setting up the root file system"

    enter(
        at.kept[-1] if init.root_fd >= 0 else init.rootfs,
        init.plan,
        attributes=init.root_attributes,
        propagation=init.spec.rootfs_propagation,
        pivot=init.pivot,
        opened=init.opened,
        sources=dict(zip(init.sources, at.kept, strict=init.root_fd < 0)),
        leave_host=leave_host,
    )


def _own_state(init: InitTask, status: bytes) -> bytes:
    return init.state.replace(_PID_MARK, b"%d" % os.getpid()).replace(b'"creating"', b'"%s"' % status)


def _fail(at: At, error: BaseException) -> NoReturn:
    try:
        channel.send_failure(at.channel_fd, at.step, error)
    finally:
        os._exit(1)


def _ask(at: At, message: bytes) -> None:
    """Tells the parent something and waits for its word; ends when the parent is gone."""
    os.write(at.channel_fd, message)
    if os.read(at.channel_fd, 1) != channel.GO:
        os._exit(0)


def _await_start(at: At) -> None:
    """Waits until another process says go, and has that one told how the exec went."""
    accepted = channel.accept(at.listen_fd)
    os.dup2(accepted, at.channel_fd, inheritable=False)
    os.close(accepted)


def _detach(task: Task, at: At, *, keep: tuple[int, ...]) -> None:
    """Leaves what is the caller's and not the child's: descriptors and signal handlers.

    The first three descriptors are laid, then those that are handed down, then the channel, the place to listen at,
    and those of `keep`, which are `At.kept` from then on.
    """
    at.channel_fd = task.channel_fd
    gc.disable()
    os.umask(0o022)  # of what is made below the root; the process gets its own
    at.step = "looking at this process"
    at.own_mount = mount_id(b"/proc/self/exe")
    at.step = "resetting signals"
    reset_signals()
    at.step = "laying file descriptors"
    handed = (*(task.stdio or ()), *task.preserved)
    listening = (task.listen_fd,) if task.listen_fd >= 0 else ()
    first = _FIRST_FD - len(task.stdio or ())
    all_fds = (*handed, task.channel_fd, *listening, *keep)
    spare = [fd if fd < 0 else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FD) for fd in all_fds]
    at.channel_fd = spare[len(handed)]
    for target, fd in enumerate(spare, start=first):
        if fd >= 0:
            os.dup2(fd, target, inheritable=target < first + len(handed))
        else:
            os.closerange(target, target + 1)  # a gap in what is handed down; whether it was open does not matter
    at.channel_fd = first + len(handed)
    if listening:
        at.listen_fd = at.channel_fd + 1
    end = first + len(spare)
    close_from(end)
    at.kept = tuple(range(end - len(keep), end))


def _lead(task: Task, at: At) -> None:
    """Begins a session, with a keyring of its own: the caller's may hold secrets."""
    at.step = "beginning a session"
    os.setsid()
    if task.keyring:
        try:
            join_new_session_keyring(task.keyring)
        except OSError:
            pass  # a kernel without keyrings, or a filter around this process: there is then nothing to leave


def _join_groups(task: Task, at: At) -> None:
    """Enters the control groups by the host's paths; "0" is the writer itself."""
    process = task.process
    if process.cpu_affinity_initial:
        at.step = "setting the processors"
        os.sched_setaffinity(0, attributes.processors(process.cpu_affinity_initial))
    at.step = "joining control groups"
    for path in task.procs_files:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        except OSError as error:
            # EINVAL: a real-time process in a kernel with RT_GROUP_SCHED, among others.
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)
    if process.cpu_affinity_final:
        at.step = "setting the processors"
        os.sched_setaffinity(0, attributes.processors(process.cpu_affinity_final))
    if process.oom_score_adj is not None:
        at.step = "setting oom_score_adj"
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % process.oom_score_adj)
        except PermissionError as error:
            what = f"lowering it to {process.oom_score_adj} takes CAP_SYS_RESOURCE"
            raise OSError(error.errno, what) from None
        finally:
            os.close(fd)


def _joined(init: InitTask) -> tuple[tuple[str, int], ...]:
    from wherry.linux.namespaces import CLONE_NEWPID

    return (*init.join, (init.pid_path, CLONE_NEWPID)) if init.pid_path else init.join


def _can_join(path: str, flag: int, at: At) -> bool:
    try:
        _join(path, flag, at)
    except PermissionError:
        return False
    return True


def _join(path: str, flag: int, at: At) -> None:
    at.step = "joining a namespace"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, flag)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def _be_root(at: At) -> None:
    """Becomes the root of the user namespace that was entered, as far as it has one."""
    at.step = "becoming root of the user namespace"
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError:
        return  # no root is mapped in it; this process has all capabilities there nevertheless
    try:
        os.setgroups(())
    except PermissionError:
        pass  # it may not change its groups: the ranges were written by somebody without rights


def _clone_sibling(flags: int, at: At) -> None:
    """Goes on as another process, a child of the same parent; this one ends."""
    at.step = "making a process in new namespaces"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = clone(flags | CLONE_PARENT, sure=True)
    if pid:
        channel.send_fd(at.channel_fd, channel.CHILD + b"%d" % pid, pidfd)
        os.write(writing, channel.GO)
        os._exit(0)
    # The parent must know of this process before it hears of it.
    os.close(writing)
    if os.read(reading, 1) != channel.GO:
        os._exit(0)
    os.close(reading)


def _enter(run: ExecTask, at: At) -> None:
    """Enters the control groups and namespaces of a container."""
    set_dumpable(False)  # see `_init`
    _detach(run.task, at, keep=(run.pidfd,))
    (pidfd,) = at.kept
    _join_groups(run.task, at)
    _open_label(run.task, at)
    at.step = "entering the container's namespaces"
    setns(pidfd, run.namespaces)
    os.close(pidfd)
    if run.namespaces & CLONE_NEWNS:
        os.chdir("/")
    set_dumpable(False)


def _open_label(task: Task, at: At) -> None:
    if task.process.apparmor_profile or task.process.selinux_label:
        at.step = "setting the security label"
        at.label_fd = attributes.open_exec_label(apparmor=bool(task.process.apparmor_profile))


def _write_sysctls(settings: Mapping[str, str]) -> None:
    """Writes settings through a procfs that nobody can have put anything over (CVE-2025-52881)."""
    proc = procfs.open_procfs()
    for key, value in settings.items():
        procfs.write(proc, "sys/" + (key if "/" in key else key.replace(".", "/")), value.encode())
    os.close(proc)


def _make_terminal(task: Task, at: At, *, console: bool) -> None:
    """Makes a terminal in the container's own devpts, hands its master over, and takes its slave as stdio."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master = open_in_root(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    slave = open_pair(master)
    set_window_size(slave, rows=task.process.console_rows, columns=task.process.console_columns)
    os.fchown(slave, task.process.uid, -1)
    if console:
        mount_console(slave)
    os.close(root)
    channel.send_fd(at.channel_fd, channel.CONSOLE, master)
    os.close(master)
    for target in (0, 1, 2):
        os.dup2(slave, target, inheritable=True)
    os.close(slave)
    make_controlling(0)
