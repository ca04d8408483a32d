"""netlink(7): messages, attributes, and a socket that sends many requests in one call.

A request is a value: what is asked for, and how to say so when the kernel refuses. `links`, `addresses`, `routes`
(rtnetlink(7)) and `nftables` make requests; a socket here sends them. That every step of a container's network goes
out in one or two calls, and that no program and no library is loaded for it, is why this is written by hand.

Source: netlink(7), include/uapi/linux/netlink.h of Linux 6.12.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import struct

from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unsupported, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

MAX_REPLY_BYTES = 1 << 18
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP = 0x1, 0x4, 0x8, 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")


class Request:
    """One message to the kernel.

    Args:
        kind: the message's type.
        flags: ``NLM_F_*`` beside ``NLM_F_REQUEST``.
        body: what follows the header.
        what: what is asked for, as in "cannot ...", for errors.
        missing_ok: that the thing is not there is no error: for removals.
    """

    __slots__ = ("body", "flags", "kind", "missing_ok", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str, *, missing_ok: bool = False) -> None:
        self.kind, self.flags, self.body, self.what, self.missing_ok = kind, flags, body, what, missing_ok


class NetlinkSocket:
    """A netlink socket in one network namespace, used as a context manager.

    Args:
        protocol: ``NETLINK_*``.
        netns_fd: an open ``/proc/PID/ns/net``; None means this process's own. The socket stays in the
            namespace that it was made in, so that only its making has to enter there.
    """

    def __init__(self, protocol: int, netns_fd: int | None = None) -> None:
        self._sequence = 0
        if netns_fd is None:
            self._socket = _open(protocol)
            return
        with_namespace(netns_fd, lambda: setattr(self, "_socket", _open(protocol)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Returns the socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def do(self, *requests: Request) -> list[list[tuple[int, bytes]]]:
        """Sends requests in one call, which the kernel works off one after the other, and reads all answers.

        Args:
            *requests: none of them a list (`dump`): the kernel answers one list at a time.

        Returns:
            For each request the messages of its answer, (type, body).

        Raises:
            WherryError: the first that failed; those after it were tried nevertheless.
        """
        if not requests:
            return []
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(
            b"".join(
                pack_message(request.kind, request.flags | NLM_F_REQUEST | NLM_F_ACK, first + index, request.body)
                for index, request in enumerate(requests)
            )
        )
        return self._answers(requests, first)

    def _answers(self, requests: Sequence[Request], first: int) -> list[list[tuple[int, bytes]]]:
        answers: list[list[tuple[int, bytes]]] = [[] for _ in requests]
        failure: WherryError | None = None
        waiting = len(requests)
        while waiting:
            for number, kind, payload in messages(self._receive()):
                index = number - first
                if not 0 <= index < len(requests):
                    continue  # what is left of an answer that an error cut short
                if kind != NLMSG_ERROR:
                    answers[index].append((kind, payload))
                    continue
                waiting -= 1
                code = -int(_S32.unpack_from(payload)[0])
                request = requests[index]
                if code and not (request.missing_ok and code in (errno.ENODEV, errno.ENOENT)):
                    failure = failure or error_of(code, request.what)
        if failure is not None:
            raise failure
        return answers

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        """Sends one request for a list, and returns its messages."""
        self._sequence += 1
        sequence = self._sequence
        self._socket.send(
            pack_message(request.kind, request.flags | NLM_F_REQUEST | NLM_F_DUMP, sequence, request.body)
        )
        found: list[tuple[int, bytes]] = []
        while True:
            for number, kind, payload in messages(self._receive()):
                if number != sequence:
                    continue
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    code = -int(_S32.unpack_from(payload)[0])
                    if code in (0, errno.ENOENT) or (request.missing_ok and code == errno.ENODEV):
                        return found
                    raise error_of(code, request.what)
                found.append((kind, payload))

    def _receive(self) -> bytes:
        return self._socket.recv(MAX_REPLY_BYTES)


class RouteSocket(NetlinkSocket):
    """A socket for links, addresses and routes."""

    def __init__(self, netns_fd: int | None = None) -> None:
        super().__init__(_NETLINK_ROUTE, netns_fd)

    def __enter__(self) -> RouteSocket:
        return self


class NetfilterSocket(NetlinkSocket):
    """A socket for nftables (`wherry.linux.nftables`)."""

    def __init__(self, netns_fd: int | None = None) -> None:
        super().__init__(_NETLINK_NETFILTER, netns_fd)

    def __enter__(self) -> NetfilterSocket:
        return self

    def commit(self, requests: Sequence[Request]) -> None:
        """Sends requests between the marks of a transaction: all of them happen, or none.

        Raises:
            WherryError: the first that failed.
        """
        from wherry.linux.nftables import batch_begin, batch_end

        begin, end = batch_begin(), batch_end()
        first = self._sequence + 2
        parts = [pack_message(begin.kind, NLM_F_REQUEST, first - 1, begin.body)]
        for index, request in enumerate(requests):
            flags = request.flags | NLM_F_REQUEST | NLM_F_ACK
            parts.append(pack_message(request.kind, flags, first + index, request.body))
        self._sequence = first + len(requests)
        parts.append(pack_message(end.kind, NLM_F_REQUEST, self._sequence, end.body))
        data = b"".join(parts)
        if len(data) > (1 << 17):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(data))
        self._socket.send(data)
        self._committed(requests, first)

    def _committed(self, requests: Sequence[Request], first: int) -> None:
        waiting = len(requests)
        failure: WherryError | None = None
        while waiting:
            for number, kind, payload in messages(self._receive()):
                index = number - first
                if kind != NLMSG_ERROR or number < first - 1:
                    continue
                code = -int(_S32.unpack_from(payload)[0])
                if not 0 <= index < len(requests):
                    raise error_of(code, "change the nftables rules")  # the marks are answered only when refused
                waiting -= 1
                if code:
                    failure = failure or error_of(code, requests[index].what)
        if failure is not None:
            raise failure


def with_namespace(netns_fd: int, work: Callable[[], object]) -> None:
    """Calls a function without arguments in another network namespace, and comes back.

    Args:
        netns_fd: an open ``/proc/PID/ns/net``.
        work: the function.
    """
    from wherry.linux.namespaces import CLONE_NEWNET, setns

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(netns_fd, CLONE_NEWNET)
        try:
            work()
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def _open(protocol: int) -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise error_of(error.errno or 0, "speak to the kernel's network") from error


def error_of(code: int, what: str) -> WherryError:
    """Returns the error for what the kernel answered to a request."""
    reason = f"cannot {what}: {os.strerror(code)}"
    if code in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
        return NotFound(reason)
    if code in (errno.EEXIST, errno.EBUSY, errno.EADDRINUSE):
        return Conflict(reason)
    if code in (errno.EPERM, errno.EACCES):
        return NotPermitted(reason, hint="CAP_NET_ADMIN is needed")
    if code in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return Unsupported(reason, hint="the kernel lacks a part of its network; see `wherry doctor`")
    if code in (errno.EINVAL, errno.ERANGE):
        return InvalidInput(reason)
    return WherryError(reason)


def pack_message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Returns a message with its header, padded to the next multiple of four."""
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, kind, flags, sequence, 0) + body + bytes(-size % 4)


def attribute(kind: int, data: bytes) -> bytes:
    """Returns an attribute, padded to the next multiple of four."""
    size = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """Returns an attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def u32(kind: int, value: int) -> bytes:
    """Returns an attribute that holds a number in the machine's byte order, as rtnetlink wants it."""
    return attribute(kind, _U32.pack(value))


def be32(kind: int, value: int) -> bytes:
    """Returns an attribute that holds a number in network byte order, as nftables wants it."""
    return attribute(kind, value.to_bytes(4, "big", signed=value < 0))


def text(kind: int, value: str) -> bytes:
    """Returns an attribute that holds a text with its final NUL."""
    return attribute(kind, os.fsencode(value) + b"\0")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Gives the attributes in `data`, (type, data), without the flags in the type's two upper bits."""
    place, end = 0, len(data)
    while end - place >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data, place)
        if size < _ATTRIBUTE.size or size > end - place:
            return
        yield kind & _NLA_TYPE_MASK, data[place + _ATTRIBUTE.size : place + size]
        place += size + -size % 4


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Gives the messages in `data`: (sequence number, type, body)."""
    place, end = 0, len(data)
    while end - place >= _HEADER.size:
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, place)
        if size < _HEADER.size or size > end - place:
            return
        yield sequence, kind, data[place + _HEADER.size : place + size]
        place += size + -size % 4


def number(data: bytes | None) -> int:
    """Returns the number in an attribute of rtnetlink; 0 when the attribute is not there."""
    return int(_U32.unpack_from(data)[0]) if data else 0
