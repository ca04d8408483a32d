"""How a container's first process ended, whoever its parent is by now."""

from __future__ import annotations

import os

from wherry.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.keep import Keep

UNKNOWN = "its exit status is not known: the process that would have got it was gone"


def status_of(pidfd: int, pid: int, keep: Keep) -> int | None:
    """Returns the wait status of a process that has ended, and leaves it for the next one to find, should we die now.

    It is a child of ours, or of the keeper's since an earlier supervisor was killed; or somebody else got the status,
    and the kernel tells it to the holder of a pidfd (Linux 6.15).

    Returns:
        None when nobody knows.
    """
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        found = None
    if found is not None:
        return found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status
    status = keep.status(pid)
    return process.pidfd_exit_status(pidfd) if status is None else status


def reap(pidfd: int) -> None:
    """Takes the status of a child that has ended, or is about to; nothing happens with another's child."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        pass
