"""The root of a container as its own processes see it, for commands that copy, compare and pack it.

A descriptor of the root directory comes out, below which every path is opened by ``linux/beneath.py`` or entry by
entry without following links: what is in there was made by strangers. How it is come by:

=========================  ============================================================================================
the container runs         ``/proc/PID/root``, of a process that is known to be the container's; with all it has mounted
the same, without mounts   a child enters its mount namespace and clones the root's mount alone (open_tree)
it does not run            a child with a mount namespace of its own mounts the overlay and the volumes; the container's
                           lock is held, so that it is not started meanwhile; all of it goes when the child does
=========================  ============================================================================================

A child tells its descriptor through a socket pair, and ends when the other end is closed, however that comes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from wherry.core import errors
from wherry.core.errors import Conflict, NotFound, NotPermitted, WherryError
from wherry.engine import state
from wherry.engine.idranges import AS_SEEN, Owners
from wherry.engine.imagestore import ImageStore

if TYPE_CHECKING:
    from wherry.engine.info import ContainerInfo
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths
    from wherry.store.repository import Repository

MAX_MESSAGE_BYTES = 4096
_READY = b"ready"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

KERNEL_FILE_SYSTEMS = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x1CD1: "devpts",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x73636673: "securityfs",
    0x62656570: "configfs",
    0xCAFE4A11: "bpf",
    0x19800202: "mqueue",
    0x42494E4D: "binfmt_misc",
    0xDE5E81E4: "efivarfs",
    0x6E736673: "nsfs",
}
"""Never copied from or to: a file there is a question to the kernel, which would be asked with the caller's rights."""


@contextmanager
def open_root(
    paths: Paths, repo: Repository | None, info: ContainerInfo, *, with_mounts: bool = True, write: bool = False
) -> Iterator[int]:
    """Gives a descriptor (O_PATH) of a container's root directory for as long as the block runs.

    Args:
        paths: of the engine root.
        repo: of the container's image; None with a root directory.
        info: the container.
        with_mounts: what is mounted in it, its volumes above all, too.
        write: something is to be written there.

    Raises:
        NotFound: the store with its image is not there.
        Conflict: it ended, or was started, just now.
        NotPermitted: `write`, and its root is read-only.
    """
    with ExitStack() as stack:
        if info.pid:
            root_fd = _running(paths, stack, info, with_mounts=with_mounts)
        else:
            if write and info.config.spec.read_only and not with_mounts:
                raise NotPermitted(f"the root of container {info.name} is read-only")
            root_fd = _stopped(paths, stack, repo, info, with_mounts=with_mounts)
        stack.callback(os.close, root_fd)
        yield root_fd


def _running(paths: Paths, stack: ExitStack, info: ContainerInfo, *, with_mounts: bool) -> int:
    gone = Conflict(f"container {info.name} ended just now", hint="try again")
    try:
        pidfd = os.pidfd_open(info.pid)
    except ProcessLookupError:
        raise gone from None
    try:
        # the number was the container's while the pidfd was open: it cannot be another's by now
        run = state.read_run(paths, info.id)
        if run is None or run.pid != info.pid or not state.is_kept(paths, info.id):
            raise gone
        try:
            if with_mounts:
                return os.open(f"/proc/{info.pid}/root", _DIRECTORY)
            namespace_fd = os.open(f"/proc/{info.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise gone from None
        finally:
            if _has_ended(pidfd):
                raise gone
    finally:
        os.close(pidfd)
    try:
        return _in_child(stack, lambda: _clone_root(namespace_fd))
    finally:
        os.close(namespace_fd)


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _clone_root(namespace_fd: int) -> int:
    from wherry.linux.namespaces import CLONE_NEWNS, setns
    from wherry.linux.x import open_tree

    setns(namespace_fd, CLONE_NEWNS)  # also makes the container's root this process's root
    return open_tree("/")


def _stopped(paths: Paths, stack: ExitStack, repo: Repository | None, info: ContainerInfo, *, with_mounts: bool) -> int:
    stack.enter_context(state.container_lock(paths, info.id))
    if state.is_kept(paths, info.id):
        raise Conflict(f"container {info.name} was started just now", hint="try again")
    config = info.config
    if config.commit and repo is None:
        raise NotFound(f"the store with image {config.image} is not there")
    return _in_child(stack, lambda: _mount(paths, repo if config.commit else None, config, with_mounts=with_mounts))


def _mount(paths: Paths, repo: Repository | None, config: ContainerConfig, *, with_mounts: bool) -> int:
    """Mounts a container's root in this process, which is a child of its own; returns a descriptor of it."""
    from wherry.engine.rootfs import root_mounter, see_to_image
    from wherry.linux import xcompat
    from wherry.linux.namespaces import CLONE_NEWNS, unshare
    from wherry.linux.x import MOUNT_ATTR_RDONLY

    if repo is not None:
        see_to_image(paths, ImageStore(repo.path, repo), config)
    unshare(CLONE_NEWNS)
    root_mounter(paths, "" if repo is None else str(repo.path), config, to_look=True)()
    root_fd = os.open(f"{paths.container(config.id)}/rootfs", _DIRECTORY)
    if with_mounts:
        for item in sorted(config.mounts, key=lambda item: item.target.count("/")):
            source = _source_of(paths, item, root_fd)
            if source:
                _bind(source, root_fd, item.target, MOUNT_ATTR_RDONLY if item.read_only else 0)
        if config.spec.read_only:
            xcompat.set_attributes(root_fd, MOUNT_ATTR_RDONLY)
    return root_fd


def _source_of(paths: Paths, item: object, root_fd: int) -> str:
    from wherry.engine import volumes
    from wherry.spec.container import Mount, MountType

    assert isinstance(item, Mount)  # noqa: S101 for the type checker: what a config's mounts are
    if item.type == MountType.VOLUME:
        return str(volumes.prepare_volume(paths, item.source, root_fd=root_fd, target=item.target))
    return item.source if item.type == MountType.BIND and os.path.exists(item.source) else ""


def _bind(source: str, root_fd: int, target: str, attributes: int) -> None:
    from wherry.linux import xcompat
    from wherry.linux.beneath import make_directory, make_file
    from wherry.linux.x import open_tree

    target_fd = make_directory(root_fd, target) if os.path.isdir(source) else make_file(root_fd, target)
    try:
        mount_fd = open_tree(source, recursive=True)
        try:
            xcompat.attach_with(mount_fd, target_fd, attributes, recursive=True)
        finally:
            os.close(mount_fd)
    finally:
        os.close(target_fd)


def _in_child(stack: ExitStack, work: Callable[[], int]) -> int:
    """Runs `work` in a child that lives as long as `stack`; returns the descriptor that it returned there.

    Raises:
        WherryError: as `work` does.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
            _serve(theirs, work)
        finally:
            os._exit(0)
    theirs.close()
    stack.callback(_end_child, ours, child)
    data, fds, _, _ = socket.recv_fds(ours, MAX_MESSAGE_BYTES, 1)
    if data == _READY and fds:
        return fds[0]
    kind, _, text = data.decode(errors="replace").partition("\n")
    raise getattr(errors, kind, WherryError)(text or "the container's root cannot be mounted")


def _serve(line: socket.socket, work: Callable[[], int]) -> None:
    try:
        fd = work()
    except BaseException as error:  # noqa: BLE001 whatever it is: the other side must be told
        kind = type(error).__name__ if isinstance(error, WherryError) else "WherryError"
        line.send(f"{kind}\n{error}".encode()[:MAX_MESSAGE_BYTES])
        return
    socket.send_fds(line, [_READY], [fd])
    os.close(fd)
    line.recv(1)  # nothing, when the other end is closed


def _end_child(line: socket.socket, child: int) -> None:
    line.close()
    os.waitpid(child, 0)


def owners_of(info: ContainerInfo) -> Owners:
    """Returns whose the files are in the root that `open_root` gives: those of a running container are its users'."""
    parts = info.config.spec.isolation
    return Owners(uids=parts.uids, gids=parts.gids) if info.pid else AS_SEEN


def is_kernel_file_system(fd: int) -> bool:
    """Tells whether a file lies on a file system of the kernel's own."""
    from wherry.linux.process import file_system_type

    return file_system_type(fd) & 0xFFFFFFFF in KERNEL_FILE_SYSTEMS


def refuse_kernel_file_system(fd: int, path: str) -> None:
    """Refuses what lies on a file system of the kernel's own.

    Raises:
        NotPermitted: names the path.
    """
    from wherry.linux.process import file_system_type

    name = KERNEL_FILE_SYSTEMS.get(file_system_type(fd) & 0xFFFFFFFF)
    if name is not None:
        raise NotPermitted(f"{name} is not copied from or to", where=path, hint="run a command in it: `wherry exec`")
