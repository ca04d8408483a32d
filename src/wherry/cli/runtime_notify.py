"""What a service manager waits for, from inside a container: NOTIFY_SOCKET of ``create``, ``run`` and ``start``.

::

    service manager  <-- READY=1 --  this process  <-- READY=1 --  the container
    NOTIFY_SOCKET                    STATE/notify/notify           NOTIFY_SOCKET/notify (the directory, read-only)

The directory is bound into the container when that is made, at the path of the manager's own socket, as crun has it;
the socket in it is made by who starts the container, and stays until it is ready. Only that it is ready is handed on:
a container is not to tell the manager about other processes, nor to give it descriptors. A configuration that has a
NOTIFY_SOCKET in its environment is left as it is.
Source: sd_notify(3).
"""

from __future__ import annotations

import os
import select
import socket

from wherry.core.durable import map_os_error
from wherry.core.errors import Conflict
from wherry.core.value import replace
from wherry.linux.mount import fd_path
from wherry.runtime.create import unlink
from wherry.runtime.spec import Mount
from wherry.runtime.state import FILE, Status, load_state, open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.runtime.spec import Spec

VARIABLE = "NOTIFY_SOCKET"
FOLDER = "notify"
"""In the state directory; in it the socket, by the same name."""
_FOR_ABSTRACT = "/run/notify"
_MAX_BYTES = 4096
_MAX_AT_ONCE = 64
_READY = b"READY=1"


def place_of(address: str) -> str:
    """Returns the directory of the socket in a container; "" where the address cannot be used.

    Args:
        address: a path, or ``@`` and an abstract name.
    """
    if address.startswith("@") and len(address) > 1:
        return _FOR_ABSTRACT
    return address if address.startswith("/") and address.strip("/") and ".." not in address.split("/") else ""


def with_notify(spec: Spec, address: str, directory: str, warn: Callable[[str], None]) -> Spec:
    """Returns a container that has the directory of the socket and knows of it, and makes that directory.

    Args:
        spec: the container.
        address: the manager's.
        directory: where its state is, or will be.
        warn: told of an address that cannot be used.
    """
    if any(item.startswith(f"{VARIABLE}=") for item in spec.process.env) or os.path.lexists(f"{directory}/{FILE}"):
        return spec
    place = place_of(address)
    if not place:
        warn(f"{VARIABLE} is neither a path nor an abstract socket and is left out: {address!r}")
        return spec
    folder = f"{directory}/{FOLDER}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 whoever the process is in there comes by; the state directory is closed
    except OSError as error:
        raise map_os_error(error, "cannot make the directory of the notify socket", where=folder) from error
    options = ("bind", "ro", "nosuid", "nodev", "noexec")
    mount = Mount(destination=place, type="bind", source=folder, options=options)
    process = replace(spec.process, env=(*spec.process.env, f"{VARIABLE}={place}/{FOLDER}"))
    return replace(spec, mounts=(*spec.mounts, mount), process=process)


def forget(directory: str) -> None:
    """Removes the directory, if it is there, with what is in it: a container that may mount can have written there."""
    from wherry.engine.removing import remove_tree  # of any depth

    remove_tree(f"{directory}/{FOLDER}")


class Notify:
    """The socket that a container tells that it is ready.

    Args:
        address: the manager's.
        directory: of the container's state.
        warn: told when the manager cannot be reached.
    """

    def __init__(self, address: str, directory: str, warn: Callable[[str], None]) -> None:
        self._address = address
        self._warn = warn
        self._told = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        fd = os.open(f"{directory}/{FOLDER}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"{fd_path(fd)}/{FOLDER}"  # by the descriptor: a path of more than 107 bytes is no address
            unlink(path)
            self._socket.bind(path)
            os.chmod(path, 0o777)  # noqa: S103 whoever the process is in there may write
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """Returns the descriptor to wait for."""
        return self._socket.fileno()

    def take(self, *, main_pid: int = 0) -> bool:
        """Reads what has come, and tells the manager when the container is ready.

        Args:
            main_pid: of the service, where it is not this process.

        Returns:
            whether it is.
        """
        for _ in range(_MAX_AT_ONCE if not self._told else 0):
            try:
                data = self._socket.recv(_MAX_BYTES)
            except BlockingIOError:
                return False
            if _READY in data.split(b"\n"):
                self._tell((b"MAINPID=%d\n" % main_pid if main_pid else b"") + _READY)
                self._told = True
                break
        return self._told

    def wait(self, pid: int, pidfd: int) -> None:
        """Waits until the container is ready, or has ended, for a caller that does not stay."""
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        waiting.register(pidfd, select.POLLIN)
        ended = False
        while not self.take(main_pid=pid) and not ended:
            ended = any(fd == pidfd for fd, _ in waiting.poll())

    def close(self) -> None:
        """Takes no more messages."""
        self._socket.close()

    def _tell(self, message: bytes) -> None:
        folder, _, name = self._address.rpartition("/")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                if self._address.startswith("@"):
                    end.sendto(message, f"\0{self._address[1:]}")
                    return
                fd = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    end.sendto(message, f"{fd_path(fd)}/{name}")
                finally:
                    os.close(fd)
        except OSError as error:
            self._warn(f"the container is ready, and {VARIABLE} cannot be told: {error.strerror}: {self._address}")


def listening(address: str, directory: str, warn: Callable[[str], None]) -> Notify | None:
    """Returns the socket of a container that waits to be started; None when it was made without."""
    if not os.path.isdir(f"{directory}/{FOLDER}") or load_state(directory).status != Status.CREATED:
        return None
    return Notify(address, directory, warn)


def wait_detached(notify: Notify, directory: str) -> None:
    """Waits as `Notify.wait`, for a container that another process made."""
    try:
        state, pidfd = open_state(directory)
    except Conflict:
        return  # it has ended
    try:
        notify.wait(state.pid, pidfd)
    finally:
        os.close(pidfd)
