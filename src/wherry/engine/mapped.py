"""A container's root as the users of its user namespace see it: id-mapped layers, and a mount that is handed over.

The directories and images that the overlay is made of are shown with their owners moved by the container's ranges
(mount_setattr(2), MOUNT_ATTR_IDMAP), so that the disk has the owners of the image, and any number of containers with
different ranges share one image and the files in the store. A process in a user namespace cannot make such mounts; a
child in the host's makes them, in a mount namespace of its own, and hands over the overlay, which is nowhere by then.
Wanted: Linux 5.19 for layers of an overlay, 6.3 where one is on a tmpfs.
Source: Documentation/filesystems/idmappings.rst; mount_setattr(2).
"""

from __future__ import annotations

import errno
import os

from wherry.core.durable import map_os_error
from wherry.core.errors import Unsupported, WherryError
from wherry.engine.idranges import outside
from wherry.engine.wire import dump_error, load_error
from wherry.linux import packets, process, x
from wherry.linux.capabilities import permitted, set_process
from wherry.linux.idmap import open_user_namespace
from wherry.linux.namespaces import CLONE_NEWNS, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wherry.engine.idranges import Owners
    from wherry.engine.isolation import IdRange, Isolation

_REFUSED = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
_MAX_ERROR_BYTES = 65536


def shower(parts: Isolation) -> Callable[[str], None]:
    """Returns what makes a path of this mount namespace show its files with a container's owners.

    With the first call the process becomes the container's root (`become_root`), as an overlay is mounted next that
    makes files there. What is mounted below a path is hidden. Nothing is done for one that is not there, which is told
    by who opens it.

    Raises (when it is called):
        Unsupported: the kernel does not map the ids of that file system.
    """
    namespace = -1

    def show(path: str) -> None:
        nonlocal namespace
        if namespace < 0:
            namespace = open_user_namespace(_ranges(parts.uids), _ranges(parts.gids))
            become_root(parts)
        try:
            copy = x.open_tree(path)
        except FileNotFoundError:
            return
        try:
            if os.path.samefile(path, "/"):
                raise Unsupported("the host's root cannot be shown with other owners", hint="leave out --userns")
            x.mount_setattr(copy, userns_fd=namespace)
            place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            x.attach(copy, place)
            os.close(place)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            raise Unsupported(
                f"the kernel cannot show these files with other owners: {os.strerror(error.errno or 0)}",
                where=path,
                hint="--userns needs Linux 5.19, and 6.3 on a tmpfs; leave it out",
            ) from error
        finally:
            os.close(copy)

    return show


def become_root(parts: Isolation | Owners) -> None:
    """Makes this process the user outside whom a container's root is, with all the capabilities that it has.

    Only whom an id-mapped mount has an owner for can make files there; others get EOVERFLOW. An overlay is mounted as
    whoever it shall be that makes what it needs for itself.
    """
    bits = permitted()
    process.prctl(process.PR_SET_KEEPCAPS, 1)
    os.setgroups(())
    gid, uid = outside(parts.gids, 0), outside(parts.uids, 0)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    set_process(effective=bits, permitted=bits, inheritable=0)


def _ranges(items: Sequence[IdRange]) -> list[tuple[int, int, int]]:
    return [(item.container_id, item.host_id, item.size) for item in items]


def mount_apart(mount_root: Callable[[], None], target: str) -> int:
    """Mounts a root in a child with a mount namespace of its own, and takes it over.

    Args:
        mount_root: mounts it; from ``rootfs.root_mounter``.
        target: where.

    Returns:
        A descriptor of the mount, which is nowhere, and goes with the descriptor; for ``runtime.create``.

    Raises:
        WherryError: what `mount_root` did.
    """
    ours, theirs = packets.pair()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                unshare(CLONE_NEWNS)
                mount_root()
                packets.send(theirs, b"root", (x.open_tree(target, recursive=True),))
            except WherryError as error:
                packets.send(theirs, dump_error(error))
            except OSError as error:
                told = map_os_error(error, "cannot mount the root", where=error.filename)
                packets.send(theirs, dump_error(told))
        finally:
            os._exit(0)
    theirs.close()
    try:
        told_bytes, fds = packets.receive(ours, _MAX_ERROR_BYTES)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if not fds:
        raise load_error(told_bytes)
    return fds[0]
