"""Containers on disk: where everything lies, which lock guards what, and how a container is found again.

::

    <root>/                         lives through reboots
      containers/<id>/              0700, appears and goes by rename
        config.json                 ContainerConfig; written once, durably
        last.json                   LastRun; durable at the end of a run, lazily written at its start
        upper/ work/ rootfs/        the overlay; `rootfs` is a mount point in its own mount namespace only
        log/container.log[.N]       what it printed
      containers/.new-* .rm-*       half made, half removed: garbage whenever the engine lock is free
      names/<name> -> <id>          the index of names; a dangling link is a free name
      images/ volumes/              see rootfs.py and volumes.py

    <run>/ = <run_root>/<8 hex of the root's path>/     may be cleared by a reboot
      engine.lock                   held for creating and for removing containers, and around images/
      network.lock networks/        see network.py
      c/<id>.lock                   held for starting, recovering and removing one container
      supervisor.sock supervisor.lock supervisor.log    see supervisor.py
      limbo                         see limbo.py
      c/<id>/life.lock              held by whoever has the life of the container in hand; then the exit status
      c/<id>/life.sock              where a command in the foreground listens
      c/<id>/run.json               RunState; written by that process alone
      c/<id>/unfinished             beginnings of lines that are not in the log yet
      c/<id>/stop                   there when somebody asked for the end: no restart
      c/<id>/paused                 there while its processes are frozen; see pausing.py
      c/<id>/etc/ runtime/          generated /etc files; the runtime's own state

A container runs if and only if its ``life.lock`` is held: by the command that started it, then by the supervisor and
the keeper, which share it, so that it outlives either. A ``run.json`` without a holder is what both or a power cut
leave; whoever meets it first takes the container's lock and cleans up
(``Engine.recover``). Locks are taken in the order engine, container, network. Not promised: that `last.json` of
a container with `rm` is durable, as the container is gone after a reboot anyway.
"""

from __future__ import annotations

import fcntl
import os
import time
from _thread import get_ident

from wherry.core import jsonio
from wherry.core.durable import fsync_dir, make_dirs, map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput, NoSpace, NotFound
from wherry.core.lock import file_lock
from wherry.core.sha256 import sha256_hex
from wherry.engine.records import LastRun, RunState, last_from, last_value, run_from, run_value
from wherry.engine.removing import remove_tree
from wherry.engine.signals import SIGKILL
from wherry.engine.spec import ContainerConfig
from wherry.engine.telling import tell
from wherry.spec.values import decode_value, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    Place = str | os.PathLike[str]

MAX_STATE_BYTES = 4 * 1024 * 1024
_ID_CHARS = 64
MIN_ID_PREFIX = 1
LOCK_TIMEOUT_S = 60.0
STOP_FILE, KILL_FILE = "stop", "kill"
"""The wish for a container's end. That for SIGKILL is a file of its own, so that a stop at the same time is no
weaker one in its place."""
_PROBE_S = 0.1
LIFE_LOCK = "life.lock"
SOCKET = "supervisor.sock"
"""Below the run folder: where the supervisor listens."""
LIFE_SOCKET = "life.sock"
"""In a container's: where the command that has it in the foreground does."""


class Paths:
    """The places of one engine root, as text."""

    def __init__(self, root: Place, run_root: Place) -> None:
        self.root = os.fspath(root)
        self.run_root = os.fspath(run_root)
        self.tag = sha256_hex(os.fsencode(os.path.realpath(self.root)))[:8]
        """Names this engine root in the kernel's tables: bridge, nftables table, cgroups."""
        self.run = f"{self.run_root}/{self.tag}"
        self.containers = f"{self.root}/containers"
        self.names = f"{self.root}/names"
        self.images = f"{self.root}/images"
        self.volumes = f"{self.root}/volumes"
        self.running = f"{self.run}/c"

    def make(self) -> None:
        """Makes the folders that are not there yet."""
        if os.path.isdir(self.running) and os.path.isdir(self.names):
            return
        for path, mode in ((self.containers, 0o710), (self.names, 0o755), (self.images, 0o700), (self.volumes, 0o711)):
            make_dirs(path, mode=mode)
        make_dirs(self.running, mode=0o711)

    def container(self, container_id: str) -> str:
        """Returns a container's folder below the root."""
        return f"{self.containers}/{container_id}"

    def run_dir(self, container_id: str) -> str:
        """Returns a container's folder for state that a reboot may clear."""
        return f"{self.running}/{container_id}"

    def engine_lock(self) -> file_lock:
        """Returns the engine lock, as a context manager."""
        return file_lock(f"{self.run}/engine.lock", timeout_s=LOCK_TIMEOUT_S, what="the engine")


def write_lazily(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replaces a file in one step, but leaves it to the kernel when the bytes reach the disk.

    Raises:
        NotFound: its folder is gone.
        WherryError: it cannot be written.
    """
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.{os.getpid()}-{get_ident()}.tmp"  # threads of one process write the same file
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except FileNotFoundError as error:
        raise NotFound("cannot write: its folder is gone", where=path) from error
    except OSError as error:
        unlink(temporary)
        raise map_os_error(error, "cannot write", where=path) from error


def write_new(path: str, data: bytes) -> None:
    """Writes a file that is not there yet, in a folder that nobody sees yet."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def unlink(path: str) -> None:
    """Removes a file, which may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read_bytes(path: str) -> bytes | None:
    """Returns what a file of state holds, `MAX_STATE_BYTES` and one more at most; None when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        return file.read(min(size, MAX_STATE_BYTES) + 1) or b""


class container_lock:  # noqa: N801 a context manager, read as a noun
    """Holds the lock of one container; gives False when `wait` is off and somebody else holds it.

    The lock's file goes with the container, so the holder checks that its file is still the one at the path.
    """

    def __init__(self, paths: Paths, container_id: str, *, wait: bool = True) -> None:
        self._paths, self._id, self._wait = paths, container_id, wait
        self._path = f"{paths.running}/{container_id}.lock"
        self._fd = -1

    def __enter__(self) -> bool:
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if self._wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            try:
                same = os.stat(self._path).st_ino == os.fstat(fd).st_ino
            except FileNotFoundError:
                same = False
            if same:
                self._fd = fd
                return True
            os.close(fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            self._paths.make()  # a boot has cleared the run root
            return os.open(self._path, flags, 0o600)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._fd < 0:
            return
        if not os.path.lexists(self._paths.container(self._id)):
            unlink(self._path)
        os.close(self._fd)
        self._fd = -1


def take_life_lock(paths: Paths, container_id: str) -> int | None:
    """Takes the lock that says "this container runs"; None when somebody has it.

    Returns:
        The descriptor that holds it; whoever it is handed to, or a copy of it, holds the lock too.
    """
    fd = os.open(
        f"{paths.run_dir(container_id)}/{LIFE_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    deadline = time.monotonic() + _PROBE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # somebody who only looks holds it for an instant
            if time.monotonic() < deadline:
                time.sleep(_PROBE_S / 20)
                continue
            os.close(fd)
            return None
        os.ftruncate(fd, 0)
        return fd


def is_kept(paths: Paths, container_id: str) -> bool:
    """Tells whether a container is kept: it runs, is being started, or is about to be started again."""
    try:
        fd = os.open(f"{paths.run_dir(container_id)}/{LIFE_LOCK}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return lock_is_held(fd)
    finally:
        os.close(fd)


def lock_is_held(fd: int) -> bool:
    """Tells whether another process holds the lock of an open ``life.lock``."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def is_lost(paths: Paths, container_id: str) -> bool:
    """Tells whether a run was begun and neither goes on nor was cleaned up: who kept it was killed.

    ``etc/`` is the first that is made for a run and the last that is removed.
    """
    return os.path.lexists(f"{paths.run_dir(container_id)}/etc") and not is_kept(paths, container_id)


def read_config(paths: Paths, container_id: str) -> ContainerConfig:
    """Reads a container's config.

    Raises:
        NotFound: there is no such container.
    """
    path = f"{paths.container(container_id)}/config.json"
    data = read_bytes(path)
    if data is None:
        raise NotFound(f"no container {container_id[:12]}", hint="`wherry ps -a` lists them")
    return decode_value(ContainerConfig, jsonio.loads(data, where=path, max_bytes=MAX_STATE_BYTES), where=path)


def read_run(paths: Paths, container_id: str) -> RunState | None:
    """Reads what is so of a container that is kept; None when there is nothing."""
    path = f"{paths.run_dir(container_id)}/run.json"
    data = read_bytes(path)
    return None if data is None else run_from(jsonio.loads(data, where=path, max_bytes=MAX_STATE_BYTES), path)


def write_run(paths: Paths, container_id: str, state: RunState) -> None:
    """Writes what is so of a container that is kept."""
    write_lazily(f"{paths.run_dir(container_id)}/run.json", jsonio.compact(run_value(state)))


def read_last(paths: Paths, container_id: str) -> LastRun | None:
    """Reads how the last run went; None when there was none, or when a power cut ate the record."""
    path = f"{paths.container(container_id)}/last.json"
    data = read_bytes(path)
    try:
        return None if data is None else last_from(jsonio.loads(data, where=path, max_bytes=MAX_STATE_BYTES), path)
    except InvalidInput:
        return None


def write_last(paths: Paths, container_id: str, last: LastRun, *, durably: bool) -> None:
    """Records how a run went; on a full disk in the place of the record that is there, so that nothing is needed.

    Raises:
        NoSpace: there is no record yet, and no room for one.
    """
    path = f"{paths.container(container_id)}/last.json"
    data = jsonio.compact(last_value(last))
    try:
        if durably:
            write_file(path, data, mode=0o600)
        else:
            write_lazily(path, data)
    except NoSpace:
        if not os.path.exists(path):
            raise
        _overwrite(path, data)


def _overwrite(path: str, data: bytes) -> None:
    """Writes over a file in its own blocks; a power cut in the middle leaves something that is not read."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise map_os_error(error, "cannot write", where=path) from error


def add_container(paths: Paths, config: ContainerConfig) -> None:
    """Makes a container's folder and its name, durably unless it removes itself.

    Raises:
        Conflict: the name is taken.
    """
    durably = not config.spec.rm
    with paths.engine_lock():
        holder = name_holder(paths, config.name)
        if holder is not None:
            raise Conflict(
                f"the name {config.name!r} is taken by container {holder[:12]}",
                hint=f"remove it (`wherry rm {config.name}`) or choose another --name",
            )
        remove_garbage(paths)
        new = f"{paths.containers}/.new-{config.id}"
        try:
            os.mkdir(new, 0o700)
            for name in ("upper", "work", "rootfs", "log"):
                os.mkdir(f"{new}/{name}", 0o755 if name in ("upper", "rootfs") else 0o700)
            data = jsonio.compact(encode(config))
            if durably:
                write_file(f"{new}/config.json", data, mode=0o600)
            else:
                write_new(f"{new}/config.json", data)
            os.rename(new, paths.container(config.id))
            link = f"{paths.names}/{config.name}"
            unlink(link)
            os.symlink(config.id, link)
            if durably:
                fsync_dir(paths.containers)
                fsync_dir(paths.names)
        except OSError as error:
            raise map_os_error(error, "cannot make the container's folder", where=paths.containers) from error


def write_stop(
    paths: Paths, container_id: str, *, signal_number: int, timeout_s: float | None, event: str = ""
) -> None:
    """Leaves the wish for the container's end where its keeper looks.

    Args:
        paths: of the engine root.
        container_id: whose.
        signal_number: sent to it.
        timeout_s: after which it gets SIGKILL; None: never.
        event: ``stop``: to be told as well when it has ended so.
    """
    data = jsonio.compact({"signal": signal_number, "timeout_s": timeout_s, "event": event})
    write_lazily(f"{paths.run_dir(container_id)}/{KILL_FILE if signal_number == SIGKILL else STOP_FILE}", data)


def read_stop(paths: Paths, container_id: str) -> dict[str, Any] | None:
    """Reads the wish for the container's end; None when there is none."""
    found: dict[str, Any] | None = None
    for name in (KILL_FILE, STOP_FILE):
        data = read_bytes(f"{paths.run_dir(container_id)}/{name}")
        if data is not None:
            wish: dict[str, Any] = jsonio.loads(data, max_bytes=MAX_STATE_BYTES)
            found = wish if found is None else {**found, "event": found["event"] or wish["event"]}
    return found


def forget_stop(paths: Paths, container_id: str) -> None:
    """Takes the wish back."""
    for name in (STOP_FILE, KILL_FILE):
        unlink(f"{paths.run_dir(container_id)}/{name}")


def finish_run(paths: Paths, container_id: str) -> None:
    """Removes what a run left below the run root, but for the lock, which its holder still needs."""
    folder = paths.run_dir(container_id)
    for name in ("run.json", STOP_FILE, KILL_FILE, LIFE_SOCKET, "unfinished", "paused"):
        unlink(f"{folder}/{name}")
    for name in ("runtime", "etc"):
        remove_tree(f"{folder}/{name}")


def drop_container(paths: Paths, container_id: str, name: str) -> None:
    """Removes a container's folders and its name; the caller holds the container's lock, and nothing runs."""
    folder = paths.container(container_id)
    doomed = f"{paths.containers}/.rm-{container_id}"
    link = f"{paths.names}/{name}"
    try:
        if os.readlink(link) == container_id:
            os.unlink(link)
    except OSError:
        pass  # the name went before, in a removal that was cut short
    try:
        os.rename(folder, doomed)
    except FileNotFoundError:
        pass
    remove_tree(doomed)
    remove_tree(paths.run_dir(container_id))


def remove_container(paths: Paths, config: ContainerConfig) -> None:
    """Removes a container's folders, its name and its anonymous volumes; the caller holds the container's lock."""
    drop_container(paths, config.id, config.name)
    for name in config.anonymous_volumes:
        remove_tree(f"{paths.volumes}/{name}")
    tell(paths, config, "destroy")


def remove_garbage(paths: Paths) -> None:
    """Removes what was half made or half removed; the caller holds the engine lock."""
    for name in os.listdir(paths.containers):
        if name.startswith((".new-", ".rm-")):
            remove_tree(f"{paths.containers}/{name}")


def name_holder(paths: Paths, name: str) -> str | None:
    """Returns the id of the container of that name."""
    try:
        container_id = os.readlink(f"{paths.names}/{name}")
    except OSError:
        return None
    return container_id if os.path.exists(f"{paths.container(container_id)}/config.json") else None


def all_ids(paths: Paths) -> list[str]:
    """Returns the id of every container."""
    try:
        return sorted(name for name in os.listdir(paths.containers) if not name.startswith("."))
    except FileNotFoundError:
        return []


def find(paths: Paths, text: str) -> str:
    """Returns the id that a name, an id or the beginning of one means.

    Raises:
        NotFound: there is none.
        InvalidInput: the beginning fits several.
    """
    if not text or "/" in text or "\0" in text or text.startswith("."):
        raise NotFound(f"no container {text!r}", hint="`wherry ps -a` lists them")
    holder = name_holder(paths, text)
    if holder is not None:
        return holder
    if len(text) == _ID_CHARS and os.path.isdir(paths.container(text)):
        return text
    found = [container_id for container_id in all_ids(paths) if container_id.startswith(text)]
    if len(found) > 1:
        raise InvalidInput(f"{text!r} begins {len(found)} container ids", hint="write more of the id")
    if not found:
        raise NotFound(f"no container {text!r}", hint="`wherry ps -a` lists them")
    return found[0]
