"""The file system of a container: from a specification to a mount plan, and from the plan to the new root.

`plan` is pure. `enter` runs in the container's first process, in a mount namespace of its own, in the host's root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from wherry.core.errors import InvalidInput
from wherry.linux import mountplan, x, xcompat
from wherry.linux.mount import (
    MNT_DETACH,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    mount,
    pivot_root,
    umount,
)
from wherry.linux.mountplan import BindMount, MakeDirectory, MakeLink, MakeNode, MaskPath, NewMount, ReadOnlyPath
from wherry.linux.namespaces import CLONE_NEWNS, setns
from wherry.runtime.cgroup import Hierarchy
from wherry.runtime.spec import Mount, Spec

_ATTRIBUTES = {
    "ro": x.MOUNT_ATTR_RDONLY,
    "nosuid": x.MOUNT_ATTR_NOSUID,
    "nodev": x.MOUNT_ATTR_NODEV,
    "noexec": x.MOUNT_ATTR_NOEXEC,
    "noatime": x.MOUNT_ATTR_NOATIME,
    "strictatime": x.MOUNT_ATTR_STRICTATIME,
    "nodiratime": x.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": x.MOUNT_ATTR_NOSYMFOLLOW,
}
_NO_CHANGE = frozenset(("defaults", "rw", "suid", "dev", "exec", "relatime", "atime", "diratime", "async", "symfollow"))
_PROPAGATIONS = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
_CGROUP_ROOT_OPTIONS = ("mode=755", "size=1m")
_DEV_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_DEV_NODES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)


def plan(spec: Spec, hierarchies: Sequence[Hierarchy]) -> tuple[mountplan.Step, ...]:
    """Returns what is mounted and made below the container's root, in order.

    Args:
        spec: the container.
        hierarchies: the control groups that the container is in, for its ``cgroup`` mount.

    Raises:
        InvalidInput: an option that means nothing, or a relative path.
    """
    steps: list[mountplan.Step] = []
    devices = [
        MakeNode(device.path, device.type, device.major, device.minor, device.file_mode, device.uid, device.gid)
        for device in spec.devices
    ]
    for item in spec.mounts:
        if not item.destination.startswith("/") or ".." in item.destination.split("/"):
            raise InvalidInput("a mount needs an absolute path without '..'", where=f"mounts: {item.destination}")
        if item.type == "cgroup":
            steps += _cgroup_mounts(item, hierarchies)
        else:
            steps.append(mount_step(item))
        if item.destination == "/dev" and item.type == "tmpfs":
            # At once, so that nothing is made in a directory of the host that is bound there later.
            steps += _dev(devices)
            devices = []
    steps += devices
    if spec.process.cwd != "/":
        steps.append(MakeDirectory(spec.process.cwd))
    steps += [MaskPath(path) for path in spec.masked_paths]
    steps += [ReadOnlyPath(path) for path in spec.readonly_paths]
    if spec.root_read_only:
        steps.append(mountplan.SetAttributes("/", x.MOUNT_ATTR_RDONLY))
    return tuple(steps)


def _dev(devices: Sequence[MakeNode]) -> list[mountplan.Step]:
    """Returns what is made in a fresh /dev: the nodes that every container has, and the given ones."""
    given = {device.target for device in devices}
    nodes = [MakeNode(path, "c", major, minor) for path, major, minor in _DEV_NODES if path not in given]
    return [*nodes, *devices, *(MakeLink(path, target) for path, target in _DEV_LINKS if path not in given)]


def mount_step(item: Mount) -> NewMount | BindMount:
    """Returns the step of one mount other than ``cgroup``.

    Raises:
        InvalidInput: an option that a bind mount does not have.
    """
    attributes = propagation = 0
    bind = item.type == "bind"
    recursive_read_only = False
    recursive = False
    others: list[str] = []
    for option in item.options:
        if option in _ATTRIBUTES:
            attributes |= _ATTRIBUTES[option]
        elif option in ("bind", "rbind"):
            bind, recursive = True, option == "rbind"
        elif option == "rro":
            attributes |= x.MOUNT_ATTR_RDONLY
            recursive_read_only = True
        elif option.removeprefix("r") in _PROPAGATIONS and option != "r":
            propagation = _PROPAGATIONS[option.removeprefix("r")]
        elif option not in _NO_CHANGE:
            others.append(option)
    if not bind:
        return NewMount(
            item.type, item.destination, item.source or item.type, tuple(others), attributes, item.type != "tmpfs"
        )
    if others:
        raise InvalidInput(f"a bind mount has no option {others[0]!r}", where=f"mounts: {item.destination}")
    if not item.source.startswith("/"):
        raise InvalidInput("a bind mount needs an absolute source", where=f"mounts: {item.destination}")
    return BindMount(item.source, item.destination, attributes, recursive, recursive_read_only, propagation)


def _cgroup_mounts(item: Mount, hierarchies: Sequence[Hierarchy]) -> list[mountplan.Step]:
    """Returns the mounts of the container's own groups, which its cgroup namespace makes look like roots."""
    attributes = sum(_ATTRIBUTES.get(option, 0) for option in set(item.options))
    if [hierarchy.version for hierarchy in hierarchies] == [2]:
        return [NewMount("cgroup2", item.destination, "cgroup", (), attributes)]
    quiet = attributes & ~x.MOUNT_ATTR_RDONLY
    steps: list[mountplan.Step] = [NewMount("tmpfs", item.destination, "tmpfs", _CGROUP_ROOT_OPTIONS, quiet)]
    for hierarchy in hierarchies:
        if hierarchy.version == 2:
            steps.append(NewMount("cgroup2", f"{item.destination}/unified", "cgroup2", (), attributes))
            continue
        name = ",".join(hierarchy.controllers).removeprefix("name=")
        options = hierarchy.controllers
        if options[0].startswith("name="):
            options = ("none", *options)
        steps.append(NewMount("cgroup", f"{item.destination}/{name}", "cgroup", options, attributes))
        if "," in name:
            steps += [MakeLink(f"{item.destination}/{part}", name) for part in name.split(",")]
    if attributes & x.MOUNT_ATTR_RDONLY:
        steps.append(mountplan.SetAttributes(item.destination, x.MOUNT_ATTR_RDONLY))
    return steps


def enter(rootfs: str, steps: Sequence[mountplan.Step], *, attributes: int = 0) -> None:
    """Makes `rootfs`, with the plan done below it, the root of this process's mount namespace.

    The old root, with everything of the host, is gone from the namespace afterwards. That holds under chroot(2) too,
    where "/" is not the namespace's root: a pivot of the chroot alone would leave the machine's real root above the
    container's, where setns(2) leads to.

    Args:
        rootfs: the container's root tree, in the host.
        steps: from `plan`.
        attributes: ``MOUNT_ATTR_*`` of the root itself.

    Raises:
        OSError: the kernel refuses something; the file name says what it was about.
    """
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    setns(namespace, CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    os.fchdir(here)
    os.chroot(".")  # the paths of the plan are the caller's
    os.close(here)
    root = x.open_tree(rootfs, recursive=True)
    place = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    xcompat.attach_with(root, place, attributes)
    os.close(place)
    mountplan.execute(steps, root)
    setns(namespace, CLONE_NEWNS)
    os.close(namespace)
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    try:
        pivot_root(".", ".")
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise OSError(
                errno.EINVAL, "the host runs from its initial ramfs; switch_root to a real root", "/"
            ) from None
        raise
    # The old root lies over the new one now; its mounts go with it.
    os.fchdir(old)
    umount(".", MNT_DETACH)
    os.close(old)
    os.close(root)
    os.chdir("/")
