"""The way of a command to the supervisor: started when it is not there, asked, and asked again when it dies over it."""

from __future__ import annotations

import fcntl
import os
import sys

from wherry.core import jsonio, trace
from wherry.core.errors import Timeout, WherryError
from wherry.engine import wire
from wherry.engine.keeper import CHANNEL_FD, ENVIRONMENT, command
from wherry.engine.state import LIFE_SOCKET, SOCKET, Paths
from wherry.linux import packets
from wherry.linux.process import close_from, set_child_subreaper
from wherry.linux.readonly import execute_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping
    from typing import Any

_TRIES = 8
"""How often a request is made anew when the supervisor dies over it."""


def connect(paths: Paths, container_id: str, *, foreground: bool) -> socket | None:
    """Returns a connection with whoever keeps a container; None when nobody answers the door."""
    path = f"{paths.run_dir(container_id)}/{LIFE_SOCKET}" if foreground else f"{paths.run}/{SOCKET}"
    try:
        return packets.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def connect_supervisor(paths: Paths, *, stay: bool = False) -> socket:
    """Returns a connection with the supervisor, which is started when there is none.

    Args:
        paths: of the engine root.
        stay: whether one that is started here stays when it has nothing to do.
    """
    path = f"{paths.run}/{SOCKET}"
    try:
        return packets.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    lock = os.open(f"{paths.run}/supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return packets.connect(path)  # somebody else started it meanwhile
        except FileNotFoundError:
            pass
        except ConnectionRefusedError:
            os.unlink(path)
        listener = packets.listen(path)
        try:
            end = packets.connect(path)
            _start_keeper(paths, listener.fileno(), stay=stay)
            return end
        finally:
            listener.close()
    finally:
        os.close(lock)


def _start_keeper(paths: Paths, listener_fd: int, *, stay: bool) -> None:
    """Executes a keeper that has nothing of this process but the socket to listen at.

    Nothing happens between fork and exec that could wait for a lock of another thread.
    """
    args = _keeper(paths, stay=stay)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.chdir("/")
            os.umask(0o022)
            os.dup2(listener_fd, CHANNEL_FD)
            os.set_inheritable(CHANNEL_FD, True)
            for fd in (0, 1, 2):
                os.dup2(null, fd, inheritable=True)
            close_from(CHANNEL_FD + 1)
            set_child_subreaper()  # outlives the exec
            execute_interpreter(args, ENVIRONMENT)
        finally:
            os._exit(127)
    os.close(null)
    os.waitpid(child, 0)


def _keeper(paths: Paths, *, stay: bool) -> list[str]:
    """Returns the command line of a keeper."""
    place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    options = [paths.root, paths.run_root]
    if stay:
        options.append("stay")
    if trace.text:
        options.append(f"trace={trace.text}")
    return command(sys.executable, place, "wherry.engine.keeper", *options)


def ask(end: socket, request: Mapping[str, Any], fds: Mapping[str, int] | None = None) -> dict[str, Any] | int | None:
    """Makes a request, and returns what comes back.

    Args:
        end: the connection.
        request: the request.
        fds: descriptors that go along, by name.

    Returns:
        The answer, or the exit status of a container that has ended; None when the other side died over it.

    Raises:
        WherryError: the one that the other side met.
        Timeout: the connection has a time limit.
    """
    try:
        items = list((fds or {}).items())
        for first in range(0, len(items), packets.MAX_FDS):
            part = items[first : first + packets.MAX_FDS]
            packets.send(end, wire.FDS + "\n".join(name for name, _ in part).encode(), [fd for _, fd in part])
        packets.send(end, wire.REQUEST + jsonio.compact(request))
        return answer(end)
    except (BrokenPipeError, ConnectionResetError):
        return None


def answer(end: socket) -> dict[str, Any] | int | None:
    """Waits for an answer, as `ask` does."""
    try:
        data, _ = packets.receive(end, wire.PACKET_BYTES)
    except TimeoutError:
        raise Timeout("no answer in time") from None
    except ConnectionResetError:
        return None
    kind, rest = data[:1], data[1:]
    if kind == wire.ERROR:
        raise wire.load_error(rest)
    if kind == wire.EXIT:
        return int(wire.EXIT_STATUS.unpack(rest)[0])
    if kind == wire.ANSWER:
        found: dict[str, Any] = jsonio.loads(rest)
        return found
    return None


def ask_supervisor(paths: Paths, request: Mapping[str, Any], fds: Mapping[str, int]) -> dict[str, Any]:
    """Makes a request to the supervisor, which is started when there is none; again when it dies over it.

    Raises:
        WherryError: the one that it met.
    """
    for _ in range(_TRIES):
        end = connect_supervisor(paths)
        try:
            found = ask(end, request, fds)
        finally:
            end.close()
        if isinstance(found, dict):
            return found
    raise WherryError("the supervisor dies over and over", hint="look at `dmesg` for an out-of-memory kill")


def run_supervisor_here(paths: Paths, *, notify: str = "") -> None:
    """Becomes the keeper of a supervisor that stays, for an init system: this process is executed anew.

    Args:
        paths: of the engine root.
        notify: the address of a socket that is told when commands can connect: systemd's NOTIFY_SOCKET.

    Raises:
        WherryError: there is one already.
    """
    paths.make()
    lock = os.open(f"{paths.run}/supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    path = f"{paths.run}/{SOCKET}"
    try:
        packets.connect(path).close()
        raise WherryError("there is a supervisor already", where=path, hint="it serves this root")
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        os.unlink(path)
    listener = packets.listen(path)
    os.close(lock)  # whoever comes now connects
    os.dup2(listener.fileno(), CHANNEL_FD)
    os.set_inheritable(CHANNEL_FD, True)
    os.chdir("/")
    set_child_subreaper()
    if notify:
        _say_ready(notify)
    execute_interpreter(_keeper(paths, stay=True), ENVIRONMENT)


def _say_ready(address: str) -> None:
    """Tells an init system that commands can connect from now on: sd_notify(3)."""
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

    end = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        end.sendto(b"READY=1", f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        pass  # nobody listens
    finally:
        end.close()
