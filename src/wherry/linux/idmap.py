"""User namespaces that nobody lives in: a pair of maps for mount_setattr(2), Linux 5.12.

The kernel takes the maps of an id-mapped mount from a user namespace. One is made for the purpose by a process that
does nothing and ends; the descriptor keeps the namespace. It must be made by who has CAP_SETUID over the ids, so for a
container in a user namespace by its parent.
"""

from __future__ import annotations

import os

from wherry.linux.namespaces import CLONE_NEWUSER, clone

Range = tuple[int, int, int]
"""The first id in the namespace (of a mount: in the file system), the first id outside (shown), and how many."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def map_text(ranges: Sequence[Range]) -> bytes:
    """Returns what is written to ``/proc/PID/uid_map``."""
    return b"".join(b"%d %d %d\n" % item for item in ranges)


def open_user_namespace(uids: Sequence[Range], gids: Sequence[Range]) -> int:
    """Makes a user namespace with these maps.

    Returns:
        a file descriptor of it, closed on exec.

    Raises:
        OSError: EPERM when the caller has not got these ids to give; EINVAL when ranges overlap.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone(CLONE_NEWUSER)
        if pid == 0:
            os.close(theirs)
            os.read(ours, 1)  # to the end of the file, which comes also when the parent dies
            os._exit(0)
        try:
            # /proc may be that of an outer pid namespace, as in a container's first process before its own is there.
            folder = f"/proc/{_pid_in_proc(pidfd)}/"
            _write(folder + "uid_map", map_text(uids))
            _write(folder + "gid_map", map_text(gids))
            return os.open(folder + "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(theirs)
            theirs = -1
            os.close(pidfd)
            os.waitpid(pid, 0)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _pid_in_proc(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        for line in file.read().splitlines():
            if line.startswith(b"Pid:"):
                return int(line[4:])
    raise ProcessLookupError


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)
