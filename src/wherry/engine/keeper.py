"""The keeper: the supervisor's parent, which holds what must not die with it, and starts the next one.

It has a duplicate of every descriptor that a running container hangs on (its pidfd, the ends of its streams, the lock
that says that it runs, its ports) and of the socket that commands connect to; it is the reaper of its descendants
(PR_SET_CHILD_SUBREAPER, set by whoever executes it, as that outlives an exec), so the containers of a supervisor that
was killed become its children, and it remembers how they end. When it is killed itself, the supervisor executes it
anew in its own place (``supervisor.py``), so that its children stay its children, and it starts another supervisor.

One socket joins the two, packets of a letter and text; descriptors go along:

==============  =====  ===================================================================
to the keeper   ``h``  hold: names, one a line, and as many descriptors; a name that is held is replaced
                ``d``  drop every name that begins so
                ``w``  remember the exit status of this process id
                ``f``  forget it
                ``s``  what is it? The answer: ``s`` and the wait status, or ``s`` alone
                ``x``  the supervisor ends, and with it the keeper
to supervisor   ``t``  names and descriptors that are held
                ``T``  these were all
==============  =====  ===================================================================

Budget: it must be small, so it imports nothing but system modules and nothing of Wherry; 3 MB of its own.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

CHANNEL_FD = 3
"""Where a supervisor finds its end, and a keeper what it is given: the listening socket, or a take-over's table."""
TAKE_OVER = "take-over"
LISTENER = "listener"
"""The name of the socket that commands connect to."""
MAX_PACKET_BYTES = 64 * 1024
MAX_FDS = 200
_CALM_S = 5.0
"""A supervisor that lived that long is started again at once; else there is a pause, so that a defect does not spin."""
_MOST_PAUSE_S = 10.0
_FD_BYTES = 4
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""Of keeper and supervisor; nothing of the command that starts them."""
_IGNORED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGPIPE,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


def interpreter() -> str:
    """Returns what to execute for the next process: this interpreter by the mount that it was executed by.

    That mount is read-only and on no path (``linux/readonly.py``). An interpreter that was replaced on the disk
    meanwhile goes by its name.
    """
    try:
        same = os.path.samestat(os.stat("/proc/self/exe"), os.stat(sys.executable))
    except OSError:
        return sys.executable
    return "/proc/self/exe" if same else sys.executable


def command(python: str, place: str, module: str, *args: str) -> list[str]:
    """Returns the argument list of a bare interpreter that runs ``main`` of a module of this package.

    Args:
        python: the interpreter.
        place: the folder that the package ``wherry`` is in.
        module: its full name.
        args: for ``main``, as ``sys.argv[2:]``.
    """
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import main; main()"
    return [python, "-I", "-S", "-c", code, place, *args]


def main() -> None:
    """Keeps what it is given, until a supervisor says that it is done."""
    words = sys.argv[2:]
    keeper = Keeper(words[1:] if words[:1] == [TAKE_OVER] else words)
    if words[:1] == [TAKE_OVER]:
        keeper.take_over(CHANNEL_FD)
    else:
        keeper.held[LISTENER] = os.dup(CHANNEL_FD)
    os.close(CHANNEL_FD)
    keeper.run()


class Keeper:
    """What is held, and the supervisor that it is held for.

    Args:
        args: of each supervisor.
    """

    def __init__(self, args: list[str]) -> None:
        self._args = args
        self.held: dict[str, int] = {}
        self._statuses: dict[int, int | None] = {}
        """Of the processes that are to be remembered; None: not ended, as far as is known."""
        self._channel: socket | None = None
        self._supervisor = 0
        self._done = self._ending = False
        self._trace = [item for word in args if word.startswith("trace=") for item in word[6:].split(",")]
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        self._wake_fd, wake_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(wake_write_fd, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, _nothing)
        _signal.signal(_signal.SIGTERM, self._on_sigterm)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        with open("/proc/self/comm", "wb") as comm:
            comm.write(b"wherry-keeper")

    def take_over(self, table_fd: int) -> None:
        """Takes on what another keeper held: lines ``NAME FD`` and ``PID`` in a file."""
        with open(os.dup(table_fd), "rb") as file:
            file.seek(0)
            for line in file.read().decode().splitlines():
                name, _, fd = line.partition(" ")
                if fd:
                    os.set_inheritable(int(fd), False)
                    self.held[name] = int(fd)
                else:
                    self._statuses[int(name)] = None

    def run(self) -> None:
        """Starts supervisors, one after the other, until one is done."""
        self._reach("engine.keeper.began")
        pause_s = 0.0
        while not self._done:
            began_s = time.monotonic()
            self._start()
            self._serve()
            if time.monotonic() - began_s >= _CALM_S:
                pause_s = 0.0
            elif not self._done:
                self._pause(pause_s)
                pause_s = min(pause_s * 2 or 0.1, _MOST_PAUSE_S)

    def _start(self) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(theirs.fileno(), CHANNEL_FD, inheritable=True)
                # one that comes before the supervisor can take it in stays pending over the exec
                _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM,))
                args = command(sys.executable, sys.argv[1], "wherry.engine.supervisor", *self._args)
                os.execve(interpreter(), args, ENVIRONMENT)  # noqa: S606 the supervisor
            finally:
                os._exit(127)
        theirs.close()
        self._supervisor, self._channel = pid, ours
        items = list(self.held.items())
        try:
            for first in range(0, len(items), MAX_FDS):
                part = items[first : first + MAX_FDS]
                rights = b"".join(fd.to_bytes(_FD_BYTES, sys.byteorder) for _, fd in part)
                names = "\n".join(name for name, _ in part).encode()
                ours.sendmsg((b"t" + names,), ((SOL_SOCKET, SCM_RIGHTS, rights),), MSG_NOSIGNAL)
            ours.send(b"T", MSG_NOSIGNAL)
        except OSError:
            pass  # it is gone again: seen below
        if self._ending:
            os.kill(pid, _signal.SIGTERM)
        self._reach("engine.keeper.started")

    def _on_sigterm(self, number: int, frame: object) -> None:
        """Hands it on: an init system that ends its service tells the first process alone."""
        self._ending = True
        if self._supervisor:
            os.kill(self._supervisor, number)  # not reaped yet, so the number is still its own

    def _reach(self, point: str) -> None:
        """Is `core.trace.reach` for ``POINT=kill:FILE`` alone, as nothing of Wherry is imported here."""
        for item in self._trace:
            if item.startswith(f"{point}=kill:"):
                try:
                    os.unlink(item.partition(":")[2])
                except FileNotFoundError:
                    continue
                os.kill(os.getpid(), _signal.SIGKILL)

    def _serve(self) -> None:
        """Does what the supervisor asks for, until it has ended."""
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        if self._channel is not None:
            poller.register(self._channel.fileno(), select.POLLIN)
        while self._supervisor:
            for fd, _ in poller.poll():
                if fd == self._wake_fd:
                    self._reap()
                elif not self._on_packet():
                    poller.unregister(fd)
        if self._channel is not None:
            self._channel.setblocking(False)  # a child that it left may have its end still
            while self._on_packet():
                pass  # what it said last
            self._channel.close()
            self._channel = None

    def _on_packet(self) -> bool:
        """Serves one packet; returns whether more may come."""
        if self._channel is None:
            return False
        try:
            data, ancillary, _, _ = self._channel.recvmsg(
                MAX_PACKET_BYTES, CMSG_SPACE(MAX_FDS * _FD_BYTES), MSG_CMSG_CLOEXEC
            )
        except OSError:
            return False
        kind, text = data[:1], data[1:].decode()
        if kind == b"h":
            rights = b"".join(value for level, what, value in ancillary if (level, what) == (SOL_SOCKET, SCM_RIGHTS))
            for index, name in enumerate(text.split("\n")):
                self._drop(name)
                place = index * _FD_BYTES
                self.held[name] = int.from_bytes(rights[place : place + _FD_BYTES], sys.byteorder)
            self._reach("engine.keeper.held")
        elif kind == b"d":
            for name in [name for name in self.held if name.startswith(text)]:
                self._drop(name)
            self._reach("engine.keeper.dropped")
        elif kind == b"w":
            self._statuses[int(text)] = None
        elif kind == b"f":
            self._statuses.pop(int(text), None)
        elif kind == b"s":
            self._tell(int(text))
        elif kind == b"x":
            self._done = True
            self._reach("engine.keeper.done")
        return bool(data)

    def _drop(self, name: str) -> None:
        fd = self.held.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _tell(self, pid: int) -> None:
        self._reap()
        status = self._statuses.get(pid)
        if self._channel is not None:
            try:
                self._channel.send(b"s" if status is None else b"s%d" % status, MSG_NOSIGNAL)
            except OSError:
                pass  # it is gone: seen by the caller

    def _reap(self) -> None:
        """Takes in every child that has ended: the supervisor, containers that it left, orphans of theirs."""
        try:
            os.read(self._wake_fd, 512)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._supervisor:
                self._supervisor = 0
                self._reach("engine.keeper.reaped")
            elif pid in self._statuses:
                self._statuses[pid] = status

    def _pause(self, seconds: float) -> None:
        """Waits before the next start, and goes on reaping meanwhile."""
        until_s = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        while (left_s := until_s - time.monotonic()) > 0:
            if poller.poll(left_s * 1000):
                self._reap()


def _nothing(number: int, frame: object) -> None:
    """Is there so that the signal comes at all: it shows in the wake-up descriptor."""
