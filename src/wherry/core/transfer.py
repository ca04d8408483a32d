"""Many downloads at once from one thread: libcurl's multi interface, through pycurl.

What a pull of a repository needs and a client for JSON does not: thousands of small files over few connections,
HTTP/2 with all of them in one, resumption by Range, client certificates, proxies, cookie files, a rate limit. libcurl
does that in C: 12,000 small files in a second on loopback, where urllib3 takes eight. ``core.http`` stays for the rest.

It never uses what the environment says about proxies: the caller does (``cli/`` reads it). It follows redirects to
http and https only, and libcurl keeps credentials from other hosts. A body is bounded before it is read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pycurl

from wherry.core.errors import HttpError, InvalidInput, NetworkError, NotFound, WherryError
from wherry.version import __version__

MAX_REDIRECTS = 8
MAX_HEADERS_BYTES = 64 * 1024
_BUFFER_BYTES = 256 * 1024
_LIMITED_BUFFER_BYTES = 16 * 1024
_LONGEST_NAP_S = 0.1
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch, OpenEmbedded
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
"""Where systems keep their certificate authorities; libcurl's own guess is that of the machine it was built on."""
_HTTPAUTH_BEARER = 1 << 6
"""CURLAUTH_BEARER of curl/curl.h; pycurl has no name for it."""
_TLS_CODES = frozenset({
    pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CIPHER, pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_PINNEDPUBKEYNOTMATCH,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How to speak to servers."""

    user_agent: str = f"wherry/{__version__}"
    headers: tuple[tuple[str, str], ...] = ()
    token: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer``."""
    ca_file: Path | None = None
    """The only certificate authorities to trust; None takes the system's."""
    client_cert: Path | None = None
    client_key: Path | None = None
    permissive: bool = False
    """Takes any certificate."""
    http2: bool = True
    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """By scheme of what is fetched; ``all`` for every one."""
    no_proxy: str = ""
    """Hosts that are reached directly, with commas between them."""
    cookie_file: Path | None = None
    """In Netscape's format."""
    timeout_s: float = 30.0
    """For connecting; and a transfer that is too slow for so long is given up."""
    low_speed_bytes_s: int = 1000
    """What is slower is too slow."""
    low_speed_time_s: int = 0
    """For how long, if not for `timeout_s`."""
    limit_rate_bytes_s: int = 0
    """Of all transfers together; 0: no limit."""
    files: bool = False
    """Whether ``file://`` may be read."""


SETTINGS = TransferSettings()


class Taker(Protocol):
    """Takes the pieces of a body."""

    def __call__(self, data: bytes, /) -> object:
        """Takes one piece; what it raises ends the transfer, and becomes its error."""


class Transfer:
    """One GET.

    Args:
        url: what.
        max_bytes: of the body that comes; more is an ``InvalidInput``.
        offset: from which byte on (RFC 9110, section 14.2).
        take: gets the body piece by piece; None: it is kept in `pieces`.
        headers: further headers of this request.
        want_headers: whether `headers` of the answer are kept.
        key: the caller's.

    After it has finished: `error` is None, or says why it failed; `status` is that of the answer, 0 for a file.
    """

    __slots__ = (
        "_caught",
        "answer_headers",
        "error",
        "headers",
        "key",
        "max_bytes",
        "offset",
        "pieces",
        "status",
        "take",
        "url",
        "want_headers",
    )

    def __init__(
        self,
        url: str,
        *,
        max_bytes: int,
        offset: int = 0,
        take: Taker | None = None,
        headers: tuple[str, ...] = (),
        want_headers: bool = False,
        key: Any = None,
    ) -> None:
        self.url = url
        self.max_bytes = max_bytes
        self.offset = offset
        self.take = take
        self.headers = headers
        self.want_headers = want_headers or bool(offset)
        self.key = key
        self.pieces: list[bytes] = []
        self.status = 0
        self.answer_headers: dict[str, str] = {}
        self.error: WherryError | None = None
        self._caught: WherryError | None = None

    @property
    def body(self) -> bytes:
        """The body, when nobody took it."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    def _guarded(self, data: bytes) -> int | None:
        """Hands a piece on; what the taker raises ends the transfer. Bodies of errors do not come here."""
        assert self.take is not None  # noqa: S101 only set then
        try:
            self.check_range()
            self.take(data)
        except WherryError as error:
            self._caught = error
            return -1
        return None

    def check_range(self) -> None:
        """Refuses an answer that does not begin where it was asked to.

        Raises:
            NoRange: it begins elsewhere.
        """
        if not self.offset or self.url.startswith("file:"):
            return
        expected = f"bytes {self.offset}-"
        if not self.answer_headers.get("content-range", "").startswith(expected):
            raise NoRange("the server does not resume where it was asked to", where=_shown(self.url))


class Transfers:
    """Runs many transfers in the calling thread; not to be used by several.

    Args:
        settings: how.
        parallel: how many at once; the others wait.
    """

    def __init__(self, settings: TransferSettings, *, parallel: int = 8) -> None:
        self._settings = settings
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, parallel)
        self._multi.setopt(pycurl.M_MAXCONNECTS, parallel * 2)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._parallel = parallel
        self._idle: list[Any] = []
        self._running: dict[Any, Transfer] = {}
        self._waiting: deque[Transfer] = deque()
        self._began_s = time.monotonic()
        self.bytes_received = 0
        self.requests = 0

    @property
    def active(self) -> int:
        """How many have been started and have not finished."""
        return len(self._running) + len(self._waiting)

    @property
    def room(self) -> int:
        """How many more may be started at once."""
        return self._parallel - self.active

    def start(self, transfer: Transfer) -> None:
        """Begins a transfer, when there is room; else it waits."""
        if len(self._running) >= self._parallel:
            self._waiting.append(transfer)
            return
        handle = self._idle.pop() if self._idle else self._make_handle()
        self._prepare(handle, transfer)
        self._running[handle] = transfer
        self.requests += 1
        self._multi.add_handle(handle)

    def wait(self, timeout_s: float = 1.0) -> list[Transfer]:
        """Works until something has finished, or for `timeout_s`.

        Returns:
            What has finished, well or not.
        """
        finished: list[Transfer] = []
        multi = self._multi
        multi.perform()
        self._collect(finished)
        if not finished and self._running and timeout_s > 0:
            multi.select(timeout_s)
            multi.perform()
            self._collect(finished)
        if self._settings.limit_rate_bytes_s:
            self._slow_down()
        return finished

    def abort(self, transfer: Transfer) -> None:
        """Gives one transfer up; nothing more is heard of it."""
        for handle, running in self._running.items():
            if running is transfer:
                del self._running[handle]
                self._multi.remove_handle(handle)
                self._idle.append(handle)
                return

    def fetch(self, transfer: Transfer) -> Transfer:
        """Runs one transfer to its end, while no other runs.

        Raises:
            WherryError: its error.
        """
        self.start(transfer)
        while transfer not in self.wait():
            pass
        if transfer.error is not None:
            raise transfer.error
        return transfer

    def cancel(self) -> None:
        """Gives up what still runs."""
        self._waiting.clear()
        for handle in list(self._running):
            self._multi.remove_handle(handle)
            self._idle.append(handle)
        self._running.clear()

    def close(self) -> None:
        """Gives up what still runs, and closes every connection."""
        self.cancel()
        for handle in self._idle:
            handle.close()
        self._idle.clear()
        self._multi.close()

    # --- within

    def _collect(self, finished: list[Transfer]) -> None:
        left = 1
        while left:
            left, well, failed = self._multi.info_read()
            for handle in well:
                finished.append(self._finish(handle, 0, ""))
            for handle, code, text in failed:
                finished.append(self._finish(handle, code, text))
        while finished and self._waiting and len(self._running) < self._parallel:
            self.start(self._waiting.popleft())

    def _finish(self, handle: Any, code: int, text: str) -> Transfer:
        transfer = self._running.pop(handle)
        self._multi.remove_handle(handle)
        self._idle.append(handle)
        transfer.status = handle.getinfo(pycurl.RESPONSE_CODE)
        self.bytes_received += int(handle.getinfo(pycurl.SIZE_DOWNLOAD_T))
        transfer.error = transfer._caught or self._error(transfer, code, text)
        if transfer.error is not None and transfer.take is None and transfer.status >= 400:
            transfer.pieces.clear()
        return transfer

    def _error(self, transfer: Transfer, code: int, text: str) -> WherryError | None:
        url = _shown(transfer.url)
        status = transfer.status
        if status >= 400:
            reason = _REASONS.get(status, "")
            return HttpError(f"the server answered {status}{f' {reason}' if reason else ''}", status=status, where=url)
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return InvalidInput(f"the answer exceeded maximum size of {transfer.max_bytes} bytes", where=url)
        if code in _NO_ADDRESS:
            return InvalidInput(f"not an address to fetch from: {text}", where=url, hint="use http or https")
        if code == pycurl.E_FILE_COULDNT_READ_FILE:
            return NotFound("no such file", where=url)
        if code:
            return _network_error(code, text, url)
        try:
            transfer.check_range()
        except NoRange as error:
            return error
        return None

    def _prepare(self, handle: Any, transfer: Transfer) -> None:
        handle.setopt(pycurl.URL, transfer.url)
        handle.setopt(pycurl.WRITEFUNCTION, transfer.pieces.append if transfer.take is None else transfer._guarded)
        handle.setopt(pycurl.FAILONERROR, transfer.take is not None)
        handle.setopt(pycurl.MAXFILESIZE_LARGE, max(1, transfer.max_bytes))
        if transfer.want_headers:
            handle.setopt(pycurl.HEADERFUNCTION, _header_reader(transfer))
        else:
            handle.unsetopt(pycurl.HEADERFUNCTION)
        if transfer.offset:
            handle.setopt(pycurl.RANGE, f"{transfer.offset}-")
        else:
            handle.unsetopt(pycurl.RANGE)
        headers = [f"{name}: {value}" for name, value in self._settings.headers]
        if headers or transfer.headers:
            handle.setopt(pycurl.HTTPHEADER, [*headers, *transfer.headers])
        else:
            handle.unsetopt(pycurl.HTTPHEADER)
        proxies = dict(self._settings.proxies)
        if proxies:
            scheme = transfer.url.partition(":")[0].lower()
            handle.setopt(pycurl.PROXY, proxies.get(scheme) or proxies.get("all", ""))

    def _make_handle(self) -> Any:
        settings = self._settings
        handle = pycurl.Curl()
        web = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
        options: list[tuple[int, Any]] = [
            (pycurl.NOSIGNAL, 1),
            (pycurl.NOPROGRESS, 1),
            (pycurl.FOLLOWLOCATION, 1),
            (pycurl.MAXREDIRS, MAX_REDIRECTS),
            (pycurl.PROTOCOLS, web | pycurl.PROTO_FILE if settings.files else web),
            (pycurl.REDIR_PROTOCOLS, web),
            (pycurl.USERAGENT, settings.user_agent),
            (pycurl.CONNECTTIMEOUT_MS, int(settings.timeout_s * 1000)),
            (pycurl.LOW_SPEED_LIMIT, 0 if settings.limit_rate_bytes_s else settings.low_speed_bytes_s),
            (pycurl.LOW_SPEED_TIME, settings.low_speed_time_s or max(1, int(settings.timeout_s))),
            (pycurl.BUFFERSIZE, _LIMITED_BUFFER_BYTES if settings.limit_rate_bytes_s else _BUFFER_BYTES),
            (pycurl.PROXY, ""),  # also keeps libcurl from reading the environment
            (pycurl.NOPROXY, settings.no_proxy),
            (pycurl.TCP_KEEPALIVE, 1),
        ]
        if settings.http2:
            options += [(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS), (pycurl.PIPEWAIT, 1)]
        else:
            options.append((pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1))
        if settings.permissive:
            options += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
        else:
            authorities = settings.ca_file or next((Path(path) for path in _AUTHORITIES if Path(path).is_file()), None)
            if authorities is not None:
                options.append((pycurl.CAINFO, str(authorities)))
        if settings.client_cert:
            key = settings.client_key or settings.client_cert
            options += [(pycurl.SSLCERT, str(settings.client_cert)), (pycurl.SSLKEY, str(key))]
        if settings.token:
            options += [(pycurl.HTTPAUTH, _HTTPAUTH_BEARER), (pycurl.XOAUTH2_BEARER, settings.token)]
        if settings.cookie_file:
            options.append((pycurl.COOKIEFILE, str(settings.cookie_file)))
        for option, value in options:
            handle.setopt(option, value)
        return handle

    def _slow_down(self) -> None:
        """Sleeps while more has come than the rate allows; the sender is held back by TCP's window."""
        received = self.bytes_received + sum(int(handle.getinfo(pycurl.SIZE_DOWNLOAD_T)) for handle in self._running)
        ahead_s = received / self._settings.limit_rate_bytes_s - (time.monotonic() - self._began_s)
        if ahead_s > 0:
            time.sleep(min(ahead_s, _LONGEST_NAP_S))


_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 408: "Request Timeout",
            410: "Gone", 416: "Range Not Satisfiable", 429: "Too Many Requests", 500: "Internal Server Error",
            502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}  # fmt: skip
_WORDS = {
    pycurl.E_COULDNT_RESOLVE_HOST: ("the host's name is not known", "check the address, and the name service"),
    pycurl.E_COULDNT_RESOLVE_PROXY: ("the proxy's name is not known", "check proxy in the remote's config"),
    pycurl.E_COULDNT_CONNECT: ("no connection", "check that the server runs and can be reached; then try again"),
    pycurl.E_OPERATION_TIMEDOUT: ("too slow, or no answer in time", "try again; it goes on where it stopped"),
    pycurl.E_PARTIAL_FILE: ("Download incomplete: the link broke", "try again; it goes on where it stopped"),
    pycurl.E_GOT_NOTHING: ("the server closed the link without an answer", "try again"),
}
_NO_ADDRESS = frozenset({pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_URL_MALFORMAT})


class NoRange(NetworkError):
    """The server sends a body from its beginning when asked for the rest of it."""


class TlsError(NetworkError):
    """The other side is not who it should be, or does not take us for who we are; trying again does not help."""


def _network_error(code: int, text: str, url: str) -> NetworkError:
    if code in _TLS_CODES:
        return TlsError(f"TLS failed: {text}", where=url, hint="check the clock, the address and the certificates")
    what, hint = _WORDS.get(code, ("the transfer broke off", "try again; it goes on where it stopped"))
    return NetworkError(f"{what} ({text or f'libcurl {code}'})", where=url, hint=hint)


def _shown(url: str) -> str:
    """Returns an address without the user and password in it."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _header_reader(transfer: Transfer) -> Callable[[bytes], None]:
    def read(line: bytes) -> None:
        if line.startswith(b"HTTP/"):
            transfer.answer_headers.clear()  # of a redirect
            return
        name, colon, value = line.partition(b":")
        if colon and sum(map(len, transfer.answer_headers.values())) < MAX_HEADERS_BYTES:
            transfer.answer_headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")

    return read
