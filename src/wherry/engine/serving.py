"""What commands ask of whoever keeps containers: the supervisor, or a command that has one in the foreground.

Requests (``wire.REQUEST``), each with ``do`` and mostly ``id``:

===========  =============================================================================================
``start``    start a container that was prepared: ``store``; descriptors ``lock``, ``port0`` ...; answered when
             its command runs, or with the error, after all is cleaned up
``take-on``  go on with one that runs: its descriptors; answered at once
``look``     somebody left a wish for the end; answered at once
``changed``  its config was changed; answered at once
``wait``     answered by ``wire.EXIT``
``attach``   answered at once, with whether it has a terminal; then streams go both ways, and ``wire.EXIT`` at the end
``ping``     answered at once, with the number of containers
===========  =============================================================================================

A client that does not take what is sent to it is dropped when `MAX_BACKLOG_BYTES` wait for it: no client can hold a
container up. Only processes of our own user are listened to (SO_PEERCRED).
"""

from __future__ import annotations

import os

from wherry.core import jsonio
from wherry.core.errors import InvalidInput, NotFound, WherryError
from wherry.engine import wire
from wherry.engine.keep import Sink
from wherry.engine.loop import GONE, IN, OUT
from wherry.linux import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from wherry.engine.life import Life
    from wherry.engine.loop import Loop

MAX_BACKLOG_BYTES = 1 << 20
MAX_REQUEST_FDS = 4096
_DROPPED = b"\r\nwherry: you were too slow and were dropped; `wherry logs` has all of it\r\n"


class Server:
    """Answers the clients of some lives.

    Args:
        loop: what it waits on.
        listener: where clients come in; None: there are none yet.
        lives: by the containers' ids.
        begin: starts a life, or takes one on; called with the request and its descriptors by name.
        idle: called when a client has gone.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket,
        lives: dict[str, Life],
        *,
        begin: Callable[[dict[str, Any], dict[str, int], Client], None] | None = None,
        idle: Callable[[], None] | None = None,
    ) -> None:
        self.loop, self._listener, self.lives = loop, listener, lives
        self.begin = begin
        self._idle = idle
        self.clients: list[Client] = []
        loop.watch(listener.fileno(), lambda _: self.accept())

    def accept(self) -> None:
        """Lets in who waits at the door."""
        while (end := packets.accept(self._listener)) is not None:
            if packets.peer(end)[1] == os.geteuid():
                self.clients.append(Client(self, end))
            else:
                end.close()

    def gone(self, client: Client) -> None:
        """Forgets a client."""
        if client in self.clients:
            self.clients.remove(client)
        if self._idle is not None:
            self._idle()

    def close(self) -> None:
        """Lets nobody in any more, and lets go of those who are there."""
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        for client in list(self.clients):
            client.close()


class Client(Sink):
    """One connection.

    Args:
        server: that it came to.
        end: the socket, which does not block.
    """

    def __init__(self, server: Server, end: socket) -> None:
        self._server, self._end = server, end
        self._loop = server.loop
        self._fds: dict[str, int] = {}
        self._outbox: list[bytes] = []
        self._backlog_bytes = 0
        self._life: Life | None = None
        self._streams = False
        self._ending = False
        self._gives_input = False
        self._watch()

    # --- to the client

    def send(self, stream: str, data: bytes) -> None:
        """Sends what the container printed, now or when there is room."""
        if self._streams and not self._ending:
            kind = wire.STDOUT if stream == "stdout" else wire.STDERR
            if self._backlog_bytes + len(data) > MAX_BACKLOG_BYTES:
                self._put(wire.STDERR + _DROPPED)
                self._put(wire.ERROR + wire.dump_error(WherryError("dropped: too slow")))
                self._end_after_outbox()
            else:
                self._put(kind + data)

    def answer(self, value: dict[str, Any]) -> None:
        """Answers a request."""
        self._put(wire.ANSWER + jsonio.compact(value))

    def refuse(self, error: WherryError) -> None:
        """Answers a request with an error."""
        self._put(wire.ERROR + wire.dump_error(error))

    def finish(self, exit_code: int, failure: WherryError | None) -> None:
        """Tells the end of the container, or why it did not begin."""
        if failure is not None:
            self.refuse(failure)
        else:
            self._put(wire.EXIT + wire.EXIT_STATUS.pack(exit_code))
        self._life = None
        self._end_after_outbox()

    def take_more(self) -> None:
        """Reads again: the container has taken what was there."""
        self._watch()

    def _end_after_outbox(self) -> None:
        self._ending = True
        if not self._outbox:
            self.close()

    def _put(self, packet: bytes) -> None:
        self._outbox.append(packet)
        self._backlog_bytes += len(packet)
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            try:
                packets.send(self._end, self._outbox[0])
            except BlockingIOError:
                break
            except OSError:
                self._outbox.clear()
                self._backlog_bytes = 0
                break  # reading tells that it is gone
            self._backlog_bytes -= len(self._outbox.pop(0))
        if self._ending and not self._outbox:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        if self._end.fileno() < 0:
            return
        reading = self._life is None or not self._gives_input or self._life.flow.takes_input
        self._loop.watch(self._end.fileno(), self._on_ready, (IN if reading else 0) | (OUT if self._outbox else 0))

    # --- from the client

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & (IN | GONE) and self._end.fileno() >= 0:
            try:
                packet, fds = packets.receive(self._end, wire.PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet, fds = b"", []
            if not packet:
                self.close()
                return
            try:
                self._on_packet(packet[:1], packet[1:], fds)
            except WherryError as error:
                self.refuse(error)

    def _on_packet(self, kind: bytes, data: bytes, fds: list[int]) -> None:
        if kind == wire.FDS:
            names = data.decode().split("\n")
            if len(names) != len(fds) or len(self._fds) + len(fds) > MAX_REQUEST_FDS:
                for fd in fds:
                    os.close(fd)
                raise InvalidInput("names and descriptors do not fit")
            self._fds.update(zip(names, fds, strict=True))
        elif kind == wire.REQUEST:
            request = jsonio.loads(data)
            if not isinstance(request, dict):
                raise InvalidInput("not a request")
            self._on_request(request)
        elif self._life is not None and self._gives_input:
            if kind == wire.STDIN:
                self._life.flow.feed(data)
                self._watch()
            elif kind == wire.WINDOW and len(data) == wire.WINDOW_SIZE.size:
                self._life.flow.resize(*wire.WINDOW_SIZE.unpack(data))
            # the end of its input is not that of the container's: others may come and type

    def _on_request(self, request: dict[str, Any]) -> None:
        do, container_id = request.get("do"), request.get("id")
        if do == "ping":
            self.answer({"containers": len(self._server.lives)})
        elif do in ("start", "take-on") and self._server.begin is not None:
            fds, self._fds = self._fds, {}
            self._server.begin(request, fds, self)
        else:
            life = self._server.lives.get(str(container_id))
            if life is None:
                raise NotFound("the container is not kept here", where=container_id)
            if do == "look":
                life.look()
                self.answer({})
            elif do == "changed":
                life.reload()
                self.answer({})
            elif do == "wait":
                self.stay_with(life)
            elif do == "attach":
                self.answer({"tty": life.config.spec.tty, "stdin": life.config.spec.stdin_open})
                self._streams, self._gives_input = True, bool(request.get("stdin"))
                self.stay_with(life)
            else:
                raise InvalidInput(f"not a request: {do!r}")

    def stay_with(self, life: Life) -> None:
        """Has this client told of the life's end."""
        self._life = life
        life.flow.sinks.append(self)

    def leave(self, life: Life) -> None:
        """Tells this client no more of a life."""
        if self in life.flow.sinks:
            life.flow.sinks.remove(self)
        self._life = None

    def close(self) -> None:
        """Lets go of the client."""
        if self._end.fileno() < 0:
            return
        if self._life is not None:
            self.leave(self._life)
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        self._loop.forget(self._end.fileno())
        self._end.close()
        self._server.gone(self)
