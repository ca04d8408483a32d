"""A command that is attached to a container which another process keeps (``wherry container attach``)."""

from __future__ import annotations

from wherry.core.errors import Conflict, NotFound, WherryError
from wherry.engine import calling, control, state, wire
from wherry.engine.loop import IN, OUT, Loop
from wherry.engine.person import Detached, DetachFilter, Keyboard, RawTerminal, Screen, failed, window_of
from wherry.engine.signals import SIGWINCH, Signals
from wherry.engine.telling import tell
from wherry.linux import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from wherry.engine.state import Paths


def attach(
    paths: Paths,
    container_id: str,
    *,
    stdin_fd: int | None,
    stdout_fd: int,
    stderr_fd: int,
    terminal_fd: int | None,
    detach_keys: bytes | None,
    forward: Callable[[int], None] | None,
) -> int:
    """Stays with a container that runs; see ``Engine.attach``.

    Args:
        forward: sends a signal to the container; None: this process's own are not taken in.
    """
    with Signals(forward=forward is not None) as signals:
        attached = Attached(
            paths,
            container_id,
            stdin_fd=stdin_fd,
            stdout_fd=stdout_fd,
            stderr_fd=stderr_fd,
            terminal_fd=terminal_fd,
            keys=wire.DETACH_KEYS if detach_keys is None else detach_keys,
        )
        return attached.run(signals, forward)


class Attached:
    """The connection of an attached command.

    Args:
        paths: of the engine root.
        container_id: the container.
        stdin_fd: where its input comes from; None gives none.
        stdout_fd: for output.
        stderr_fd: for errors.
        terminal_fd: the person's terminal, used if the container has one.
        keys: that leave the container running.
    """

    def __init__(
        self,
        paths: Paths,
        container_id: str,
        *,
        stdin_fd: int | None,
        stdout_fd: int,
        stderr_fd: int,
        terminal_fd: int | None,
        keys: bytes,
    ) -> None:
        self._paths, self._id = paths, container_id
        self._stdin_fd, self._terminal_fd = stdin_fd, terminal_fd
        self._loop = Loop()
        self._outbox: list[bytes] = []
        self._exit_code: int | None = None
        self._left = False
        self._error: WherryError | None = None
        self._unread = False
        self._screen = Screen(self._loop, stdout_fd, stderr_fd, self._watch, self._on_unread)
        self._keys = keys
        self._keyboard: Keyboard | None = None
        self._end = self._connect()

    def _connect(self) -> socket:
        end = control.connect_keeper(self._paths, self._id)
        try:
            found = None if end is None else calling.ask(end, self._request())
        except NotFound:
            found = None
        if end is None or not isinstance(found, dict):
            raise Conflict("the container does not run", where=self._id[:12])
        if not found["tty"]:
            self._terminal_fd = None
        if not found["stdin"]:
            self._stdin_fd = None
        end.setblocking(False)
        return end

    def _request(self) -> dict[str, object]:
        return {"do": "attach", "id": self._id, "stdin": self._stdin_fd is not None or self._terminal_fd is not None}

    def run(self, signals: Signals, forward: Callable[[int], None] | None) -> int:
        """Carries bytes until the container has ended.

        Args:
            signals: in force.
            forward: sends a signal to the container; None: this process's own are not taken in.

        Returns:
            The container's exit status.

        Raises:
            Detached: the person pressed the detach keys.
            WherryError: the connection broke off, or not all that it printed could be written.
            BrokenPipeError: nobody reads what is shown; the container goes on.
        """

        def on_signal(_: int) -> None:
            for number in signals.read():
                if number == SIGWINCH:
                    self._tell_size()
                elif forward is not None:
                    forward(number)

        self._tell_event("attach")
        self._tell_size()
        if self._stdin_fd is not None:
            keys = DetachFilter(self._keys) if self._terminal_fd is not None else None
            self._keyboard = Keyboard(self._loop, self._stdin_fd, feed=self._feed, leave=self._leave, keys=keys)
            self._keyboard.listen()
        self._loop.watch(signals.wake_fd, on_signal)
        self._watch()
        with RawTerminal(self._terminal_fd if self._stdin_fd is not None else None):
            while self._exit_code is None and not self._left and self._error is None and not self._unread:
                self._loop.turn()
        while self._screen.busy:
            self._loop.turn()
        self._loop.close()
        self._end.close()
        if self._unread:
            raise BrokenPipeError
        error = self._error or self._screen.lost
        if error is not None:
            raise error
        if self._exit_code is None:
            self._tell_event("detach")
            raise Detached
        return self._exit_code

    def _tell_event(self, action: str) -> None:
        try:
            tell(self._paths, state.read_config(self._paths, self._id), action)
        except NotFound:
            pass  # it has removed itself meanwhile

    def _tell_size(self) -> None:
        if self._terminal_fd is not None:
            self._put(wire.WINDOW + wire.WINDOW_SIZE.pack(*window_of(self._terminal_fd)))

    def _feed(self, data: bytes) -> None:
        self._put(wire.STDIN + data if data else wire.STDIN_END)
        if self._outbox and self._keyboard is not None:
            self._keyboard.listen(False)

    def _leave(self) -> None:
        self._left = True

    def _on_unread(self, _stream: str) -> None:
        self._unread = True

    def _put(self, packet: bytes) -> None:
        self._outbox.append(packet)
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            try:
                packets.send(self._end, self._outbox[0])
            except BlockingIOError:
                break
            except OSError:
                self._outbox.clear()  # reading tells that it is gone
                break
            del self._outbox[0]
        self._watch()

    def _watch(self) -> None:
        mask = (0 if self._screen.busy else IN) | (OUT if self._outbox else 0)
        self._loop.watch(self._end.fileno(), self._on_ready, mask)

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
            if not self._outbox and self._keyboard is not None:
                self._keyboard.listen()
        if self._screen.busy:
            return
        try:
            packet, _ = packets.receive(self._end, wire.PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        kind, data = packet[:1], packet[1:]
        if kind in (wire.STDOUT, wire.STDERR):
            self._screen.send("stdout" if kind == wire.STDOUT else "stderr", data)
            self._watch()
        elif kind == wire.EXIT:
            self._exit_code = int(wire.EXIT_STATUS.unpack(data)[0])
        elif kind == wire.ERROR:
            self._error = wire.load_error(data)
        elif not packet:
            self._reconnect()

    def _reconnect(self) -> None:
        """Goes on with the next supervisor when the one before was killed; what was printed meanwhile is in the log."""
        self._loop.forget(self._end.fileno())
        self._end.close()
        try:
            self._end = self._connect()
        except WherryError:
            last = state.read_last(self._paths, self._id)
            if last is not None and last.finished_s and last.exit_code is not None:
                self._exit_code = last.exit_code
                return
            self._error = failed("the container's supervisor was killed")
            return
        self._outbox.clear()
        self._tell_size()
        self._watch()
