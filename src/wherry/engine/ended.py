"""How a container's first process ended, whoever its parent is by now, and how one is ended with the machine."""

from __future__ import annotations

import os

from wherry.core.errors import WherryError
from wherry.engine import bundle
from wherry.engine.telling import tell
from wherry.linux import process
from wherry.runtime.container import ended_state
from wherry.runtime.state import load_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from wherry.engine.keep import Keep
    from wherry.engine.spec import ContainerConfig
    from wherry.engine.state import Paths
    from wherry.runtime.container import Created
    from wherry.runtime.state import State

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


def exit_code(status: int) -> int:
    """Returns a wait status as shells and docker do: 128 and the signal for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def state_of(state_dir: str | os.PathLike[str], created: Created | None) -> State | None:
    """Returns what the runtime knows of a container, as long as that can be read.

    Args:
        state_dir: where it stands.
        created: what `container.create` returned, if this process has kept that.
    """
    try:
        return load_state(state_dir) if created is None else ended_state(created)
    except (WherryError, OSError):
        return None


def lacked_memory(state: State | None) -> bool:
    """Tells whether the kernel killed something in a container for want of memory."""
    try:
        return state is not None and bool(state.cgroup.oom_kills())
    except OSError:
        return False


def stop_wish(config: ContainerConfig) -> dict[str, Any]:
    """Returns the wish for a container's end as ``stop`` leaves it, by its own signal and time limit."""
    return {
        "signal": bundle.signal_number(config.stop_signal),
        "timeout_s": float(config.spec.stop_timeout_s),
        "event": "stop",
    }


def tell_stopped(paths: Paths, config: ContainerConfig, wish: Mapping[str, Any] | None) -> None:
    """Tells docker's event ``stop`` of a container that has ended, if that is what was asked for."""
    if wish is not None and wish.get("event") == "stop":
        tell(paths, config, "stop")
