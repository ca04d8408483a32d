"""The server of a registry endpoint: sockets, a thread for each connection, the end. Everything it asks of the kernel
beyond that it gives up before the first request.

Budget: as many threads as connections, which are few: clients of a registry open some each. More than `MAX_CONNECTIONS`
wait in the kernel's queue.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import Conflict, InvalidInput
from wherry.image.serving.connection import Connection
from wherry.image.serving.registry import Registry
from wherry.linux import capabilities
from wherry.linux.process import set_no_new_privs
from wherry.store.format.objects import Mode

if TYPE_CHECKING:
    from wherry.store.repository import Repository

MAX_CONNECTIONS = 256
BACKLOG = 128
GRACE_S = 10
"""How long requests may take to finish after the signal to end."""
TIDY_EVERY_S = 60
_STACK_BYTES = 1024 * 1024

_FOR_OTHERS_FILES = ("DAC_READ_SEARCH",)
_FOR_BARE = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where and how to serve."""

    host: str = "127.0.0.1"
    port: int = 5000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ready_file: Path | None = None
    """Gets the endpoint's URL once it answers."""


class Server:
    """A server. It is bound once it is made; ``run`` answers until ``stop``.

    Args:
        registry: answers.
        options: where.
        log: told one line for each request; None: nobody is.

    Raises:
        Conflict: the address is in use, or not this machine's.
        InvalidInput: the certificate or the key is none.
    """

    def __init__(self, registry: Registry, options: ServeOptions, *, log: Callable[[str], None] | None = None) -> None:
        self._registry, self._options, self._log = registry, options, log
        self._context = _context(options)
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._connections: dict[Connection, socket.socket] = {}
        self._socket = _listen(options)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self) -> None:
        """Has ``run`` end; may be called from a signal's handler or another thread, more than once."""
        self._stopping.set()
        with suppress(OSError):
            os.write(self._wake_write, b"x")

    def run(self) -> None:
        """Answers until ``stop`` is called; requests then have some time to finish."""
        threading.stack_size(_STACK_BYTES)
        if self._options.ready_file is not None:
            write_file(self._options.ready_file, f"{self.url}\n".encode())
        poll = select.poll()
        for fd in (self._socket.fileno(), self._wake_read):
            poll.register(fd, select.POLLIN)
        tidied = time.monotonic()
        try:
            while not self._stopping.is_set():
                poll.poll(TIDY_EVERY_S * 1000)
                if time.monotonic() - tidied > TIDY_EVERY_S:
                    self._registry.tidy()
                    tidied = time.monotonic()
                if not self._stopping.is_set() and self._free.acquire(timeout=1):
                    self._accept()
        finally:
            self._end()

    def _accept(self) -> None:
        try:
            sock, address = self._socket.accept()
        except OSError:  # none there, gone already, or no descriptor left
            self._free.release()
            time.sleep(0.01)
            return
        connection = Connection(
            sock,
            str(address[0]),
            self._registry,
            context=self._context,
            log=self._log,
            stopping=self._stopping.is_set,
        )
        with self._lock:
            self._connections[connection] = sock
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            self._free.release()

    def _end(self) -> None:
        self._socket.close()
        deadline = time.monotonic() + GRACE_S
        while True:
            late = time.monotonic() > deadline
            with self._lock:
                for connection, sock in self._connections.items():
                    if connection.idle or late:
                        with suppress(OSError):
                            sock.shutdown(socket.SHUT_RDWR)
                busy = bool(self._connections)
            if not busy or late:
                break
            time.sleep(0.02)
        self._registry.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def give_up_rights(repo: Repository, *, push: bool) -> tuple[str, ...]:
    """Gives up every capability that reading, or writing, this repository does not need, and all new ones.

    To be called once the socket is bound and the key is read.

    Returns:
        The names of those that stay.
    """
    set_no_new_privs()
    wanted: tuple[str, ...] = ()
    if repo.mode is Mode.BARE or repo.path.stat().st_uid != os.geteuid():
        wanted = _FOR_OTHERS_FILES
    if push and wanted:
        wanted += _FOR_BARE if repo.mode is Mode.BARE else ("DAC_OVERRIDE",)
    has = capabilities.permitted()
    keep = capabilities.mask(wanted) & has
    with suppress(PermissionError):  # not allowed to: then there is nothing that it could regain either
        capabilities.drop_bounding(keep)
    capabilities.set_ambient(0)
    capabilities.set_process(effective=keep, permitted=keep, inheritable=0)
    return capabilities.names(keep)


def _listen(options: ServeOptions) -> socket.socket:
    where = f"{options.host}:{options.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            options.host or None, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        if error.errno in (13, 1):
            raise map_os_error(error, "cannot listen", where=where) from error
        raise Conflict(f"cannot listen: {error.strerror or error}", where=where, hint="choose with --listen") from error
    return sock


def _context(options: ServeOptions) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except ssl.SSLError as error:
        raise InvalidInput(f"not a certificate and its key: {error.reason}", where=options.tls_cert) from error
    except OSError as error:
        raise map_os_error(error, "cannot read the certificate or the key", where=options.tls_cert) from error
    return context
