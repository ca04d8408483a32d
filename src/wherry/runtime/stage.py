"""The child's side: what runs between the clone and the exec.

Both entries run in a process that came out of `linux.namespaces.clone`: one thread, every signal blocked, the
memory of the caller. They import nothing, run no finalizers, and end by exec or by ``os._exit``; whatever goes wrong
is told to the parent with the name of the step. Order matters in `_become`: it is explained there.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
import stat
from typing import NamedTuple, NoReturn

from wherry.linux import capabilities, x
from wherry.linux.beneath import make_file, open_in_root
from wherry.linux.mountplan import Step
from wherry.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWPID, setns, unshare
from wherry.linux.process import (
    PR_SET_KEEPCAPS,
    close_from,
    join_new_session_keyring,
    mount_id,
    prctl,
    reset_signals,
    set_dumpable,
    set_no_new_privs,
    setdomainname,
    sethostname,
)
from wherry.linux.seccomp import Program
from wherry.linux.terminal import make_controlling, open_pair, set_window_size
from wherry.runtime import channel, rootfs
from wherry.runtime.spec import Process

_CHANNEL_FD = 3
_SPARE_FD = 16
"""Where descriptors wait out of the way while 0 to 3 are laid."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_UMASK = 0o022
_MAX_SHEBANG_BYTES = 256
_MAX_INTERPRETERS = 5
"""BINPRM_MAX_RECURSION of the kernel: a script may be run by a script, four times."""


class Sets(NamedTuple):
    """The capability sets as masks, cut to what the caller has."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


class Task(NamedTuple):
    """What both kinds of process need, worked out before the clone."""

    process: Process
    sets: Sets
    filter: Program | None
    environment: dict[bytes, bytes]
    stdio: tuple[int, int, int] | None
    """None: a terminal is made."""
    channel_fd: int
    procs_files: tuple[str, ...]
    keyring: str


class InitTask(NamedTuple):
    """What the first process of a container needs further."""

    task: Task
    rootfs: str
    plan: tuple[Step, ...]
    root_attributes: int
    new_cgroup_namespace: bool
    join: tuple[tuple[str, int], ...]
    """Namespace files to enter, and their flags."""
    hostname: str
    domainname: str
    sysctl: tuple[tuple[str, str], ...]


class _At:
    """The step that is being done, for the error, and what is known of this process from before it left the host."""

    def __init__(self) -> None:
        self.step = "starting"
        self.own_mount = -1


def run_init(init: InitTask) -> NoReturn:
    """Sets up a container around this process, waits for the word, and becomes its command."""
    at = _At()
    try:
        task = init.task
        _detach(task, at, keep=())
        _join_groups(task, at)
        if init.new_cgroup_namespace:
            at.step = "making the cgroup namespace"
            unshare(CLONE_NEWCGROUP)
        for path, flag in init.join:
            at.step = "joining a namespace"
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            setns(fd, flag)
            os.close(fd)
        at.step = "setting the host name"
        if init.hostname:
            sethostname(init.hostname)
        if init.domainname:
            setdomainname(init.domainname)
        for key, value in init.sysctl:
            at.step = "setting sysctl"
            _write_sysctl(key, value)
        at.step = "setting up the root file system"
        rootfs.enter(init.rootfs, init.plan, attributes=init.root_attributes)
        if task.stdio is None:
            at.step = "making the terminal"
            _make_terminal(task, console=True)
        at.step = "waiting for the start"
        os.write(_CHANNEL_FD, channel.READY)
        if os.read(_CHANNEL_FD, 1) != channel.GO:
            os._exit(0)
        _become(task, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def run_exec(task: Task, pidfd: int, namespaces: int) -> NoReturn:
    """Enters a container's namespaces and becomes a command beside its first process.

    The caller has set the pid namespace of its children already.
    """
    at = _At()
    try:
        # From here on the container's processes can see this one, which still has the host's interpreter as its
        # executable: they must not reach it by /proc/PID (CVE-2016-9962, CVE-2019-5736).
        set_dumpable(False)
        pidfd = _detach(task, at, keep=(pidfd,))[0]
        _join_groups(task, at)
        at.step = "entering the container's namespaces"
        setns(pidfd, namespaces & ~CLONE_NEWPID)
        os.close(pidfd)
        if namespaces & CLONE_NEWNS:
            os.chdir("/")
        if task.stdio is None:
            at.step = "making the terminal"
            _make_terminal(task, console=False)
        _become(task, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        _fail(at, error)


def _fail(at: _At, error: BaseException) -> NoReturn:
    try:
        channel.send_failure(_CHANNEL_FD, at.step, error)
    finally:
        os._exit(1)


def _detach(task: Task, at: _At, *, keep: tuple[int, ...]) -> tuple[int, ...]:
    """Leaves everything of the caller's that is not the child's: descriptors, handlers, session, keyring.

    Returns:
        where the descriptors of `keep` are now.
    """
    gc.disable()
    os.umask(0o022)  # of what is made below the root; the process gets its own
    at.step = "looking at this process"
    at.own_mount = mount_id(b"/proc/self/exe")
    at.step = "resetting signals"
    reset_signals()
    at.step = "laying file descriptors"
    wanted = [task.channel_fd, *(task.stdio or ()), *keep]
    spare = [_duplicate(fd) for fd in wanted]
    os.dup2(spare[0], _CHANNEL_FD, inheritable=False)
    if task.stdio is not None:
        for target in (0, 1, 2):
            os.dup2(spare[1 + target], target, inheritable=True)
    kept = []
    for target, fd in enumerate(spare[len(wanted) - len(keep) :], start=_CHANNEL_FD + 1):
        os.dup2(fd, target, inheritable=False)
        kept.append(target)
    close_from(_CHANNEL_FD + 1 + len(keep))
    os.setsid()
    try:
        join_new_session_keyring(task.keyring)
    except OSError:
        pass  # a kernel without keyrings, or a filter around this process: there is then nothing to leave
    return tuple(kept)


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FD)


def _join_groups(task: Task, at: _At) -> None:
    """Enters the control groups by the host's paths; "0" is the writer itself."""
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
    if task.process.oom_score_adj is not None:
        at.step = "setting oom_score_adj"
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"%d" % task.process.oom_score_adj)
        os.close(fd)


def _write_sysctl(key: str, value: str) -> None:
    path = "/proc/sys/" + key.replace(".", "/")
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def _make_terminal(task: Task, *, console: bool) -> None:
    """Makes a terminal in the container's own devpts, hands its master over, and takes its slave as stdio."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master = open_in_root(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    slave = open_pair(master)
    set_window_size(slave, rows=task.process.console_rows, columns=task.process.console_columns)
    os.fchown(slave, task.process.uid, -1)
    if console:
        place = make_file(root, "dev/console", mode=0o600)
        copy = x.open_tree("", dir_fd=slave)
        x.attach(copy, place)
        os.close(copy)
        os.close(place)
    os.close(root)
    channel.send_console(_CHANNEL_FD, master)
    os.close(master)
    for target in (0, 1, 2):
        os.dup2(slave, target, inheritable=True)
    os.close(slave)
    make_controlling(0)


def _become(task: Task, at: _At) -> NoReturn:
    """Takes on limits, user, capabilities and filter, and executes the command.

    Order: what needs a capability comes before it is dropped; the bounding set before the user, as it needs
    CAP_SETPCAP; the filter last, so that it need not allow what the setup does, unless there is no no_new_privs,
    as loading it then needs CAP_SYS_ADMIN. The command is looked up as the user and from the working directory.
    """
    process, sets = task.process, task.sets
    at.step = "setting resource limits"
    for limit in process.rlimits:
        try:
            resource.setrlimit(getattr(resource, limit.type), (limit.soft, limit.hard))
        except (OSError, ValueError) as error:
            raise OSError(getattr(error, "errno", None) or errno.EPERM, str(error), limit.type) from None
    os.umask(_DEFAULT_UMASK if process.umask is None else process.umask)
    if process.uid:
        _give_pipes(process.uid)
    at.step = "dropping capabilities"
    capabilities.drop_bounding(sets.bounding)
    if task.filter is not None and not process.no_new_privileges:
        at.step = "loading the system call filter"
        task.filter.load()
    at.step = "changing the user"
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups(process.additional_gids)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    prctl(PR_SET_KEEPCAPS, 0)
    at.step = "setting capabilities"
    capabilities.set_process(effective=sets.effective, permitted=sets.permitted, inheritable=sets.inheritable)
    capabilities.set_ambient(sets.ambient)
    at.step = "changing to the working directory"
    os.chdir(process.cwd)
    os.getcwd()  # ENOENT when it is outside the root (CVE-2024-21626)
    at.step = "looking for the command"
    path = _find(process.args[0], task.environment, at.own_mount)
    if process.no_new_privileges:
        set_no_new_privs()
        if task.filter is not None:
            at.step = "loading the system call filter"
            task.filter.load()
    at.step = "executing the command"
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(path, process.args, task.environment)  # noqa: S606 it is what a container is for
    raise AssertionError("execve returned")


def _give_pipes(uid: int) -> None:
    """Makes the user the owner of pipes among stdio, so that /dev/stdout can be opened again."""
    for fd in (0, 1, 2):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            try:
                os.fchown(fd, uid, -1)
            except OSError:
                pass  # it can still be used through the descriptor


def _find(name: str, environment: dict[bytes, bytes], own_mount: int) -> bytes:
    """Returns the path of a command, as execvp(3) would find it.

    Raises:
        OSError: ENOENT when it is nowhere, EACCES when what is there is not to be executed.
    """
    command = os.fsencode(name)
    if not command:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if b"/" in command:
        candidates = [command]
    else:
        search = environment.get(b"PATH", _DEFAULT_PATH.encode())
        candidates = [(directory or b".") + b"/" + command for directory in search.split(b":")]
    failure = errno.ENOENT
    for candidate in candidates:
        try:
            if stat.S_ISREG(os.stat(candidate).st_mode) and os.access(candidate, os.X_OK):
                _refuse_own_executable(candidate, own_mount)
                return candidate
            failure = errno.EACCES
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                failure = errno.EACCES
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
    raise OSError(failure, os.strerror(failure), name)


def _refuse_own_executable(path: bytes, own_mount: int) -> None:
    """Refuses a command that is this process's own executable, by way of /proc, or a script that is run by it.

    ``#!/proc/self/exe`` would execute the host's interpreter, with its file open to the container (CVE-2019-5736).
    Every mount of the container is its own, so only such a path can be on the mount of the host's interpreter. A
    running container that changes the script between this look and the exec is not stopped by it.
    """
    for _ in range(_MAX_INTERPRETERS):
        if mount_id(path) == own_mount:
            raise OSError(errno.EACCES, "it leads to the host's interpreter", os.fsdecode(path))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return  # to be executed but not to be read: the kernel says what it thinks of it
        try:
            head = os.read(fd, _MAX_SHEBANG_BYTES)
        finally:
            os.close(fd)
        words = head[2:].split(b"\n", 1)[0].split(None, 1) if head.startswith(b"#!") else ()
        if not words:
            return
        path = words[0]
        if not os.path.exists(path):
            return
