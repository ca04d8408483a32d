"""What is known on disk about a container that was created: ``STATE_DIR/runtime.json``.

    {"boot_id", "cgroups", "created_s", "devices_unguarded", "filter", "id", "namespaces", "pid", "start_ticks",
     "status", "version"}

The file is replaced by rename, but not synced: after a power cut the process that it speaks of is gone too, and the
boot id says so. ``status`` is what was last written, ``created`` or ``running``; `State.status` is what is so: a
process that ended, or whose number another process has by now, is ``stopped``. What is *not* promised: that only
one process changes a container at a time; the engine has locks for that.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from wherry.core import jsonio
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound
from wherry.runtime.cgroup import Cgroup, Group

FILE = "runtime.json"
_VERSION = 1
_MAX_BYTES = 1 << 20
_STAT_STATE, _STAT_START_TIME = 0, 19
"""Fields of /proc/PID/stat after the command's name: proc_pid_stat(5), (3) and (22)."""


class Status(enum.StrEnum):
    """Where a container is in its life: the runtime specification's words."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A container as its state directory tells of it."""

    container_id: str
    pid: int
    start_ticks: int
    boot_id: str
    cgroup: Cgroup
    namespaces: int
    """``CLONE_NEW*`` of those that are not the creator's."""
    filter: bytes
    """The compiled system call filter, or nothing."""
    devices_unguarded: bool
    """Nothing but the lack of CAP_MKNOD keeps it from the host's devices."""
    created_s: int
    status: Status
    """What is so now."""


def save(directory: Path, state: State) -> None:
    """Writes the state."""
    value = {
        "boot_id": state.boot_id,
        "cgroups": [
            {"controllers": list(g.controllers), "path": g.path, "version": g.version} for g in state.cgroup.groups
        ],
        "created_s": state.created_s,
        "devices_unguarded": state.devices_unguarded,
        "filter": state.filter.hex(),
        "id": state.container_id,
        "namespaces": state.namespaces,
        "pid": state.pid,
        "start_ticks": state.start_ticks,
        "status": state.status,
        "version": _VERSION,
    }
    path = directory / FILE
    temporary = directory / f".{FILE}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(jsonio.canonical(value))
        os.replace(temporary, path)
    except OSError as error:
        raise map_os_error(error, "cannot write the container's state", where=path) from error


def load_state(directory: Path, *, proc: str = "/proc") -> State:
    """Reads the state, and looks whether the process lives.

    Raises:
        NotFound: no container was created there.
        InvalidInput: the file is not one of this version of Wherry.
    """
    path = directory / FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound("no container was created here", where=directory) from None
    value = jsonio.loads(data, where=path, max_bytes=_MAX_BYTES)
    try:
        if value["version"] != _VERSION:
            raise InvalidInput(f"state of version {value['version']}, not {_VERSION}", where=path)
        pid, ticks, boot = int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"])
        lives = boot == boot_id(proc) and start_ticks(pid, proc) == ticks
        return State(
            container_id=str(value["id"]),
            pid=pid,
            start_ticks=ticks,
            boot_id=boot,
            cgroup=Cgroup(
                tuple(Group(int(g["version"]), tuple(g["controllers"]), str(g["path"])) for g in value["cgroups"])
            ),
            namespaces=int(value["namespaces"]),
            filter=bytes.fromhex(value["filter"]),
            devices_unguarded=bool(value["devices_unguarded"]),
            created_s=int(value["created_s"]),
            status=Status(value["status"]) if lives else Status.STOPPED,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"not a container's state: {error}", where=path) from error


def boot_id(proc: str = "/proc") -> str:
    """Returns the name that the kernel gave itself when it booted."""
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_ticks(pid: int, proc: str = "/proc") -> int | None:
    """Returns when a process began, in clock ticks since boot; None when there is none, or only its exit status."""
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STAT_STATE] in (b"Z", b"X") else int(fields[_STAT_START_TIME])
