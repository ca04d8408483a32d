"""The child's side: what runs between the clone and the last steps before the exec (``become.py``).

The entries run in a process that came out of `linux.namespaces.clone`: one thread, every signal blocked, the memory of
the caller. They run no finalizers, and end by exec or by ``os._exit``; whatever goes wrong is told to the parent with
the name of the step. Once they are about to leave the host's root they can import nothing any more: the import
system's finders are taken away, so that nothing of a container is ever loaded into this process.

A user namespace takes one process more: the *between* enters it and everything that it must own, and clones the real
child as its sibling, so that it is the caller's child in any case.
"""

from __future__ import annotations

import os
import sys

from wherry.core.value import Value, replace
from wherry.linux import attributes, procfs
from wherry.linux.loopback import bring_loopback_up
from wherry.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWUSER, unshare
from wherry.linux.process import set_dumpable, setdomainname, sethostname
from wherry.runtime import channel
from wherry.runtime.become import At, Task, become, identify, look_early
from wherry.runtime.enter import enter, mount_console, open_with_host
from wherry.runtime.hooks import run_hooks
from wherry.runtime.spec import Namespace
from wherry.runtime.stage_steps import (
    ask,
    be_root,
    clone_sibling,
    detach,
    fail,
    join,
    join_groups,
    lead,
    make_terminal,
    make_time_namespace,
    open_label,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from wherry.linux.mountplan import Step, Work
    from wherry.runtime.spec import Hook, Spec, TimeOffset

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


PID_MARK = int(_PID_MARK)


def run_init(init: InitTask) -> NoReturn:
    """Sets up a container around this process, waits for the word, and becomes its command."""
    at = At()
    try:
        detach(init.task, at, keep=init.kept())
        if init.mount_root is not None:
            # Before the control groups: their list of devices would keep an image on a loop device from being mounted.
            at.step = "mounting the root file system"
            opened = open_with_host(init.plan)
            init.mount_root()
            init = replace(init, mount_root=None, opened=opened)
        join_groups(init.task, at)
        for path, flag in init.join:
            join(path, flag, at)
        _init(init, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        fail(at, error)


def run_init_between(init: InitTask) -> NoReturn:
    """Enters the user namespace, if it gets one, and what belongs to it, and clones the container's first process."""
    at = At()
    try:
        detach(init.task, at, keep=init.kept())
        join_groups(init.task, at)
        # What is not the new user namespace's to enter is entered before; what is, afterwards.
        later = [item for item in _joined(init) if not _can_join(*item, at)]
        at.step = "entering the user namespace"
        if init.user_path:
            join(init.user_path, CLONE_NEWUSER, at)
        elif init.user_path is not None:
            unshare(CLONE_NEWUSER)
            ask(at, channel.MAP)
        if init.time_offsets is not None:
            at.step = "making the time namespace"
            # Before the user changes, which takes this process's files below /proc/self from it.
            make_time_namespace(init.time_offsets)
        be_root(at)
        for path, flag in later:
            join(path, flag, at)
        clone_sibling(init.flags, at)
        _init(init, at)
    except BaseException as error:  # noqa: BLE001 nothing may get past the clone
        fail(at, error)


def _init(init: InitTask, at: At) -> NoReturn:
    task, spec = init.task, init.spec
    # From here on processes of a container that shares its pid namespace can see this one, which still has the host's
    # interpreter as its executable: they must not reach it by /proc/PID (CVE-2016-9962, CVE-2019-5736).
    set_dumpable(False)
    lead(task, at)
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
    open_label(task, at)
    if init.mount_root is not None:
        at.step = "mounting the root file system"
        init.mount_root()
    at.step = "setting up the root file system"
    _enter_root(init, at)
    task = identify(task)
    if task.stdio is None:
        at.step = "making the terminal"
        make_terminal(task, at, cover_console=mount_console)
    if at.listen_fd >= 0:
        look_early(task, at)
    at.step = "waiting for the start"
    if at.listen_fd < 0:
        ask(at, channel.READY)
    else:
        os.write(at.channel_fd, channel.READY)
        _await_start(at)
    if init.start_container:
        at.step = "running hooks"
        run_hooks("startContainer", init.start_container, _own_state(init, b"created"))
    become(task, at)


def _enter_root(init: InitTask, at: At) -> None:
    """Makes the container's root this process's; the one place that calls `enter`."""

    def leave_host() -> None:
        if init.runtime_hooks:
            at.step = "running hooks"
            ask(at, channel.HOOKS)
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


def _await_start(at: At) -> None:
    """Waits until another process says go, and has that one told how the exec went."""
    accepted = channel.accept(at.listen_fd)
    os.dup2(accepted, at.channel_fd, inheritable=False)
    os.close(accepted)


def _joined(init: InitTask) -> tuple[tuple[str, int], ...]:
    from wherry.linux.namespaces import CLONE_NEWPID

    return (*init.join, (init.pid_path, CLONE_NEWPID)) if init.pid_path else init.join


def _can_join(path: str, flag: int, at: At) -> bool:
    try:
        join(path, flag, at)
    except PermissionError:
        return False
    return True


def _write_sysctls(settings: Mapping[str, str]) -> None:
    """Writes settings through a procfs that nobody can have put anything over (CVE-2025-52881)."""
    proc = procfs.open_procfs()
    for key, value in settings.items():
        procfs.write(proc, "sys/" + (key if "/" in key else key.replace(".", "/")), value.encode())
    os.close(proc)
