"""The last steps of a process that was set up: it takes on its limits, user and filter, and becomes the command.

Runs in the child, in the container's root; see ``stage.py``. Order matters, and is explained at `become`.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.core.errors import WherryError
from wherry.core.value import Value, replace
from wherry.linux import attributes, capabilities
from wherry.linux.process import (
    PR_SET_KEEPCAPS,
    mount_id,
    prctl,
    set_dumpable,
    set_no_new_privs,
    set_parent_death_signal,
)
from wherry.linux.signals import SIG_SETMASK, pthread_sigmask
from wherry.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from wherry.linux.seccomp import Program
    from wherry.runtime.spec import Process

LOOKING = "looking for the command"
EXECUTING = "executing the command"
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_UMASK = 0o022
_MAX_SHEBANG_BYTES = 256
_MAX_INTERPRETERS = 5
"""BINPRM_MAX_RECURSION of the kernel: a script may be run by a script, four times."""


class Sets(Value):
    """The capability sets as masks."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


class Task(Value):
    """What both kinds of process need, worked out before the clone."""

    process: Process
    sets: Sets
    filter: Program | None
    environment: Mapping[bytes, bytes]
    stdio: tuple[int, int, int] | None = None
    """None: a terminal is made."""
    channel_fd: int = -1
    listen_fd: int = -1
    """Where another process's word is waited for; -1: the channel's other end gives it."""
    preserved: tuple[int, ...] = ()
    """Descriptors that become 3 and up; -1 leaves a number out."""
    procs_files: tuple[str, ...] = ()
    keyring: str = ""
    """"" leaves the session keyring as it is."""
    parent_death_signal: int = 0
    """Sent to the process when the thread that cloned it ends; 0: none."""


class At:
    """The step that is being done, for the error, and what is known of this process from before it left the host."""

    def __init__(self) -> None:
        self.step = "starting"
        self.channel_fd = -1
        self.listen_fd = -1
        self.own_mount = -1
        self.label_fd = -1
        self.kept: tuple[int, ...] = ()


def identify(task: Task) -> Task:
    """Returns the task with the ids that a user by name has in this root, and with HOME where it is missing."""
    process = task.process
    if not process.user and b"HOME" in task.environment:
        return task
    from wherry.runtime.users import home_of, read_identity  # `make_task` has loaded it: this process cannot

    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if process.user:
            found = read_identity(root, process.user, process.groups)
            groups = tuple(dict.fromkeys((*found.groups, *process.additional_gids)))
            process = replace(process, uid=found.uid, gid=found.gid, additional_gids=groups)
            home = found.home
        else:
            home = home_of(root, process.uid)
    except WherryError as error:
        raise OSError(errno.ENOENT, str(error)) from None
    finally:
        os.close(root)
    return replace(task, process=process, environment={b"HOME": os.fsencode(home), **task.environment})


def look_early(task: Task, at: At) -> None:
    """Refuses a command that is not there before anybody says go, as far as it can be told before the user changes."""
    at.step = LOOKING
    try:
        os.chdir(task.process.cwd)
    except OSError:
        return  # it may be there for the user alone
    find_command(task.process.args[0], task.environment, at.own_mount)
    os.chdir("/")


def _check_directory(path: str) -> None:
    """Refuses a working directory outside the root, as long as no filter forbids to ask where it is."""
    try:
        os.chdir(path)
    except OSError:
        return  # it may be there for the user alone
    os.getcwd()
    os.chdir("/")


def become(task: Task, at: At) -> NoReturn:
    """Takes on limits, user, capabilities and filter, and executes the command.

    Order: what needs a capability comes before it is dropped; the bounding set before the user, as it needs
    CAP_SETPCAP; the filter last, so that it need not allow what the setup does, unless there is no no_new_privs,
    as loading it then needs CAP_SYS_ADMIN. The command is looked up as the user and from the working directory.
    """
    process = task.process
    _set_attributes(process, at)
    os.umask(_DEFAULT_UMASK if process.umask is None else process.umask)
    if process.uid:
        _give_pipes(process.uid)
    at.step = "dropping capabilities"
    have = capabilities.permitted()
    sets = task.sets
    lacking = (sets.effective | sets.permitted) & ~have
    if lacking:
        channel.send_warning(
            at.channel_fd, f"capabilities that this user does not have are left out: {' '.join(_names(lacking))}"
        )
    permitted, inheritable = sets.permitted & have, sets.inheritable & have
    capabilities.drop_bounding(sets.bounding)
    early = task.filter is not None and not process.no_new_privileges
    if task.filter is not None and early:
        _check_directory(process.cwd)
        at.step = "loading the system call filter"
        _load_filter(task.filter, at)
    there = _try_chdir(process.cwd)
    at.step = "changing the user"
    prctl(PR_SET_KEEPCAPS, 1)
    _set_groups(process)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    prctl(PR_SET_KEEPCAPS, 0)
    set_dumpable(False)  # until the exec; changing the user may have turned it on, as fs.suid_dumpable says
    at.step = "setting capabilities"
    capabilities.set_process(effective=sets.effective & permitted, permitted=permitted, inheritable=inheritable)
    capabilities.set_ambient(sets.ambient & permitted & inheritable)
    if task.parent_death_signal:
        at.step = "setting the parent death signal"
        # Here, as a change of the user takes it back. The parent waits for our end of the channel to close: when its
        # own is closed, it died before this was set.
        set_parent_death_signal(task.parent_death_signal)
        if channel.is_closed(at.channel_fd):
            os._exit(0)
    at.step = "changing to the working directory"
    if not there:
        os.chdir(process.cwd)
    try:
        os.getcwd()  # ENOENT when it is outside the root (CVE-2024-21626)
    except OSError as error:
        if not early or error.errno == errno.ENOENT:
            raise  # else the filter forbids the question, which was asked before
    at.step = LOOKING
    path = find_command(process.args[0], task.environment, at.own_mount)
    if at.label_fd >= 0:
        _set_label(process, at)
    if process.no_new_privileges:
        set_no_new_privs()
        if task.filter is not None:
            at.step = "loading the system call filter"
            _load_filter(task.filter, at)
    at.step = EXECUTING
    pthread_sigmask(SIG_SETMASK, ())
    os.execve(path, process.args, task.environment)  # noqa: S606 it is what a container is for
    raise AssertionError("execve returned")


def _try_chdir(path: str) -> bool:
    """Goes to the working directory before the user changes, who may not be let in, as runc and crun do."""
    try:
        os.chdir(path)
    except OSError:
        return False
    return True


def _load_filter(program: Program, at: At) -> None:
    listener = program.load()
    if program.notifies:
        channel.send_fd(at.channel_fd, channel.LISTENER, listener)
        os.close(listener)


def _set_attributes(process: Process, at: At) -> None:
    at.step = "setting resource limits"
    for limit in process.rlimits:
        try:
            attributes.set_rlimit(limit.type, soft=limit.soft, hard=limit.hard)
        except PermissionError as error:
            above = f"{limit.type}: raising it above {attributes.hard_rlimit(limit.type)} takes CAP_SYS_RESOURCE"
            raise OSError(error.errno, above) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, limit.type) from None
    if process.scheduler is not None:
        at.step = "setting the scheduler"
        wanted = process.scheduler
        attributes.set_scheduler(
            wanted.policy,
            nice=wanted.nice,
            priority=wanted.priority,
            flags=wanted.flags,
            runtime_ns=wanted.runtime_ns,
            deadline_ns=wanted.deadline_ns,
            period_ns=wanted.period_ns,
        )
    if process.io_priority is not None:
        at.step = "setting the priority of input and output"
        attributes.set_io_priority(process.io_priority.io_class, process.io_priority.priority)


def _set_groups(process: Process) -> None:
    try:
        os.setgroups(process.additional_gids)
    except PermissionError:
        if process.additional_gids:
            raise
        # A user namespace of somebody without rights, in which the kernel keeps the groups as they are.
    except OSError as error:
        raise OSError(error.errno, "a group is not mapped in the user namespace", "additionalGids") from None


def _set_label(process: Process, at: At) -> None:
    at.step = "setting the security label"
    label = f"exec {process.apparmor_profile}" if process.apparmor_profile else process.selinux_label
    os.write(at.label_fd, label.encode())
    os.close(at.label_fd)


def _names(bits: int) -> tuple[str, ...]:
    return capabilities.names(bits)


def _give_pipes(uid: int) -> None:
    """Makes the user the owner of pipes among stdio, so that /dev/stdout can be opened again."""
    for fd in (0, 1, 2):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, uid, -1)
        except OSError:
            pass  # it can still be used through the descriptor


def find_command(name: str, environment: Mapping[bytes, bytes], own_mount: int) -> bytes:
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
        search = environment.get(b"PATH", _DEFAULT_PATH)
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
