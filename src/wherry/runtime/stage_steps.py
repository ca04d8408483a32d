"""What a container's first process and one that is added to it do alike on the child's side: see ``stage.py``.

Nothing that makes a container is imported here, which a further process would load for nothing.
"""

from __future__ import annotations

import fcntl
import gc
import os

from wherry.linux import attributes
from wherry.linux.beneath import open_in_root
from wherry.linux.namespaces import CLONE_NEWTIME, CLONE_PARENT, clone, setns, unshare
from wherry.linux.process import close_from, join_new_session_keyring, mount_id, reset_signals
from wherry.linux.terminal import make_controlling, open_pair, set_window_size
from wherry.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from wherry.runtime.become import At, Task
    from wherry.runtime.spec import TimeOffset

_FIRST_FD = 3
_SPARE_FD = 512
"""Where descriptors wait out of the way while the first ones are laid."""


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


def fail(at: At, error: BaseException) -> NoReturn:
    """Tells the parent what went wrong, and ends."""
    try:
        channel.send_failure(at.channel_fd, at.step, error)
    finally:
        os._exit(1)


def ask(at: At, message: bytes) -> None:
    """Tells the parent something and waits for its word; ends when the parent is gone."""
    os.write(at.channel_fd, message)
    if os.read(at.channel_fd, 1) != channel.GO:
        os._exit(0)


def detach(task: Task, at: At, *, keep: tuple[int, ...]) -> None:
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


def lead(task: Task, at: At) -> None:
    """Begins a session, with a keyring of its own: the caller's may hold secrets."""
    at.step = "beginning a session"
    os.setsid()
    if task.keyring:
        try:
            join_new_session_keyring(task.keyring)
        except OSError:
            pass  # a kernel without keyrings, or a filter around this process: there is then nothing to leave


def join_groups(task: Task, at: At) -> None:
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


def join(path: str, flag: int, at: At) -> None:
    """Enters a namespace by its file."""
    at.step = "joining a namespace"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, flag)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def be_root(at: At) -> None:
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


def clone_sibling(flags: int, at: At) -> None:
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


def open_label(task: Task, at: At) -> None:
    """Opens where the process's security label is written, while the host's /proc is there."""
    if task.process.apparmor_profile or task.process.selinux_label:
        at.step = "setting the security label"
        at.label_fd = attributes.open_exec_label(apparmor=bool(task.process.apparmor_profile))


def make_terminal(task: Task, at: At, *, cover_console: Callable[[int], None] | None = None) -> None:
    """Makes a terminal in the container's own devpts, hands its master over, and takes its slave as stdio.

    Args:
        task: the process.
        at: where it is.
        cover_console: puts the slave over the container's console.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master = open_in_root(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    slave = open_pair(master)
    set_window_size(slave, rows=task.process.console_rows, columns=task.process.console_columns)
    os.fchown(slave, task.process.uid, -1)
    if cover_console is not None:
        cover_console(slave)
    os.close(root)
    channel.send_fd(at.channel_fd, channel.CONSOLE, master)
    os.close(master)
    for target in (0, 1, 2):
        os.dup2(slave, target, inheritable=True)
    os.close(slave)
    make_controlling(0)
