"""One registry, spoken to: requests with the authentication that it asks for, and answers within bounds.

Credentials go to the registry that they are for, and to the token server that it names; never along with a redirect to
another origin, and never unencrypted, unless the registry is on this machine or named as insecure. What may be sent
again is, after "too many requests" as late as the server says (`MAX_WAIT_S` in all). Several threads may use a client.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from wherry.core import jsonio
from wherry.core.errors import (
    HttpError,
    InvalidInput,
    NetworkError,
    NotFound,
    NotPermitted,
    Unsupported,
    WherryError,
)
from wherry.core.http import HttpClient, Response, backoff_s
from wherry.image.registry.challenge import Token, parse_challenges, parse_token
from wherry.image.registry.hosts import is_loopback

if TYPE_CHECKING:
    from wherry.image.registry.credentials import Credentials
    from wherry.image.registry.hosts import Host

MAX_WAIT_S = 300.0
MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 * 1024
MAX_LIST_BYTES = 8 * 1024 * 1024
_TRIES = 5
_AGAIN = frozenset({429, 502, 503, 504})
_WRONG = "the user name or the password is wrong"
_UNKNOWN = "the registry wants to know who you are"
_LOGIN_HINT = "log in with `wherry login`"


class Stopped(WherryError):
    """Somebody else failed, and this need not go on."""


class RegistryClient:
    """One registry.

    Args:
        host: how it is reached.
        credentials: who one is; asked for once, when it is needed.
        say: is told when the client waits, and why.
        timeout_s: of connections, and of each read.
    """

    def __init__(
        self,
        host: Host,
        credentials: Callable[[str], Credentials | None] = lambda repository: None,
        *,
        say: Callable[[str], None] = lambda text: None,
        timeout_s: float = 30.0,
    ) -> None:
        self.host = host
        self._credentials = credentials
        self._say = say
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._url = ""
        self._clients: dict[str, HttpClient] = {}
        self._tokens: dict[str, Token] = {}
        self._basic = ""
        self._stopped = threading.Event()

    def close(self) -> None:
        """Closes every connection."""
        for client in self._clients.values():
            client.close()

    def stop(self) -> None:
        """Has all threads end that wait for another try."""
        self._stopped.set()

    def pause(self, attempt: int) -> None:
        """Waits after failed try number `attempt`, longer each time.

        Raises:
            Stopped: by ``stop``.
        """
        self._wait(backoff_s(attempt))

    def check_stopped(self) -> None:
        """Ends this thread's work after ``stop``.

        Raises:
            Stopped: so it is.
        """
        self._wait(0)

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped("it was given up", where=self.host.name)

    # --- asking

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], Iterator[bytes]] | None = None,
        repeat: bool = True,
        statuses: frozenset[int] = frozenset(),
    ) -> Iterator[Response]:
        """Sends a request until it is answered, with what the registry wants to know.

        Args:
            method: the HTTP method.
            path: after ``/v2/``; or a whole address that the registry gave.
            scope: what a token is to allow: ``repository:team/app:pull``; several with spaces between.
            headers: further ones.
            body: bytes, or what gives them anew for each try.
            repeat: whether it may be sent again when the registry is busy or the link breaks.
            statuses: error statuses that the caller wants to see, beside 1xx to 3xx.

        Raises:
            NotPermitted: 401 or 403, after all.
            NotFound: 404.
            HttpError: another error status.
            NetworkError: no answer, after all tries.
        """
        waited_s = 0.0
        for attempt in range(1, _TRIES + 1):
            last = attempt == _TRIES or not repeat
            with ExitStack() as stack:
                try:
                    response = stack.enter_context(self._authorised(method, path, scope, headers or {}, body))
                except NetworkError as error:
                    if last or isinstance(error, HttpError):
                        raise
                    wait_s = 0.0
                else:
                    if response.status < 400 or response.status in statuses:
                        yield response
                        return
                    wait_s = _retry_after_s(response)
                    if response.status not in _AGAIN or last or waited_s + wait_s > MAX_WAIT_S:
                        raise _error(response)
            if wait_s:
                self._say(f"{self.host.name} is busy; waiting {wait_s:.0f} s")
                self._wait(wait_s)
                waited_s += wait_s
            else:
                self.pause(attempt)
        raise AssertionError("unreachable")

    def json(self, path: str, *, scope: str, max_bytes: int = MAX_LIST_BYTES) -> tuple[Any, str]:
        """Returns the JSON of a GET, and the address of the next page, "" for none (RFC 8288)."""
        with self.open("GET", path, scope=scope, headers={"Accept": "application/json"}) as response:
            value = jsonio.loads(response.read_all(max_bytes=max_bytes), where=response.url, max_bytes=max_bytes)
            return value, _next_page(response)

    def check_login(self) -> None:
        """Asks the registry whether the credentials are right.

        Raises:
            NotPermitted: they are not.
        """
        with self.open("GET", "", headers={"Accept": "application/json"}) as response:
            response.read_all(max_bytes=MAX_ERROR_BYTES)

    # --- one request

    @contextmanager
    def _authorised(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str],
        body: bytes | Callable[[], Iterator[bytes]] | None,
    ) -> Iterator[Response]:
        for turn in range(2):
            with ExitStack() as stack:
                response = stack.enter_context(self._redirected(method, path, scope, headers, body))
                if response.status == 401 and turn and self._basic and not self._tokens.get(scope):
                    raise NotPermitted(_WRONG, where=self.host.name, hint=_LOGIN_HINT)
                if response.status != 401 or turn:
                    yield response
                    return
                header = response.headers.get("WWW-Authenticate", "")
                response.read_all(max_bytes=MAX_ERROR_BYTES)
                self._answer(header, scope)

    @contextmanager
    def _redirected(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str],
        body: bytes | Callable[[], Iterator[bytes]] | None,
    ) -> Iterator[Response]:
        url = path if "://" in path else f"{self._base()}/v2/{path}"
        for _ in range(MAX_REDIRECTS):
            with ExitStack() as stack:
                origin, rest = _split(url)
                own = origin == _split(self._base())[0]
                fields = dict(headers)
                if own and (authorization := self._authorization(scope)):
                    fields["Authorization"] = authorization
                content = body() if callable(body) else body
                response = stack.enter_context(self._client(origin).open(method, rest, body=content, headers=fields))
                if response.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                    yield response
                    return
                target = urljoin(url, response.headers.get("Location", ""))
                if urlsplit(target).scheme not in ("https", "http"):
                    raise NetworkError(f"redirected to {target[:200]!r}", where=url)
                if target.startswith("http:") and not url.startswith("http:"):
                    raise NetworkError("redirected from https to http", where=target)
                url = target
        raise NetworkError(f"more than {MAX_REDIRECTS} redirects", where=url)

    def _client(self, origin: str) -> HttpClient:
        with self._lock:
            if origin not in self._clients:
                own = origin in {_split(url)[0] for url in self.host.urls}
                self._clients[origin] = HttpClient(
                    origin,
                    ca_file=self.host.ca if own else None,
                    more_authorities=self.host.authorities if own else (),
                    client_cert=(self.host.cert, self.host.key) if own and self.host.cert and self.host.key else None,
                    permissive=own and self.host.insecure,
                    timeout_s=self._timeout_s,
                )
            return self._clients[origin]

    def _base(self) -> str:
        """Returns the address that answers: https, or http where that is allowed and https is not spoken."""
        if not self._url:
            self._url = self._probe()
        return self._url

    def _probe(self) -> str:
        for url in self.host.urls[:-1]:
            try:
                origin, rest = _split(f"{url}/v2/")
                with self._client(origin).open("GET", rest):
                    return url
            except NetworkError as error:
                if "certificate verify failed" in str(error):  # it does speak TLS
                    raise
        return self.host.urls[-1]

    # --- authentication

    def _authorization(self, scope: str) -> str:
        token = self._tokens.get(scope)
        if token is not None and token.is_valid:
            return f"Bearer {token.text}"
        return self._basic

    def _answer(self, header: str, scope: str) -> None:
        """Gets what the next try is to be sent with.

        Raises:
            NotPermitted: there are no credentials, or they were refused.
        """
        challenges = {challenge.scheme: challenge for challenge in parse_challenges(header)}
        repository = scope.split(":")[1] if scope.count(":") >= 2 else ""
        known = self._credentials(repository)
        if "bearer" in challenges:
            parameters = challenges["bearer"].parameters
            realm = parameters.get("realm", "")
            if urlsplit(realm).scheme not in ("http", "https"):
                raise InvalidInput(f"no address of a token server: {realm[:120]!r}", where=self.host.name)
            if known is not None:
                self._check_secrecy(realm)
            wanted = scope or parameters.get("scope", "")
            self._tokens[scope] = self._fetch_token(realm, parameters.get("service", ""), wanted, known)
            return
        if "basic" not in challenges:
            raise Unsupported(f"it asks for a way to log in that is not known: {header[:80]!r}", where=self.host.name)
        if known is None or self._basic:
            raise NotPermitted(_WRONG if known else _UNKNOWN, where=self.host.name, hint=_LOGIN_HINT)
        if known.identity_token:
            raise NotPermitted("it takes passwords, but a token is stored", where=self.host.name, hint=_LOGIN_HINT)
        self._check_secrecy(self._base())
        self._basic = known.basic()

    def _check_secrecy(self, url: str) -> None:
        if url.startswith("http:") and not (self.host.insecure or is_loopback(urlsplit(url).netloc)):
            raise NotPermitted(
                "credentials are not sent unencrypted", where=url, hint="use https, or name the registry as insecure"
            )

    def _fetch_token(self, realm: str, service: str, scope: str, known: Credentials | None) -> Token:
        """Asks a token server (distribution, "Token Authentication Specification")."""
        fields = {"client_id": "wherry"} if known and known.identity_token else {"account": known.user if known else ""}
        fields |= {"service": service}
        pairs = [*fields.items(), *(("scope", each) for each in scope.split(" "))]  # one by one in a GET
        query = urlencode([(key, value) for key, value in pairs if value])
        headers = {"Accept": "application/json"}
        body: bytes | None = None
        method, url = "GET", realm + ("&" if "?" in realm else "?") + query if query else realm
        if known is not None and known.identity_token:
            form = {**fields, "scope": scope, "grant_type": "refresh_token", "refresh_token": known.identity_token}
            method, url, body = "POST", realm, urlencode(form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif known is not None:
            headers["Authorization"] = known.basic()
        origin, rest = _split(url)
        for attempt in range(1, _TRIES + 1):
            with self._client(origin).open(method, rest, body=body, headers=headers) as response:
                if response.status in (401, 403):
                    where = f"{self.host.name} ({scope or 'login'})"
                    raise NotPermitted(_WRONG if known else _UNKNOWN, where=where, hint=_LOGIN_HINT)
                if response.status < 300:
                    answer = jsonio.loads(response.read_all(max_bytes=MAX_LIST_BYTES), where=realm)
                    return parse_token(answer, where=realm)
                if response.status not in _AGAIN or attempt == _TRIES:
                    raise _error(response)
            self.pause(attempt)
        raise AssertionError("unreachable")


def repository_path(path: str) -> str:
    """Returns a repository's name as a part of an address."""
    return quote(path, safe="/")


def _split(url: str) -> tuple[str, str]:
    """Returns scheme with host and port, and what comes after them."""
    parts = urlsplit(url)
    rest = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{rest}?{parts.query}" if parts.query else rest


def _retry_after_s(response: Response) -> float:
    """Returns how long the server asks to wait; 0 when it does not say."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(min(int(text), 10 * int(MAX_WAIT_S)))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time()) if text else 0.0
    except (TypeError, ValueError):
        return 0.0


def _next_page(response: Response) -> str:
    for link in response.headers.get("Link", "").split(","):
        target, _, parameters = link.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in parameters.replace(" ", ""):
            return urljoin(response.url, target[1:])
    return ""


def _error(response: Response) -> NotFound | NotPermitted | HttpError:
    """Returns an answer with an error status as an error, in the registry's own words."""
    try:
        document = jsonio.loads(response.read_all(max_bytes=MAX_ERROR_BYTES), where=response.url)
        errors = document.get("errors") if isinstance(document, dict) else None
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
        said = " ".join(str(first[key]) for key in ("code", "message") if first.get(key))[:300]
    except (InvalidInput, NetworkError):
        said = ""
    printable = "".join(char if char.isprintable() else " " for char in said)
    what = f"the registry answered {response.status}" + (f": {printable}" if printable else "")
    if response.status == 404:
        return NotFound(what, where=response.url)
    if response.status in (401, 403):
        return NotPermitted(what, where=response.url, hint=_LOGIN_HINT)
    return HttpError(what, status=response.status, detail=printable, where=response.url)
