"""What is known on disk about a container that was created: ``STATE_DIR/runtime.json``.

    {"annotations", "boot_id", "bundle", "cgroups", "created_s", "devices_unguarded", "filter", "filter_flags", "hooks",
     "id", "listener", "namespaces", "owner_uid", "pid", "rootfs", "start_ticks", "status", "version"}

The file is replaced by rename, but not synced: after a power cut the process that it speaks of is gone too, and the
boot id says so. ``status`` is what was last written, ``creating``, ``created`` or ``running``; `State.status` is what
is so: a process that ended, or whose number another process has by now, is ``stopped``. What is *not* promised: that
only one process changes a container at a time; the engine has locks for that, and `create` one for the directory.
"""

from __future__ import annotations

import os

from wherry.core import jsonio
from wherry.core.errors import Conflict, InvalidInput, NotFound
from wherry.core.value import EMPTY, Value
from wherry.linux.process import pidfd_open
from wherry.runtime.cgroup import Cgroup
from wherry.runtime.spec import OCI_VERSION, Hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    StrPath = str | os.PathLike[str]

FILE = "runtime.json"
GROUPS_FILE = "groups"
"""The path of the control groups, there before they are, for who is killed before `FILE` tells of them."""
_MAX_PATH_BYTES = 4096
_VERSION = 2
_MAX_BYTES = 4 << 20
_READ_BYTES = 64 << 10
_STAT_STATE, _STAT_START_TIME = 0, 19
"""Fields of /proc/PID/stat after the command's name: proc_pid_stat(5), (3) and (22)."""


class Status:
    """Where a container is in its life: the runtime specification's words, and ``paused`` as others have it."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"


_WRITTEN = {word: word for word in (Status.CREATING, Status.CREATED, Status.RUNNING)}


class State(Value):
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
    filter_flags: int = 0
    listener: tuple[str, str] | None = None
    """Of a filter that hands calls over: the socket of who answers them, and what that one is told."""
    devices_unguarded: bool
    """Nothing but the lack of CAP_MKNOD keeps it from the host's devices."""
    created_s: int
    status: str
    """What is so now; whether it is paused is asked of its control groups."""
    bundle: str = ""
    rootfs: str = ""
    annotations: Mapping[str, str] = EMPTY
    hooks: Hooks = Hooks()
    """Those that are still to be run: poststart and poststop."""
    owner_uid: int = 0


def save(directory: StrPath, state: State) -> tuple[int, int]:
    """Writes the state; returns what tells the file from one that replaces it, for `unchanged`."""
    value = {
        "annotations": dict(state.annotations),
        "boot_id": state.boot_id,
        "bundle": state.bundle,
        "cgroups": state.cgroup.serialize(),
        "created_s": state.created_s,
        "devices_unguarded": state.devices_unguarded,
        "filter": state.filter.hex(),
        "filter_flags": state.filter_flags,
        "hooks": _hooks_value(state.hooks),
        "id": state.container_id,
        "listener": None if state.listener is None else list(state.listener),
        "namespaces": state.namespaces,
        "owner_uid": state.owner_uid,
        "pid": state.pid,
        "rootfs": state.rootfs,
        "start_ticks": state.start_ticks,
        "status": state.status,
        "version": _VERSION,
    }
    path = f"{os.fspath(directory)}/{FILE}"
    temporary = f"{os.fspath(directory)}/.{FILE}.tmp"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            data = memoryview(jsonio.canonical(value))
            while data:
                data = data[os.write(fd, data) :]
            written = os.fstat(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        from wherry.core.durable import map_os_error

        raise map_os_error(error, "cannot write the container's state", where=path) from error
    return written.st_ino, written.st_mtime_ns


def unchanged(directory: StrPath, mark: tuple[int, int]) -> bool:
    """Tells whether the state is still the one that `save` wrote: an update of limits writes it anew."""
    try:
        now = os.stat(f"{os.fspath(directory)}/{FILE}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (now.st_ino, now.st_mtime_ns) == mark


def load_state(directory: StrPath, *, proc: str = "/proc") -> State:
    """Reads the state, and looks whether the process lives.

    Raises:
        NotFound: no container was created there.
        InvalidInput: the file is not one of this version of Wherry.
    """
    path = f"{os.fspath(directory)}/{FILE}"
    try:
        data = _read(path)
    except (FileNotFoundError, NotADirectoryError):
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
            cgroup=Cgroup.parse(value["cgroups"]),
            namespaces=int(value["namespaces"]),
            filter=bytes.fromhex(value["filter"]),
            filter_flags=int(value["filter_flags"]),
            listener=None if value["listener"] is None else (str(value["listener"][0]), str(value["listener"][1])),
            devices_unguarded=bool(value["devices_unguarded"]),
            created_s=int(value["created_s"]),
            status=_WRITTEN[value["status"]] if lives else Status.STOPPED,
            bundle=str(value["bundle"]),
            rootfs=str(value["rootfs"]),
            annotations=dict(value["annotations"]),
            hooks=_hooks(value["hooks"]),
            owner_uid=int(value["owner_uid"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"not a container's state: {error}", where=path) from error


def open_state(state_dir: StrPath) -> tuple[State, int]:
    """Returns the state of a container that lives, and a pidfd of its first process, surely of that one.

    Raises:
        Conflict: it does not live.
    """
    state = load_state(state_dir)
    pidfd = open_process(state)
    if pidfd < 0:
        raise Conflict("the container does not run", where=state.container_id)
    return state, pidfd


def open_process(state: State) -> int:
    """Returns a pidfd of a container's first process, surely of that one; -1 when it does not live."""
    if state.status == Status.STOPPED:
        return -1
    try:
        pidfd = pidfd_open(state.pid)
    except ProcessLookupError:
        return -1
    # The number may have been given to another process before the pidfd was there, not afterwards.
    if start_ticks(state.pid) == state.start_ticks:
        return pidfd
    os.close(pidfd)
    return -1


def _hooks_value(hooks: Hooks) -> dict[str, Any]:
    if not hooks.poststart and not hooks.poststop:
        return {}
    from wherry.runtime.serialize import serialize_hooks

    return serialize_hooks(Hooks(poststart=hooks.poststart, poststop=hooks.poststop))


def _hooks(value: Any) -> Hooks:
    if not value:
        return Hooks()
    from wherry.runtime.config import parse_hooks_object
    from wherry.runtime.reader import Reader

    return parse_hooks_object(Reader(value, "hooks", FILE))


def oci_state(state: State, *, status: str = "") -> dict[str, Any]:
    """Returns the state as the specification has it, for hooks and for ``wherry runtime state``.

    Source: Runtime Specification 1.2.0, runtime.md, "State"; schema/state-schema.json.

    Args:
        state: the container.
        status: a word for it that only the caller knows.
    """
    word = status or state.status
    return {
        "ociVersion": OCI_VERSION,
        "id": state.container_id,
        "status": word,
        "pid": 0 if word == Status.STOPPED else state.pid,
        "bundle": state.bundle,
        "annotations": dict(state.annotations),
    }


def note_groups(directory: str, path: str) -> None:
    """Leaves word of control groups that are about to be made."""
    fd = os.open(
        f"{directory}/{GROUPS_FILE}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        os.write(fd, os.fsencode(path))
    finally:
        os.close(fd)


def remove_noted_groups(directory: str) -> None:
    """Removes the groups that `note_groups` told of, with all that is in them; does nothing when there is no word.

    Raises:
        Timeout: a process in them does not die.
    """
    try:
        fd = os.open(f"{directory}/{GROUPS_FILE}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        path = os.fsdecode(os.read(fd, _MAX_PATH_BYTES))
    finally:
        os.close(fd)
    if path:
        try:
            Cgroup.open(path).remove()
        except NotFound:
            pass
    os.unlink(f"{directory}/{GROUPS_FILE}")


def boot_id(proc: str = "/proc") -> str:
    """Returns the name that the kernel gave itself when it booted."""
    return _read(f"{proc}/sys/kernel/random/boot_id").decode("ascii").strip()


def start_ticks(pid: int, proc: str = "/proc") -> int | None:
    """Returns when a process began, in clock ticks since boot; None when there is none, or only its exit status."""
    try:
        fields = _read(f"{proc}/{pid}/stat").rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STAT_STATE] in (b"Z", b"X") else int(fields[_STAT_START_TIME])


def _read(path: str) -> bytes:
    """Returns what is in a file, a part of it that is more than allowed when there is too much."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _READ_BYTES)
        while len(data) <= _MAX_BYTES and (more := os.read(fd, _READ_BYTES)):
            data += more
        return data
    finally:
        os.close(fd)
