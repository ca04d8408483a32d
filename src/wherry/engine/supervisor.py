"""The supervisor: one process for all detached containers of an engine root.

::

    keeper ──▶ supervisor ──▶ container, container ...
      │ holds duplicates of all that the containers hang on, and starts the next supervisor when this one dies

    <run>/supervisor.sock    where commands connect; the keeper holds the socket too, so they can wait for the next one
    <run>/supervisor.lock    held shortly, by who makes that socket and by who takes it away
    <run>/limbo              see limbo.py

A command that needs it starts it (``calling.py``); it ends when its last container has ended and nobody is connected,
unless it was told to stay. It may be killed at any moment: the next one takes every container on from ``run.json`` and
the keeper's descriptors. When the keeper dies, this process becomes the keeper in its place, so that its children stay
its own, and a new supervisor is started by that.

SIGTERM ends every container by its own stop signal and time limit, as when the machine goes down, and then the
supervisor. Budget: under 15 MB with nothing to do, whatever the number of containers; so nothing heavy is imported.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys

from wherry.core import trace
from wherry.core.errors import InvalidInput, WherryError
from wherry.engine.keep import Keep
from wherry.engine.keeper import CHANNEL_FD, ENVIRONMENT, LISTENER, MAX_PACKET_BYTES, TAKE_OVER, command, interpreter
from wherry.engine.life import Life
from wherry.engine.limbo import Limbo
from wherry.engine.loop import GONE, Loop
from wherry.engine.serving import Client, Server
from wherry.engine.state import SOCKET, Paths, read_config, read_run
from wherry.linux import packets, readonly, usernamespace
from wherry.linux.process import set_child_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from _socket import socket
    from collections.abc import Mapping
    from typing import Any
else:
    import _signal

AGAIN = "again"
"""Says that it was tried already."""
_LIMBO_READ, _LIMBO_WRITE = "limbo/read", "limbo/write"
_IGNORED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGPIPE, _signal.SIGUSR1, _signal.SIGUSR2)


def main() -> None:
    """Supervises until there is nothing to do; ``sys.argv``: the package's place, root, run root, options."""
    root, run_root, *options = sys.argv[2:]
    if os.geteuid() == 0 and AGAIN not in options and not readonly.is_read_only():
        # the keeper does not have it either: the interpreter was replaced on the disk meanwhile
        args = command(sys.executable, sys.argv[1], "wherry.engine.supervisor", *sys.argv[2:], AGAIN)
        readonly.try_to_execute(args, ENVIRONMENT)
    for option in options:
        if option.startswith("trace="):
            trace.arm_by_text(option[6:])
    with open("/proc/self/comm", "wb") as comm:
        comm.write(b"wherry-supervisor"[:15])
    paths = Paths(root, run_root)
    if usernamespace.inside():
        from wherry.engine import home

        if os.path.isdir(f"{paths.run}/home"):
            home.write_down(paths)
    supervisor = Supervisor(paths, packets.from_fd(CHANNEL_FD), stay="stay" in options)
    gc.collect()
    gc.freeze()
    supervisor.run()


class HeldByKeeper(Keep):
    """The keeper, as a life sees it.

    Args:
        channel: to the keeper.
    """

    def __init__(self, channel: socket) -> None:
        self._channel = channel

    def hold(self, fds: Mapping[str, int]) -> None:
        """Hands duplicates to the keeper."""
        items = list(fds.items())
        for first in range(0, len(items), packets.MAX_FDS):
            part = items[first : first + packets.MAX_FDS]
            self._say(b"h" + "\n".join(name for name, _ in part).encode(), [fd for _, fd in part])

    def drop(self, prefix: str) -> None:
        """Has the keeper close those whose names begin so."""
        self._say(b"d" + prefix.encode())

    def remember(self, pid: int) -> None:
        """Has the keeper remember how a process ends, should it become its child."""
        self._say(b"w%d" % pid)

    def forget(self, pid: int) -> None:
        """Has the keeper forget it."""
        self._say(b"f%d" % pid)

    def status(self, pid: int) -> int | None:
        """Asks the keeper how a process ended."""
        self._say(b"s%d" % pid)
        try:
            data, _ = packets.receive(self._channel, 64)
        except OSError:
            return None
        return int(data[1:]) if data[1:] else None

    def done(self) -> None:
        """Tells the keeper that there is nothing to keep any more."""
        self._say(b"x")

    def _say(self, data: bytes, fds: list[int] | None = None) -> None:
        try:
            packets.send(self._channel, data, fds or ())
        except OSError:
            pass  # it is dead: the loop sees it, and this process takes its place


class Supervisor:
    """All detached containers of one engine root.

    Args:
        paths: of the root.
        channel: to the keeper.
        stay: whether to stay when there is nothing to do.
    """

    def __init__(self, paths: Paths, channel: socket, *, stay: bool) -> None:
        self._paths, self._channel, self._stay = paths, channel, stay
        self._options = [word for word in sys.argv[2:] if word != AGAIN]
        self._loop = Loop()
        self._keep = HeldByKeeper(channel)
        self._lives: dict[str, Life] = {}
        self._ending = False
        self._is_done = False
        self._set_signals()
        held = self._receive_table()
        self._listener = packets.from_fd(held.pop(LISTENER))
        if _LIMBO_READ not in held:
            held[_LIMBO_READ], held[_LIMBO_WRITE] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._keep.hold({name: held[name] for name in (_LIMBO_READ, _LIMBO_WRITE)})
        self._limbo_fds = {name: held.pop(name) for name in (_LIMBO_READ, _LIMBO_WRITE)}
        self._limbo = Limbo(self._limbo_fds[_LIMBO_READ], self._limbo_fds[_LIMBO_WRITE], f"{paths.run}/limbo")
        self._server = Server(
            self._loop, self._listener, self._lives, begin=self._on_begin, idle=self._look_whether_done
        )
        self._loop.watch(channel.fileno(), self._on_keeper)
        self._take_all_on(held)

    def _set_signals(self) -> None:
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        self._wake_fd, wake_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(wake_write_fd, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGTERM, lambda number, frame: None)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self._loop.watch(self._wake_fd, lambda _: self._on_sigterm())

    def _receive_table(self) -> dict[str, int]:
        held: dict[str, int] = {}
        while True:
            data, fds = packets.receive(self._channel, MAX_PACKET_BYTES)
            if data[:1] == b"t":
                held.update(zip(data[1:].decode().split("\n"), fds, strict=True))
            elif data[:1] == b"T":
                return held
            else:
                os._exit(1)  # the keeper died at once; nobody waits for us

    # --- lives

    def _take_all_on(self, held: dict[str, int]) -> None:
        """Goes on with what the supervisor before this one kept."""
        by_id: dict[str, dict[str, int]] = {}
        for name, fd in held.items():
            container_id, _, what = name.partition("/")
            by_id.setdefault(container_id, {})[what] = fd
        owner = self._limbo.owner()
        if owner and owner not in by_id:
            self._limbo.empty()
        for container_id in sorted(by_id, key=lambda item: item != owner):  # the limbo is emptied first
            self._take_one_on(container_id, by_id[container_id])

    def _take_one_on(self, container_id: str, held: dict[str, int]) -> None:
        trace.reach("engine.supervisor.taking")
        try:
            run = read_run(self._paths, container_id)
            life = None if run is None else self._new_life(container_id, run.store, held)
        except WherryError:
            run = life = None
        if run is None or life is None:
            # it was settled, and nobody told the keeper any more
            for fd in held.values():
                os.close(fd)
            if self._limbo.owner() == container_id:
                self._limbo.empty()
            self._keep.drop(f"{container_id}/")
            return
        life.take_on(run, held)

    def _new_life(self, container_id: str, store: str, held: dict[str, int]) -> Life:
        config = read_config(self._paths, container_id)
        if "lock" not in held:
            raise InvalidInput("a container without its lock", where=container_id)
        life = Life(
            self._loop,
            self._paths,
            config,
            store=store,
            lock_fd=held["lock"],
            port_fds=tuple(fd for name, fd in sorted(held.items()) if name.startswith("port")),
            keep=self._keep,
            limbo=self._limbo,
            detached=True,
            over=self._on_over,
        )
        self._lives[container_id] = life
        return life

    def _on_begin(self, request: dict[str, Any], fds: dict[str, int], client: Client) -> None:
        """Starts a container, or takes on one that ran in the foreground."""
        container_id = str(request.get("id"))
        life = self._lives.get(container_id)
        if life is not None and request["do"] == "start":  # asked again, as the supervisor before us died meanwhile
            for fd in fds.values():
                os.close(fd)
        else:
            try:
                life = self._new_life(container_id, str(request.get("store", "")), fds)
            except BaseException:
                for fd in fds.values():
                    os.close(fd)
                raise
            if request["do"] == "take-on":
                run = read_run(self._paths, container_id)
                if run is None:
                    raise InvalidInput("a container without a state", where=container_id)
                self._keep.hold({f"{container_id}/{name}": fd for name, fd in fds.items()})
                self._keep.remember(run.pid)
                life.take_on(run, fds)
            else:
                trace.reach("engine.supervisor.asked")
                life.start()
        if life.started:
            client.answer({})
        elif life.is_over:
            client.finish(0, life.failure)
        else:
            client.stay_with(life)

    def _on_over(self, life: Life) -> None:
        self._lives.pop(life.config.id, None)
        self._look_whether_done()

    # --- the end

    def _on_sigterm(self) -> None:
        os.read(self._wake_fd, 64)
        self._ending, self._stay = True, False
        for life in list(self._lives.values()):
            life.end()
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        """Ends when there is nothing to do; nobody who connects meanwhile is left without an answer."""
        if self._lives or self._stay or self._is_done or (self._server.clients and not self._ending):
            return
        lock = os.open(f"{self._paths.run}/supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._server.accept()
        if self._server.clients and not self._ending:
            os.close(lock)
            return
        for name in (SOCKET, "limbo"):
            try:
                os.unlink(f"{self._paths.run}/{name}")
            except FileNotFoundError:
                pass
        self._is_done = True
        self._keep.done()
        os.close(lock)

    def run(self) -> None:
        """Serves until there is nothing to do."""
        self._look_whether_done()
        while not self._is_done:
            self._loop.turn()
        os._exit(0)

    # --- the keeper's place

    def _on_keeper(self, events: int) -> None:
        if events & GONE:
            self._become_keeper()

    def _become_keeper(self) -> None:
        """Executes the keeper in this process, with everything that it must hold."""
        trace.reach("engine.supervisor.becoming")
        table = {LISTENER: self._listener.fileno(), **self._limbo_fds}
        pids = []
        for life in self._lives.values():
            table.update(life.held())
            if life.state.pid:
                pids.append(life.state.pid)
        lines = [f"{name} {fd}\n" for name, fd in table.items()] + [f"{pid}\n" for pid in pids]
        file = os.memfd_create("wherry-held", 0)
        os.write(file, "".join(lines).encode())
        for fd in table.values():
            os.set_inheritable(fd, True)
        set_child_subreaper()
        place = sys.argv[1]
        self._channel.close()
        os.dup2(file, CHANNEL_FD, inheritable=True)
        if file != CHANNEL_FD:
            os.close(file)
        args = command(sys.executable, place, "wherry.engine.keeper", TAKE_OVER, *self._options)
        os.execve(interpreter(), args, ENVIRONMENT)  # noqa: S606 the keeper
