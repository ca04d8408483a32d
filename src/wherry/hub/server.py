"""Serving: the socket, uvicorn, the word that it is ready, and the end.

The socket is bound before anything else, so that a port in use is an error at once and port 0 has a number to tell. A
first SIGTERM or SIGINT ends event streams and lets requests finish; a second one ends at once.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from wherry.core.durable import write_file
from wherry.core.errors import Conflict, InvalidInput, NotPermitted, WherryError
from wherry.hub.app import make_app
from wherry.hub.context import HubSettings, open_hub
from wherry.hub.instance import Instance

GRACE_S = 10
"""How long requests may take to finish after the signal to end."""
KEEP_ALIVE_S = 75
MAX_CONNECTIONS = 20_000
MAX_OPEN_FILES = 2 * MAX_CONNECTIONS + 1000
"""Each connection has a descriptor, and perhaps a file of the repository."""
BACKLOG = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve a hub."""

    path: Path
    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: str = ""
    """Addresses whose ``X-Forwarded-For`` and ``-Proto`` are believed, comma-separated."""
    ready_file: Path | None = None
    settings: HubSettings = field(default_factory=HubSettings)


def serve(options: ServeOptions, *, tell: Callable[[str], None]) -> None:
    """Serves a hub until a signal ends it.

    Args:
        options: how.
        tell: called with the URL once requests are answered.

    Raises:
        NotFound: it is not a hub's folder.
        Locked: another process serves it.
        Conflict: the port is in use.
    """
    instance = Instance(path=options.path)
    instance.check()
    _allow_files()
    with instance.serving(), contextlib.closing(_bind(options.host, options.port)) as listener:
        hub = open_hub(options.path, options.settings)
        try:
            config = uvicorn.Config(
                make_app(hub),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
                limit_concurrency=MAX_CONNECTIONS,
                ssl_certfile=str(options.tls_cert) if options.tls_cert else None,
                ssl_keyfile=str(options.tls_key) if options.tls_key else None,
                proxy_headers=bool(options.trusted_proxies),
                forwarded_allow_ips=options.trusted_proxies or None,
            )
            try:
                config.load()
            except (OSError, ValueError) as error:
                raise InvalidInput(f"cannot use the TLS certificate or key: {error}", where=options.tls_cert) from error
            _Server(config, lambda: _ready(options, listener, tell), hub.broker.close).run(sockets=[listener])
        finally:
            hub.close()


def _allow_files() -> None:
    """Raises the limit of open files as far as may be: every device that listens has one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ready(options: ServeOptions, listener: socket.socket, tell: Callable[[str], None]) -> None:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 compared, not bound
        host = "127.0.0.1"
    url = f"{'https' if options.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    if options.ready_file is not None:
        write_file(options.ready_file, f"{url}\n".encode())
    tell(url)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"cannot listen: {error.strerror or error}", where=f"{host}:{port}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _bind_error(error, f"{host}:{port}") from error
    return listener


def _bind_error(error: OSError, where: str) -> WherryError:
    import errno

    if error.errno == errno.EADDRINUSE:
        return Conflict("the port is in use", where=where, hint="stop what listens there, or choose another --listen")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted("may not listen", where=where, hint="choose a port from 1024 on, or run as root")
    return InvalidInput(f"cannot listen: {error.strerror}", where=where)


class _Server(uvicorn.Server):
    """uvicorn, which tells when it is ready, ends event streams first, and returns from a signal instead of dying."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready, self._on_end = on_ready, on_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._end) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        logging.getLogger("wherry.hub").debug("signal %d: ending", number)
        self.handle_exit(number, frame)
