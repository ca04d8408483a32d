"""One connection to the endpoint: HTTP/1.1 by h11, requests one after another, each within its limits.

A client that says nothing, or too slowly, or too much, is let go: the head of a request has a size and a time, a body
has a least rate, and what is sent must be taken in time. An answer that cannot be finished ends the connection, so that
nobody takes a part for the whole.

Source: RFC 9112.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

from wherry.core.errors import WherryError
from wherry.image.serving.messages import Answer, Code, Gone, Refused, Request, Stream
from wherry.image.serving.registry import Registry

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_QUERY_FIELDS = 20
MAX_REQUESTS = 10_000
"""On one connection."""
HEAD_TIMEOUT_S = 15
IDLE_TIMEOUT_S = 60
"""Between two requests."""
PIECE_TIMEOUT_S = 60
"""For a piece that is sent, or the next bytes of a body."""
MIN_RATE_BYTES = 1024
"""Bytes of a body in a second, on average, after `PIECE_TIMEOUT_S`."""
MAX_LEFT_BYTES = 1024 * 1024
"""Of a body that nobody wanted; more ends the connection."""
LINGER_S = 2

_READ_BYTES = 256 * 1024
_SEND_BYTES = 512 * 1024


class Connection:
    """One connection.

    Args:
        sock: the socket, connected.
        address: of the client.
        registry: answers.
        context: of TLS; None: none is spoken.
        log: told one line for each request.
        stopping: tells whether the endpoint is about to end.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        registry: Registry,
        *,
        context: ssl.SSLContext | None = None,
        log: Callable[[str], None] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._socket, self._address, self._registry = sock, address, registry
        self._context, self._log, self._stopping = context, log, stopping
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.idle = True
        """Whether no request is being answered."""

    def serve(self) -> None:
        """Answers requests until the connection ends."""
        try:
            if self._context is not None:
                self._socket.settimeout(HEAD_TIMEOUT_S)
                self._socket = self._context.wrap_socket(self._socket, server_side=True)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(MAX_REQUESTS):
                if not self._serve_one():
                    break
        except Gone:
            with suppress(OSError):  # what is on its way to a slow client is not waited for
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
        except OSError:
            self._socket.close()  # nobody is there to be told
        else:
            self._end()

    def _serve_one(self) -> bool:
        """Answers one request; tells whether another one may follow."""
        self.idle = True
        head = self._head()
        if head is None:
            return False
        self.idle = False
        started = time.monotonic()
        body = _Body(self)
        request = self._request(head, body)
        answer = request.answer() if isinstance(request, Refused) else self._registry.answer(request)
        unasked = self._http.they_are_waiting_for_100_continue  # for a body, which will not come now
        more = self._send(answer, head=head.method == b"HEAD") and not self._stopping() and not unasked
        if self._log is not None:
            took_ms = int((time.monotonic() - started) * 1000)
            line = f"{head.method.decode()} {head.target.decode()[:300]}"
            self._log(f"{self._address} {line} {answer.status} {answer.size} {took_ms}ms")
        if not more or not body.drain():
            return False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    # --- receiving

    def _head(self) -> h11.Request | None:
        """Returns the next request's head; None when there is none any more, or it cannot be understood."""
        deadline = time.monotonic() + IDLE_TIMEOUT_S
        if self._http.trailing_data[0]:
            deadline = time.monotonic() + HEAD_TIMEOUT_S
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                first = not self._http.trailing_data[0]
                self._receive(max(0.01, deadline - time.monotonic()))
                if first:
                    deadline = min(deadline, time.monotonic() + HEAD_TIMEOUT_S)
        except h11.RemoteProtocolError as error:
            self._refuse_protocol(error)
            return None
        except Gone:
            if not self._http.trailing_data[0]:
                return None  # at rest for too long: that is no fault
            raise
        return event if isinstance(event, h11.Request) else None

    def _receive(self, timeout_s: float) -> int:
        """Reads from the socket; returns how much there was."""
        self._socket.settimeout(timeout_s)
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise Gone from None
        self._http.receive_data(data)
        return len(data)

    def next_of_body(self) -> bytes:
        """Returns the next bytes of a body; none at its end.

        Raises:
            Gone: the client has gone before the end, or does not speak HTTP.
        """
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                if not self._receive(PIECE_TIMEOUT_S):
                    raise Gone
        except h11.RemoteProtocolError as error:
            raise Gone from error
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    @property
    def body_ended(self) -> bool:
        """Whether all of the body has been read."""
        return self._http.their_state is not h11.SEND_BODY

    def _request(self, head: h11.Request, body: _Body) -> Request | Refused:
        headers: dict[str, str] = {}
        size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
        if len(list(head.headers)) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            return Refused(Code.UNKNOWN, "too many headers, or too long ones", status=431)
        for raw_name, value in head.headers:
            name, text = raw_name.decode("ascii"), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        try:
            path, _, query = head.target.decode("ascii").partition("?")
            fields = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict"))
            path = unquote(path, errors="strict")
        except ValueError:
            return Refused(Code.UNKNOWN, "the path cannot be read", status=400)
        scheme = "http" if self._context is None else "https"
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=fields,
            headers=headers,
            body=body,
            address=self._address,
            origin=f"{scheme}://{headers.get('host', '')}",
        )

    # --- sending

    def _send(self, answer: Answer, *, head: bool) -> bool:
        """Sends an answer; tells whether all of it was sent."""
        bodyless = answer.status in (204, 304)
        headers = [(name, value) for name, value in answer.headers.items() if "\n" not in value and "\r" not in value]
        headers.append(("Date", formatdate(usegmt=True)))
        if not bodyless:
            headers.append(("Content-Length", str(answer.size)))
        if self._stopping():
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=answer.status, headers=headers, reason=_phrase(answer.status))
        data = self._http.send(response) or b""
        if not head and not bodyless and isinstance(answer.body, bytes):
            data += self._http.send(h11.Data(data=answer.body)) or b""
        self._write(data)
        if not head and not bodyless and isinstance(answer.body, Stream) and not self._stream(answer.body):
            return False
        self._write(self._http.send(h11.EndOfMessage()))
        return True

    def _stream(self, body: Stream) -> bool:
        left = body.size
        try:
            with body.open() as file:
                while left and (data := file.read(min(left, _SEND_BYTES))):
                    left -= len(data)
                    for part in self._http.send_with_data_passthrough(h11.Data(data=data)) or ():
                        self._write(part)
        except WherryError as error:
            if self._log is not None:
                self._log(f"{self._address} an answer broke off: {error}")
            return False
        return not left

    def _write(self, data: Any) -> None:
        if not data:
            return
        self._socket.settimeout(PIECE_TIMEOUT_S)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise Gone from None

    def _refuse_protocol(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            answer = Refused(Code.UNKNOWN, "not a request of HTTP/1.1 that is taken", status=status).answer()
            self._send(answer, head=False)

    def _end(self) -> None:
        """Closes the connection so that the last answer arrives, even where the client is still sending."""
        with suppress(OSError):
            self._socket.settimeout(LINGER_S)
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + LINGER_S
            while time.monotonic() < deadline and self._socket.recv(_READ_BYTES):
                pass
        self._socket.close()


class _Body:
    """The body of the request at hand, read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rest = memoryview(b"")
        self._started = time.monotonic()
        self._received = 0

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            if self._connection.body_ended:
                return b""
            self._rest = memoryview(self._connection.next_of_body())
            self._received += len(self._rest)
            elapsed = time.monotonic() - self._started - PIECE_TIMEOUT_S
            if elapsed > 0 and self._received < elapsed * MIN_RATE_BYTES:
                raise Gone
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def drain(self) -> bool:
        """Reads what nobody wanted, if that is little; tells whether all was read."""
        left = MAX_LEFT_BYTES
        while left > 0 and (data := self.read(left)):
            left -= len(data)
        return left > 0


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
