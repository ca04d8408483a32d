"""One HTTP client for everything that Wherry fetches: urllib3 underneath, Wherry's errors on top.

It never follows a redirect to another origin, never sends its token there, bounds what it reads, and retries
only what is safe to repeat, with backoff. A 4xx answer is final at once.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import SSLError

from wherry.core import jsonio
from wherry.core.durable import map_os_error
from wherry.core.errors import HttpError, IntegrityError, InvalidInput, NetworkError
from wherry.version import __version__

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_EVENT_BYTES = 64 * 1024
_RETRY_STATUS = frozenset({429, 500, 502, 503, 504})
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event of a ``text/event-stream`` (WHATWG HTML, section 9.2)."""

    event: str
    data: str
    id: str


class Response:
    """An answer whose body has not been read yet."""

    def __init__(self, client: HttpClient, inner: urllib3.BaseHTTPResponse, url: str) -> None:
        self._client = client
        self._inner = inner
        self.url = url
        self.status: int = inner.status
        self.headers: Mapping[str, str] = inner.headers

    def read_all(self, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Returns the whole body.

        Raises:
            InvalidInput: it is longer than `max_bytes`.
            NetworkError: the link broke.
        """
        parts: list[bytes] = []
        size = 0
        for chunk in self.chunks():
            size += len(chunk)
            if size > max_bytes:
                raise InvalidInput(f"the answer is longer than {max_bytes} bytes", where=self.url)
            parts.append(chunk)
        return b"".join(parts)

    def abort(self) -> None:
        """Ends reading of the body, from another thread; who reads gets an error, or the end."""
        with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
            self._inner.shutdown()

    def chunks(self) -> Iterator[bytes]:
        """Gives the body piece by piece, as it comes.

        Raises:
            NetworkError: the link broke before the end.
        """
        try:
            while chunk := self._inner.read1(_CHUNK_BYTES, decode_content=False):
                self._client.bytes_received += len(chunk)
                yield chunk
        except Urllib3Error as error:
            raise NetworkError(
                f"the transfer broke off: {error}", where=self.url, hint="run it again; it resumes"
            ) from error


class HttpClient:
    """Requests to one server.

    Args:
        base_url: ``http://`` or ``https://`` and all that stands before the paths.
        token: sent as ``Authorization: Bearer``; may be set later.
        ca_file: the only certificate authority to trust; None takes the system's.
        more_authorities: files of certificate authorities to trust beside the system's.
        client_cert: the files of a certificate and of its key, to be shown to the server.
        permissive: takes any certificate: for servers that the user names as insecure.
        timeout_s: for connecting, and for each read.
        tries: how often a request that may be repeated is sent in all.
        pool_size: connections kept open at most.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        ca_file: Path | None = None,
        more_authorities: Sequence[Path] = (),
        client_cert: tuple[Path, Path] | None = None,
        permissive: bool = False,
        timeout_s: float = 30.0,
        tries: int = 4,
        pool_size: int = 8,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                "not an http:// or https:// address", where=base_url, hint="write it as https://hub.example:8443"
            )
        self.base_url = base_url.rstrip("/")
        self.token = token
        self.ca_file = ca_file
        self.bytes_received = 0
        self.requests = 0
        self._tries = tries
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=pool_size,
            block=False,
            retries=False,
            timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s),
            ca_certs=str(ca_file) if ca_file else None,
            cert_file=str(client_cert[0]) if client_cert else None,
            key_file=str(client_cert[1]) if client_cert else None,
            cert_reqs="CERT_NONE" if permissive else None,
            ssl_context=_trusting(more_authorities) if more_authorities and not (ca_file or permissive) else None,
        )

    def close(self) -> None:
        """Closes every connection."""
        self._pool.clear()

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> Iterator[Response]:
        """Sends one request, without retry, and gives the answer, whatever its status.

        Raises:
            NetworkError: no answer came.
        """
        url = self.base_url + path
        fields = {"User-Agent": f"wherry/{__version__}", **(headers or {})}
        if self.token:
            fields["Authorization"] = f"Bearer {self.token}"
        extra: dict[str, Any] = {}
        if read_timeout_s is not None:
            extra["timeout"] = urllib3.Timeout(connect=min(30.0, read_timeout_s), read=read_timeout_s)
        self.requests += 1
        try:
            inner = self._pool.request(
                method, url, body=body, headers=fields, preload_content=False, redirect=False, **extra
            )
        except SSLError as error:
            raise NetworkError(
                f"TLS failed: {error}", where=self.base_url, hint="check the clock, the address and --ca"
            ) from error
        except Urllib3Error as error:
            raise NetworkError(
                f"no answer: {_reason(error)}",
                where=self.base_url,
                hint="check that it runs and can be reached; then try again",
            ) from error
        try:
            yield Response(self, inner, url)
        finally:
            _give_back(inner)

    def get(self, path: str, *, offset: int = 0) -> _Opened:
        """Opens a GET as a context manager, from byte `offset` on (RFC 9110, section 14.2).

        Raises (on entry):
            HttpError: the status is neither 200 nor 206; 404 included.
            NetworkError: no answer.
            IntegrityError: the server ignored or mistook the range.
        """
        return _Opened(self, path, offset)

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        repeat: bool | None = None,
    ) -> Any:
        """Sends a request with a JSON body and returns the JSON answer (None for an empty one).

        Args:
            method: the HTTP method.
            path: appended to the base URL.
            body: any JSON value, or None for no body.
            headers: further request headers.
            max_bytes: the limit on the answer.
            repeat: whether to send it again after a failure; by default GET, PUT and DELETE are.

        Raises:
            HttpError: the server answered with an error status.
            NetworkError: no answer, after all tries.
        """
        data = None if body is None else jsonio.canonical(body)
        fields = {
            "Accept": "application/json",
            **({"Content-Type": "application/json"} if data is not None else {}),
            **(headers or {}),
        }
        may_repeat = method in ("GET", "PUT", "DELETE", "HEAD") if repeat is None else repeat
        for attempt in range(1, self._tries + 1):
            last = attempt == self._tries or not may_repeat
            try:
                with self.open(method, path, body=data, headers=fields) as response:
                    if response.status < 300:
                        raw = response.read_all(max_bytes=max_bytes)
                        return jsonio.loads(raw, where=response.url) if raw else None
                    if response.status not in _RETRY_STATUS or last:
                        raise status_error(response)
            except HttpError:
                raise
            except NetworkError:
                if last:
                    raise
            backoff(attempt)
        raise AssertionError("unreachable")

    def events(self, path: str, *, read_timeout_s: float = 60.0) -> Iterator[ServerSentEvent]:
        """Gives the server-sent events of `path` until the server ends the stream.

        Args:
            path: appended to the base URL.
            read_timeout_s: the longest silence; servers send a comment more often than that.

        Raises:
            HttpError: the status is not 200.
            NetworkError: the stream broke, or was silent for too long.
        """
        with self.open("GET", path, headers={"Accept": "text/event-stream"}, read_timeout_s=read_timeout_s) as response:
            if response.status != 200:
                raise status_error(response)
            event, ident = "message", ""
            data: list[str] = []
            for line in _lines(response._inner, response.url):
                if not line:
                    if data:
                        yield ServerSentEvent(event=event, data="\n".join(data), id=ident)
                    event, data = "message", []
                    continue
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    event = value
                elif name == "data":
                    data.append(value)
                elif name == "id":
                    ident = value


def _trusting(authorities: Sequence[Path]) -> ssl.SSLContext:
    """Returns what trusts these beside the system's own."""
    context = ssl.create_default_context()
    for path in authorities:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise InvalidInput("no certificates in PEM", where=path) from error
        except OSError as error:
            raise map_os_error(error, "cannot read a certificate authority", where=path) from error
    return context


class _Opened:
    """The context manager behind ``HttpClient.get``."""

    def __init__(self, client: HttpClient, path: str, offset: int) -> None:
        self._client, self._path, self._offset = client, path, offset

    def __enter__(self) -> Response:
        headers = {"Range": f"bytes={self._offset}-"} if self._offset else {}
        self._inner = self._client.open("GET", self._path, headers=headers)
        response = self._inner.__enter__()
        try:
            if response.status not in (200, 206):
                raise status_error(response)
            if self._offset:
                expected = f"bytes {self._offset}-"
                if response.status != 206 or not response.headers.get("Content-Range", "").startswith(expected):
                    raise IntegrityError("the server does not resume where it was asked to", where=response.url)
        except BaseException as error:
            self._inner.__exit__(type(error), error, error.__traceback__)
            raise
        return response

    def __exit__(self, *args: Any) -> None:
        self._inner.__exit__(*args)


def backoff(attempt: int, *, base_s: float = 0.2, most_s: float = 10.0) -> None:
    """Sleeps after failed try number `attempt`, longer each time, with jitter."""
    time.sleep(backoff_s(attempt, base_s=base_s, most_s=most_s))


def backoff_s(attempt: int, *, base_s: float = 0.2, most_s: float = 10.0) -> float:
    """Returns how long to wait after failed try number `attempt`."""
    longest_s = min(most_s, base_s * float(2 ** (attempt - 1)))
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 jitter, not a secret


def status_error(response: Response) -> HttpError:
    """Reads an answer with an error status and returns it as an error, with what the server said."""
    detail = ""
    try:
        body = response.read_all(max_bytes=64 * 1024)
        parsed = jsonio.loads(body) if body.startswith(b"{") else {}
        detail = str(parsed.get("detail", "")) if isinstance(parsed, dict) else ""
    except (NetworkError, InvalidInput):
        detail = "(no readable reason)"
    return HttpError(
        f"the server answered {response.status}{': ' + detail[:300] if detail else ''}",
        status=response.status,
        detail=detail,
        where=response.url,
    )


def _give_back(inner: urllib3.BaseHTTPResponse) -> None:
    """Keeps the connection of an answer for the next request, or closes it when a part of the body is still to come."""
    if inner.status >= 400 or inner.length_remaining == 0:  # 204, 304 and answers to HEAD count as unread too
        inner.drain_conn()
    elif not inner.closed:
        inner.close()
    inner.release_conn()


def _reason(error: Urllib3Error) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = getattr(cause, "strerror", None) or str(cause)
    return text.rsplit("): ", 1)[-1]


def _lines(inner: urllib3.BaseHTTPResponse, url: str) -> Iterator[str]:
    buffer = b""
    try:
        while True:
            chunk = inner.read1(4096)
            if not chunk:
                return
            buffer += chunk
            if len(buffer) > MAX_EVENT_BYTES:
                raise InvalidInput(f"an event is longer than {MAX_EVENT_BYTES} bytes", where=url)
            *lines, buffer = buffer.replace(b"\r\n", b"\n").split(b"\n")
            for line in lines:
                yield line.decode("utf-8", errors="replace")
    except Urllib3Error as error:
        raise NetworkError(f"the event stream broke off: {_reason(error)}", where=url) from error
