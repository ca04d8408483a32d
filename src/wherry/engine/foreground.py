"""A container in the foreground: its life runs in the command's own process, and no other process of ours is there.

::

    command's process ──▶ container          log, health, restarts, terminal, signals: all in here
          │ Ctrl-P Ctrl-Q
          ▼
    supervisor                               gets every descriptor, and goes on

The first process of a container without a terminal is killed by the kernel when this process dies (PR_SET_PDEATHSIG);
one with a terminal cannot be, as nothing can take that back when it is left running, and is hung up instead. Either
way the next command cleans up (``control.recover``).
"""

from __future__ import annotations

import os

from wherry.core import trace
from wherry.core.errors import Conflict, WherryError
from wherry.engine import state
from wherry.engine.keep import Keep, Sink
from wherry.engine.life import Life
from wherry.engine.loop import Loop
from wherry.engine.person import Detached, DetachFilter, Keyboard, RawTerminal, Screen, window_of
from wherry.engine.serving import Server
from wherry.engine.signals import SIGINT, SIGKILL, SIGWINCH, Signals
from wherry.engine.state import LIFE_SOCKET, Paths
from wherry.engine.telling import tell
from wherry.engine.wire import DETACH_KEYS
from wherry.linux import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.engine.imagestore import ImageStore
    from wherry.engine.prepare import Prepared
    from wherry.engine.spec import ContainerConfig


def run_in_foreground(
    paths: Paths,
    store: ImageStore | None,
    container_id: str,
    *,
    stdin_fd: int | None,
    stdout_fd: int,
    stderr_fd: int,
    terminal_fd: int | None,
    detach_keys: bytes | None,
    preserved: tuple[int, ...] = (),
    signal_as: Callable[[int], int] | None = None,
) -> int:
    """Starts a container in this process, and stays with it; see ``Engine.start_attached``.

    With `signal_as` the container gets, of each signal that comes, the one that this returns.
    """
    from wherry.engine.starting import make_ready

    with Signals() as signals:
        with state.container_lock(paths, container_id):
            ready = make_ready(paths, store, container_id)
            if ready is None:
                raise Conflict(
                    f"container {container_id[:12]} runs already",
                    hint=f"see `wherry attach {container_id[:12]}`",
                )
            foreground = Foreground(
                paths, ready.config, store=ready.store, lock_fd=ready.lock_fd, port_fds=ready.port_fds
            )
            foreground.start(ready.prepared, stdout_fd, stderr_fd, preserved)
        keys = DETACH_KEYS if detach_keys is None else detach_keys
        return foreground.stay(signals, stdin_fd=stdin_fd, terminal_fd=terminal_fd, keys=keys, signal_as=signal_as)


class Foreground:
    """One container in the foreground.

    Args:
        paths: of the engine root.
        config: the container's.
        store: the folder of its image's store; "" with a root directory.
        lock_fd: holds its ``life.lock``; this object's from now on.
        port_fds: hold its published ports; this object's from now on.
    """

    def __init__(
        self, paths: Paths, config: ContainerConfig, *, store: str, lock_fd: int, port_fds: tuple[int, ...]
    ) -> None:
        self._paths, self._config, self._store = paths, config, store
        self._loop = Loop()
        self._exit_code = 0
        self._left = False
        self._life = Life(
            self._loop,
            paths,
            config,
            store=store,
            lock_fd=lock_fd,
            port_fds=port_fds,
            keep=Keep(),
            limbo=None,
            detached=False,
            parent_death_signal=0 if config.spec.tty else SIGKILL,
            over=lambda life: None,
        )

    def start(self, prepared: Prepared, stdout_fd: int, stderr_fd: int, preserved: tuple[int, ...] = ()) -> None:
        """Starts it; the caller holds the container's lock.

        Args:
            prepared: what is there for it.
            stdout_fd: for its output.
            stderr_fd: for its errors.
            preserved: descriptors that become 3 and up in it; they are closed here.

        Raises:
            WherryError: it could not be; all is cleaned up.
        """
        life = self._life
        path = f"{self._paths.run_dir(self._config.id)}/{LIFE_SOCKET}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self._server = Server(self._loop, packets.listen(path), {self._config.id: life})
        # as in any pipeline, a command whose output has no reader any more is to learn of it
        flow = life.flow
        self._screen = Screen(self._loop, stdout_fd, stderr_fd, flow.let_output_flow, flow.end_output)
        flow.sinks.append(self._screen)
        life.flow.sinks.append(_End(self._on_end))
        tell(self._paths, self._config, "attach")
        life.preserved = preserved
        life.start(prepared)
        for fd in preserved:
            os.close(fd)  # who waits for the end of a pipe waits for the container alone
        life.preserved = ()
        while not life.started and not life.is_over:
            self._loop.turn()
        if life.failure is not None:
            self._close()
            raise life.failure

    def _on_end(self, exit_code: int) -> None:
        self._exit_code = exit_code

    def stay(
        self,
        signals: Signals,
        *,
        stdin_fd: int | None,
        terminal_fd: int | None,
        keys: bytes = DETACH_KEYS,
        signal_as: Callable[[int], int] | None = None,
    ) -> int:
        """Stays with the container until it has ended.

        Args:
            signals: in force since before the start; what came is the container's.
            stdin_fd: where its input comes from; None: it has none.
            terminal_fd: the person's terminal when the container has one.
            keys: that leave the terminal and the container running.
            signal_as: see `run_in_foreground`.

        Returns:
            The exit status.

        Raises:
            Detached: the person left; the supervisor has the container.
            WherryError: not all that it printed could be written.
        """
        life, loop = self._life, self._loop
        keyboard: Keyboard | None = None
        if terminal_fd is not None:
            life.flow.resize(*window_of(terminal_fd))

        def feed(data: bytes) -> None:
            if data:
                life.flow.feed(data)
                if keyboard is not None and not life.flow.takes_input:
                    keyboard.listen(False)
            else:
                life.flow.end_input()

        if stdin_fd is not None:
            filtered = DetachFilter(keys) if terminal_fd is not None else None
            keyboard = Keyboard(loop, stdin_fd, feed=feed, leave=self._leave, keys=filtered)
            life.flow.sinks.append(_More(keyboard))
            keyboard.listen()
        elif not self._config.spec.tty:
            life.flow.end_input()

        impatience = Impatience()

        def on_signal(_: int) -> None:
            for number in signals.read():
                if signal_as is not None:
                    life.kill(signal_as(number))
                elif number != SIGWINCH:
                    life.kill(SIGKILL if number == SIGINT and impatience.again() else number)
                elif terminal_fd is not None:
                    life.flow.resize(*window_of(terminal_fd))

        loop.watch(signals.wake_fd, on_signal)
        on_signal(0)
        with RawTerminal(terminal_fd if stdin_fd is not None else None):
            while not life.is_over and not self._left:
                loop.turn()
        if self._left:
            tell(self._paths, self._config, "detach")
            self._hand_over()
            self._close()
            raise Detached
        self._close()
        if self._screen.lost is not None:
            raise self._screen.lost
        return self._exit_code

    def _leave(self) -> None:
        self._left = True

    def _hand_over(self) -> None:
        """Gives the container to the supervisor, which goes on with it."""
        life = self._life
        fds = life.hand_over()
        trace.reach("engine.foreground.leaving")
        own = {name.partition("/")[2]: fd for name, fd in fds.items()}
        from wherry.engine import calling

        calling.ask_supervisor(self._paths, {"do": "take-on", "id": self._config.id, "store": self._store}, own)
        trace.reach("engine.foreground.left")
        life.close_handed_over()

    def _close(self) -> None:
        self._server.close()
        try:
            os.unlink(f"{self._paths.run_dir(self._config.id)}/{LIFE_SOCKET}")
        except (FileNotFoundError, NotADirectoryError):
            pass
        self._loop.close()


class Impatience:
    """Counts Ctrl-C: a first process that takes no notice of SIGINT would otherwise leave a person with no way out.

    Only a terminal's count: a program may send as many signals as it likes.
    """

    LIMIT = 3

    def __init__(self) -> None:
        self._left = self.LIMIT if os.isatty(0) and os.isatty(2) else 0

    def again(self) -> bool:
        """Takes in one more; tells whether it was one too many."""
        if not self._left:
            return False
        self._left -= 1
        if self._left == 1:
            os.write(2, b"\nwherry: the command goes on; Ctrl-C once more kills it\n")
        return not self._left


class _End(Sink):
    """Takes in the exit status."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell

    def finish(self, exit_code: int, failure: WherryError | None) -> None:
        """Tells it."""
        self._tell(exit_code)


class _More(Sink):
    """Reads on when the container has room for input."""

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard

    def take_more(self) -> None:
        """Reads on."""
        self._keyboard.listen()
