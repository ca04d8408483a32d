"""The network of a container without root: slirp4netns(1), a TCP/IP stack in a process of its own.

::

    life ── write end of a pipe ──▶ slirp4netns: ends when nobody has that end any more
                                      │ joins the container's network namespace, makes tap0 there
                                      └ listens on the host for each published port (asked by <run dir>/net.sock)

The keeper has the write end too, so the helper outlives a supervisor that is killed, and ends with the container's run
or with both of them. It is nobody's child here: whoever reaps orphans reaps it.

The container has 10.0.2.100; 10.0.2.2 is the way out, 10.0.2.3 a name server. The host's own loopback is out of reach.
Source: slirp4netns(1) of 1.2.0.
"""

from __future__ import annotations

import os

from wherry.core import jsonio
from wherry.core.errors import Conflict, InvalidInput, NotFound, ToolError
from wherry.engine.net.records import Lease
from wherry.linux.process import close_from
from wherry.linux.signals import SIG_SETMASK, pthread_sigmask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from wherry.spec.container import PortMapping

HELPER = "slirp4netns"
ADDRESS, GATEWAY, NAME_SERVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
INTERFACE = "tap0"
SOCKET, LOG = "net.sock", "net.log"
"""Below the container's folder for state."""
MTU = 65520
_SEARCH = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/usr/local/sbin")
_READY_FD, _EXIT_FD = 3, 4
_SPARE_FD = 10
_MAX_ANSWER_BYTES = 64 * 1024
_ANSWER_S = 10.0


def lease(names: tuple[str, ...], ports: tuple[PortMapping, ...]) -> Lease:
    """Returns what a container holds: the same addresses as every other, each on a network of its own."""
    return Lease(network=HELPER, ip=ADDRESS, interface=INTERFACE, names=names, ports=ports)


def find_helper() -> str:
    """Returns where slirp4netns is.

    Raises:
        NotFound: it is not there.
    """
    path = next((f"{place}/{HELPER}" for place in _SEARCH if os.access(f"{place}/{HELPER}", os.X_OK)), None)
    if path is None:
        raise NotFound(
            "a network without root needs slirp4netns, which is not there",
            hint="install slirp4netns, or use --network host or --network none",
        )
    return path


def start(run_dir: str, pid: int, ports: Sequence[PortMapping]) -> int:
    """Starts the helper for the network namespace of a process, and publishes ports.

    Args:
        run_dir: the container's folder for state.
        pid: the process.
        ports: with real numbers.

    Returns:
        A descriptor; the helper ends when it is closed, and every duplicate of it.

    Raises:
        ToolError: it does not start.
        Conflict: a port is in use.
    """
    program = find_helper()
    try:
        os.unlink(f"{run_dir}/{SOCKET}")
    except FileNotFoundError:
        pass
    ready, told = os.pipe2(os.O_CLOEXEC)
    end, line = os.pipe2(os.O_CLOEXEC)
    log = os.open(f"{run_dir}/{LOG}", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        child = os.fork()
        if child == 0:
            try:
                _become(program, run_dir, pid, told=told, end=end, log=log)
            finally:
                os._exit(127)
        os.close(told)
        told = -1
        os.waitpid(child, 0)
        if not os.read(ready, 1):
            raise ToolError(f"{HELPER} does not start: {_last_line(log)}", hint="see `wherry doctor`")
        for port in ports:
            _publish(run_dir, port)
    except BaseException:
        os.close(line)
        raise
    finally:
        for fd in (ready, told, end, log):
            if fd >= 0:
                os.close(fd)
    return line


def _become(program: str, run_dir: str, pid: int, *, told: int, end: int, log: int) -> NoReturn:
    """Executes the helper in a grandchild, which has nothing of ours but its ends of the pipes."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir(run_dir)  # a path of a socket is short: it is given relative to here
    null = os.open("/dev/null", os.O_RDWR)
    import fcntl

    spare = [fcntl.fcntl(fd, fcntl.F_DUPFD, _SPARE_FD) for fd in (null, log, log, told, end)]
    for target, fd in enumerate(spare):
        os.dup2(fd, target, inheritable=True)
    close_from(_EXIT_FD + 1)
    pthread_sigmask(SIG_SETMASK, ())
    options = ("--configure", f"--mtu={MTU}", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp")
    lines = (f"--ready-fd={_READY_FD}", f"--exit-fd={_EXIT_FD}", f"--api-socket={SOCKET}")
    os.execve(program, (HELPER, *options, *lines, str(pid), INTERFACE), {"PATH": ":".join(_SEARCH)})  # noqa: S606


def _last_line(log: int) -> str:
    text = os.pread(log, _MAX_ANSWER_BYTES, 0).decode(errors="replace").strip()
    return text.splitlines()[-1][:200] if text else "it says nothing"


def _publish(run_dir: str, port: PortMapping) -> None:
    arguments = {
        "proto": port.protocol,
        "host_addr": port.host_ip,
        "host_port": port.host_port,
        "guest_addr": ADDRESS,
        "guest_port": port.container_port,
    }
    answer = _ask(run_dir, {"execute": "add_hostfwd", "arguments": arguments})
    if "error" in answer:
        what = str(answer["error"].get("desc", "")) if isinstance(answer["error"], dict) else ""
        raise Conflict(
            f"cannot publish port {port.host_port}/{port.protocol} on {port.host_ip}: {what}",
            hint="is it in use? publish another host port",
        )


def _ask(run_dir: str, request: dict[str, object]) -> dict[str, object]:
    from _socket import AF_UNIX, SHUT_WR, SOCK_CLOEXEC, SOCK_STREAM, socket

    folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            line.settimeout(_ANSWER_S)
            line.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            line.sendall(jsonio.compact(request))
            line.shutdown(SHUT_WR)
            data = b""
            while len(data) < _MAX_ANSWER_BYTES and (piece := line.recv(4096)):
                data += piece
        finally:
            line.close()
    except OSError as error:
        raise ToolError(f"{HELPER} does not answer: {error.strerror or error}") from error
    finally:
        os.close(folder)
    found = jsonio.loads(data)
    if not isinstance(found, dict):
        raise InvalidInput(f"an answer of {HELPER} that is no object")
    return found
