"""The hub as one ASGI application: routes, errors as ``{"detail": ...}``, headers, the access log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wherry.core import jsonio
from wherry.core.errors import (
    Conflict,
    IntegrityError,
    InvalidInput,
    Locked,
    NoSpace,
    NotFound,
    NotPermitted,
    Unsupported,
    WherryError,
)
from wherry.hub import api_device, api_repo, api_user, dashboard
from wherry.hub.context import Hub, hub_of
from wherry.hub.files import serve_file
from wherry.hub.messages import MAX_LIST_BYTES, TooLarge, answer, publish_openapi
from wherry.hub.security import SecurityHeaders
from wherry.spec.wire import REPO, USER_API
from wherry.version import __version__

TICK_S = 5
"""How often the hub looks who is online, and writes down who was seen."""
MAX_FORM_BYTES = 64 * 1024
PACK_PATH = f"{USER_API}/repo/pack"

log = logging.getLogger("wherry.hub")
access_log = logging.getLogger("wherry.hub.access")
_STATUS: tuple[tuple[type[WherryError], int], ...] = (
    (NotFound, 404),
    (Locked, 503),
    (Conflict, 409),
    (TooLarge, 413),
    (InvalidInput, 422),
    (IntegrityError, 422),
    (NotPermitted, 403),
    (NoSpace, 507),
    (Unsupported, 422),
)


def make_app(hub: Hub) -> FastAPI:
    """Returns the application that serves an open hub."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub.broker.attach(asyncio.get_running_loop())
        hub.deltas.start()
        ticker = asyncio.create_task(_tick(hub))
        try:
            yield
        finally:
            ticker.cancel()
            with contextlib.suppress(WherryError):  # it can be lost: who was seen in the last seconds
                await run_in_threadpool(hub.registry.tick)

    app = FastAPI(
        title="Wherry hub",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.hub = hub
    app.include_router(api_device.router)
    app.include_router(api_user.router)
    app.include_router(api_repo.router)
    app.include_router(dashboard.router)
    app.router.routes.append(Route(REPO + "/{path:path}", serve_file, methods=["GET", "HEAD"]))
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    app.add_exception_handler(WherryError, _wherry_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_middleware(_Guard)
    app.add_middleware(SecurityHeaders)
    publish_openapi(app)
    return app


async def _tick(hub: Hub) -> None:
    """Writes down who was heard of, and notices devices that went silent, which no request tells of."""
    while True:
        await asyncio.sleep(TICK_S)
        try:
            await run_in_threadpool(hub.registry.tick)
        except WherryError as error:
            log.warning("cannot note who is online: %s", error)


class _Guard:
    """The outermost layer: an unforeseen error becomes 500 without a word of its inside; each request is logged.

    The log is at level debug only, one JSON object a line. It has no query, no header and no body, so no secret.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0
        limit = _body_limit(scope["path"])
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if limit is not None and received > limit:
                raise TooLarge(f"the request's body is longer than {limit} bytes")
            return message

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, count, note)
        except Exception:
            log.exception("unexpected error in %s %s", scope["method"], scope["path"])
            if status:
                raise  # the answer has begun; breaking the connection is all that is left
            status = 500
            await answer({"detail": "the hub has a fault; its log says more"}, status=500)(scope, receive, send)
        finally:
            if access_log.isEnabledFor(logging.DEBUG):
                line = {
                    "client": scope["client"][0] if scope.get("client") else "",
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round((time.monotonic() - began) * 1000),
                }
                access_log.debug("%s", jsonio.canonical(line).decode())


def _body_limit(path: str) -> int | None:
    """Returns how long the body of a request may be; a pack has limits of its own."""
    if path == PACK_PATH:
        return None
    return MAX_LIST_BYTES if path.startswith("/api/") else MAX_FORM_BYTES


def status_of(error: WherryError) -> int:
    """Returns the HTTP status of an error."""
    return next((status for cls, status in _STATUS if isinstance(error, cls)), 500)


async def _wherry_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WherryError)  # noqa: S101 registered for this class alone
    status = status_of(error)
    if status == 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
        return _error(request, 500, error.what)
    # Where things lie on the hub's disk is nobody's business.
    return _error(request, status, str(error).replace(f"{hub_of(request).path}/", ""))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 registered for this class alone
    response = _error(request, error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 registered for this class alone
    parts = [f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in error.errors()]
    return _error(request, 422, "; ".join(parts))


def _error(request: Request, status: int, detail: str) -> Response:
    if dashboard.is_page(request):
        return dashboard.error_page(request, status, detail)
    return answer({"detail": detail}, status=status)
