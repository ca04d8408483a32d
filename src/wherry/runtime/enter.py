"""Making a tree with its mount plan the root of this process, with nothing of the host left in its mount namespace.

Runs in the container's first process, in a mount namespace of its own and in the host's root.
"""

from __future__ import annotations

import errno
import os
import stat

from wherry.core.errors import InvalidInput
from wherry.core.value import replace
from wherry.linux import mountsteps, x, xcompat
from wherry.linux.beneath import make_file
from wherry.linux.mount import (
    MNT_DETACH,
    MS_MOVE,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    mount,
    pivot_root,
    umount,
)
from wherry.linux.mountplan import Work, execute, nodes_of
from wherry.linux.namespaces import CLONE_NEWNS, setns
from wherry.linux.process import mount_id
from wherry.runtime.mountoptions import PROPAGATION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wherry.linux.mountplan import MakeNode, Step
    from wherry.runtime.spec import IdMapping, Spec

_CONSOLE = "/dev/console"
_NO_SOURCES: Mapping[int, int] = {}


def open_sources(steps: Sequence[Step]) -> dict[int, int]:
    """Opens the sources of all bind mounts of a plan, id-mapped and with their attributes.

    For the parent of a container in a user namespace, which has the rights over the host's files and ids that the
    container has not. The mounts take no part in what happens on the host any more, but receive from it where the plan
    says so.

    Returns:
        number of the step -> file descriptor, for `enter`; closed on exec, the caller's to close.
    """
    work = Work(-1)
    try:
        mountsteps.open_sources(steps, work)
        for index, fd in work.sources.items():
            wanted = steps[index]
            slave = isinstance(wanted, mountsteps.BindMount) and wanted.propagation & (MS_SLAVE | MS_SHARED)
            x.mount_setattr(fd, propagation=MS_SLAVE if slave else MS_PRIVATE, recursive=True)
    except BaseException:
        work.close()
        raise
    return work.sources


def open_missing_nodes(steps: Sequence[Step], spec: Spec) -> dict[int, int]:
    """Makes the device nodes that a container in a new user namespace shall have, and the host has not.

    For its parent, which may make them: a user namespace may not. What is made there is of the mode and the owner that
    are asked for, by the ids of the container.

    Returns:
        as `open_sources`, with numbers below zero; none where the caller may not make them either.

    Raises:
        InvalidInput: an owner is not mapped in the user namespace.
        OSError: the kernel refuses a node; the file name is its.
    """
    wanted = {device.path for device in spec.devices}
    missing: dict[int, MakeNode] = {}
    for number, node in _numbered(steps):
        if node.target in wanted and node.kind != "p":
            host = node.open_host()
            if host >= 0:
                os.close(host)
            else:
                uid, gid = _outside(node, node.uid, spec.uid_mappings), _outside(node, node.gid, spec.gid_mappings)
                missing[number] = replace(node, uid=uid, gid=gid)
    if not missing:
        return {}
    from wherry.linux.hostnodes import make_nodes

    try:
        return dict(zip(missing, make_nodes(tuple(missing.values())), strict=True))
    except PermissionError:
        return {}


def _outside(node: MakeNode, number: int, mappings: Sequence[IdMapping]) -> int:
    """Returns an id of the container's as the host has it."""
    for item in mappings:
        if item.container_id <= number < item.container_id + item.size:
            return number - item.container_id + item.host_id
    raise InvalidInput(f"linux.devices: the owner {number} is not mapped in the user namespace", where=node.target)


def open_with_host(steps: Sequence[Step]) -> Work:
    """Opens those sources of bind mounts that go on receiving mounts from the host, or giving them to it.

    For a process that has its mount namespace made a slave of the host's before `enter`: what is bound afterwards gives
    the host nothing.

    Returns:
        what `enter` takes as `opened`.
    """
    work = Work(-1)
    mountsteps.open_sources(steps, work, with_host=True)
    return work


def enter(
    rootfs: str | int,
    steps: Sequence[Step],
    *,
    attributes: int = 0,
    propagation: str = "",
    pivot: bool = True,
    sources: Mapping[int, int] = _NO_SOURCES,
    opened: Work | None = None,
    leave_host: Callable[[], None] | None = None,
) -> None:
    """Makes `rootfs`, with the plan done below it, the root of this process's mount namespace.

    The old root, with everything of the host, is gone from the namespace afterwards. That holds under chroot(2) too,
    where "/" is not the namespace's root: a pivot of the chroot alone would leave the machine's real root above the
    container's, where setns(2) leads to.

    Args:
        rootfs: the container's root tree: a path in the host, or a mount that is nowhere yet (it is closed).
        steps: from `plan`.
        attributes: ``MOUNT_ATTR_*`` of the root itself.
        propagation: a word of ``rootfsPropagation``; "" means ``rprivate``.
        pivot: False where pivot_root(2) cannot be, as the host's root is the initial ramfs: the root is moved over it,
            and reached by chroot(2). The host's mounts are taken away before.
        sources: from `open_sources`; they are closed.
        opened: from `open_with_host`, without `sources`.
        leave_host: called when everything is mounted, and the host's root is still this process's; for hooks.

    Raises:
        OSError: the kernel refuses something; the file name says what it was about.
    """
    old_umask = os.umask(0)  # modes of what is made are those that the plan names
    namespace = _leave_chroot()
    work = Work(-1, sources) if opened is None else opened
    if work.sources and min(work.sources) < 0:
        work.nodes = {node.target: number for number, node in _numbered(steps) if number in work.sources}
    mountsteps.open_sources(steps, work, with_host=True)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mountsteps.open_sources(steps, work)
    if isinstance(rootfs, int):
        root, place = rootfs, os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        root = x.open_tree(rootfs, recursive=True)
        place = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    xcompat.attach_with(root, place, attributes)
    os.close(place)
    work.root_fd = root
    execute(steps, work)
    work.close()
    if leave_host is not None:
        os.umask(old_umask)
        leave_host()
    if namespace >= 0:
        setns(namespace, CLONE_NEWNS)
        os.close(namespace)
    if pivot:
        _pivot(root)
    else:
        _move(root)
    os.close(root)
    os.chdir("/")
    _propagate(propagation)
    os.umask(old_umask)


def _numbered(steps: Sequence[Step]) -> Iterator[tuple[int, MakeNode]]:
    return ((-1 - index, node) for index, node in enumerate(nodes_of(steps)))


def _leave_chroot() -> int:
    """Looks whether "/" is the root of the mount namespace, and if it is not, makes a private namespace of it.

    Returns:
        -1, or a descriptor of this mount namespace, to go back to its root with.
    """
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    seen = mount_id(b"/")
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    setns(namespace, CLONE_NEWNS)  # moves "/" to the namespace's root
    if mount_id(b"/") == seen:
        os.close(here)
        os.close(namespace)
        return -1
    os.fchdir(here)
    os.chroot(".")  # the paths of the plan are the caller's
    os.close(here)
    return namespace


def _pivot(root: int) -> None:
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    try:
        pivot_root(".", ".")
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(
                errno.EINVAL, "the host runs from its initial ramfs; use --no-pivot, or switch_root to a real root", "/"
            ) from None
        raise
    # The old root lies over the new one now; its mounts go with it.
    os.fchdir(old)
    umount(".", MNT_DETACH)
    os.close(old)


def _move(root: int) -> None:
    """Puts the new root over the old one, which cannot be taken away, after all that is mounted on the old one."""
    path = os.readlink(f"/proc/self/fd/{root}")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = xcompat.mounts_below("/", file.read())
    for place in reversed(places):
        if (
            place != "/"
            and place != path
            and not f"{path}/".startswith(f"{place}/")
            and not place.startswith(f"{path}/")
        ):
            try:
                umount(place, MNT_DETACH)
            except OSError:
                pass  # gone with another one, or locked in a user namespace: it is hidden below the new root then
    os.fchdir(root)
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")


def _propagate(word: str) -> None:
    """Gives the new root the propagation that was asked for; it is private until here."""
    flag = PROPAGATION.get(word, MS_PRIVATE)
    if flag & (MS_SHARED | MS_SLAVE | MS_UNBINDABLE):
        mount(None, "/", None, flag)


def mount_console(slave_fd: int) -> None:
    """Puts a terminal over /dev/console, by its descriptor, in the root that was entered.

    No path of the terminal is looked up (CVE-2025-52565: between runc's look at /dev/pts/N and its mount, the image's
    own file could be put there), nothing is opened at /dev/console, and a link there is not followed out of /dev.

    Raises:
        OSError: what is at /dev/console cannot be covered, such as a directory or a link.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    place = copy = -1
    try:
        place = make_file(root, _CONSOLE, mode=0o600, follow_symlinks=False)
        if stat.S_ISLNK(os.fstat(place).st_mode):
            raise OSError(errno.ELOOP, "a symbolic link is in its place", _CONSOLE)
        mountsteps.refuse_procfs(place, _CONSOLE)
        copy = x.open_tree("", dir_fd=slave_fd)
        x.attach(copy, place)
    finally:
        for fd in (root, place, copy):
            if fd >= 0:
                os.close(fd)
