"""Who calls: bearer tokens, the session cookie with its CSRF token, and headers that keep browsers from harm."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wherry.hub.accounts import USER_SESSION_S, Session
from wherry.hub.context import Hub, hub_of
from wherry.hub.credentials import csrf_token, same

COOKIE = "wherry_session"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self._app(scope, receive, add)


def unauthorized(detail: str) -> HTTPException:
    """Returns the error for a caller without good credentials."""
    return HTTPException(401, detail, headers={"WWW-Authenticate": 'Bearer realm="wherry"'})


def _bearer(connection: HTTPConnection, *, basic: bool = False) -> str | None:
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if basic and scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).decode().partition(":")[2]
        except (Base64Error, ValueError):
            return ""
    return None


def _find(connection: HTTPConnection) -> tuple[Session | None, bool]:
    """Returns the caller's session, and whether it came by cookie."""
    accounts = hub_of(connection).accounts
    token = _bearer(connection)
    if token is not None:
        return accounts.find_session(token), False
    return accounts.find_session(connection.cookies.get(COOKIE, "")), True


def device_caller(request: Request) -> Session:
    """Returns the session of the device that calls.

    Raises:
        HTTPException: 401, it has none.
    """
    session, by_cookie = _find(request)
    if session is None or by_cookie or not session.device_id:
        raise unauthorized("no device session, or it has ended: ask for a challenge")
    hub_of(request).registry.seen(session.device_id)
    return session


def user_caller(request: Request) -> Session:
    """Returns the session of the person who calls.

    Raises:
        HTTPException: 401, there is none; 403, a cookie came without its CSRF token.
    """
    session, by_cookie = _find(request)
    if session is None or not session.user:
        raise unauthorized("not logged in, or the session has ended: log in")
    if by_cookie and request.method not in SAFE_METHODS:
        check_csrf(request, session, request.headers.get(CSRF_HEADER, ""))
    return session


async def repo_caller(request: Request) -> Session:
    """Returns the session of whoever reads the repository, device or person.

    It is remembered for a moment, for thousands of objects are read in a row; so a device that was just rejected may
    read on for that long.

    Raises:
        HTTPException: 401, there is none.
    """
    token = _bearer(request, basic=True)
    if token is None:
        token = request.cookies.get(COOKIE, "")
    session = await hub_of(request).readers.find(token)
    if session is None:
        raise unauthorized("the repository needs a device session or a user's token")
    return session


def page_caller(request: Request) -> Session | None:
    """Returns the session of the person who looks at a page; None sends to the login page."""
    session, by_cookie = _find(request)
    return session if session is not None and session.user and by_cookie else None


def check_csrf(request: Request, session: Session, token: str) -> None:
    """Refuses a change that did not come from one of the hub's own pages.

    Raises:
        HTTPException: 403.
    """
    check_origin(request)
    if not same(token, csrf_token(hub_of(request).key, session.token_hash)):
        raise HTTPException(403, "this form is not from this session: load the page again")


def check_origin(request: Request) -> None:
    """Refuses what a browser says comes from another site (Fetch Metadata; ``Origin``, RFC 6454, section 7).

    Raises:
        HTTPException: 403.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if site not in ("same-origin", "none") or foreign:
        raise HTTPException(403, "this request comes from another site")


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Has the browser keep a session."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=USER_SESSION_S,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )


def clear_cookie(response: Response) -> None:
    """Has the browser forget the session."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")


def try_login(hub: Hub, request: Request, user: str, password: str) -> str | None:
    """Returns a session token for a right password, None for a wrong one.

    Raises:
        HTTPException: 429, too many tries.
    """
    address = request.client.host if request.client else ""
    key = f"{address}\n{user[:64]}"
    wait_s = hub.limits.login_address.try_(address) or hub.limits.login.try_(key)
    if wait_s:
        raise HTTPException(429, f"too many tries; wait {wait_s} s", headers={"Retry-After": str(wait_s)})
    token = hub.accounts.login(user, password)
    if token is not None:
        hub.limits.login.forget(key)
        hub.limits.login_address.take_back(address)
    return token
