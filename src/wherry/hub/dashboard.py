"""The pages for people: rendered here, usable without a script; the script only keeps them up to date.

Every change is a form post with a CSRF token, answered by a redirect to the page that shows it. What is shown is made
by ``views.py``. The script asks for the same page again and takes over the parts marked ``data-live``, so that there is
one way to draw anything.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import APIRouter, Depends, Form
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wherry.core.errors import WherryError
from wherry.core.units import format_size
from wherry.hub import views
from wherry.hub.accounts import Session
from wherry.hub.context import hub_of
from wherry.hub.credentials import csrf_token
from wherry.hub.security import check_csrf, check_origin, clear_cookie, page_caller, set_cookie, try_login
from wherry.spec.wire import Assignment

HISTORY_LINES = 300
MAX_FORM_CHARS = 2000
_HERE = Path(__file__).parent
_NOTES = {
    "accepted": "The device is accepted.",
    "rejected": "The device is rejected.",
    "assigned": "The order is given; the device is told at once when it is online.",
    "removed": "The device is forgotten.",
    "revoked": "The token opens nothing any more.",
}

router = APIRouter(include_in_schema=False)
Field = Annotated[str, Form(max_length=MAX_FORM_CHARS)]


class LoginNeeded(HTTPException):
    """Nobody is logged in; the page is shown after the login."""

    def __init__(self, request: Request) -> None:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = "/login" + ("" if wanted == "/" or request.method != "GET" else f"?next={quote(wanted)}")
        super().__init__(303, "log in first", headers={"Location": target})


def viewer(request: Request) -> Session:
    """Returns the session of the person who looks at a page.

    Raises:
        LoginNeeded: there is none.
    """
    session = page_caller(request)
    if session is None:
        raise LoginNeeded(request)
    return session


def sender(request: Request, viewer_: Annotated[Session, Depends(viewer)], csrf: Field = "") -> Session:
    """Returns the session of the person who sent a form of one of the hub's own pages.

    Raises:
        HTTPException: 403, the form is not from this session.
    """
    check_csrf(request, viewer_, csrf)
    return viewer_


Viewer = Annotated[Session, Depends(viewer)]
Sender = Annotated[Session, Depends(sender)]


def is_page(request: Request) -> bool:
    """Tells whether a person looks at the answer."""
    return not request.url.path.startswith(("/api/", "/repo/", "/static/")) and request.url.path != "/repo"


def error_page(request: Request, status: int, detail: str) -> Response:
    """Returns the page that tells of an error."""
    if status == 303:
        return Response(status_code=303)
    return _render(request, "error.html", status_code=status, status=status, detail=detail)


@router.get("/")
def home(request: Request) -> Response:
    """Sends to the devices."""
    return RedirectResponse("/devices", 303)


@router.get("/login")
def login_page(request: Request, next: str = "/devices") -> Response:  # noqa: A002 the parameter's name in the URL
    """Asks who it is."""
    if page_caller(request) is not None:
        return RedirectResponse(_inside(next), 303)
    return _render(request, "login.html", next=_inside(next), tried="", wrong="")


@router.post("/login")
def login(request: Request, user: Field = "", password: Field = "", next: Field = "/devices") -> Response:  # noqa: A002
    """Logs in."""
    check_origin(request)
    try:
        token = try_login(hub_of(request), request, user, password)
        wrong, status = "That is not the right name and password.", 401
    except HTTPException as error:
        token, wrong, status = None, f"{error.detail}.".capitalize(), error.status_code
    if token is None:
        return _render(request, "login.html", status_code=status, next=_inside(next), tried=user, wrong=wrong)
    response = RedirectResponse(_inside(next), 303)
    set_cookie(request, response, token)
    return response


@router.post("/logout")
def logout(request: Request, caller: Sender) -> Response:
    """Logs out."""
    hub_of(request).accounts.close_session(caller.token_hash)
    response = RedirectResponse("/login", 303)
    clear_cookie(response)
    return response


@router.get("/devices")
def devices(request: Request, caller: Viewer, q: str = "") -> Response:
    """Lists the devices; what needs somebody comes first."""
    hub = hub_of(request)
    version = hub.broker.version
    names = views.revision_names(hub.repository.revisions())
    fleet = views.fleet_view(hub.registry.list(), names, query=q[:200])
    return _render(request, "devices.html", caller, fleet=fleet, query=q[:200], version=version)


@router.get("/devices/{device}")
def device(request: Request, caller: Viewer, device: str) -> Response:
    """Shows one device."""
    hub = hub_of(request)
    version = hub.broker.version
    info = hub.registry.get(device)
    revisions = hub.repository.revisions()
    names = views.revision_names(revisions)
    history = hub.registry.history(info.id, limit=HISTORY_LINES)
    return _render(
        request,
        "device.html",
        caller,
        device=views.device_view(info, names),
        chapters=views.chapters(history, names),
        revisions=revisions,
        names=names,
        version=version,
    )


@router.post("/devices/{device}/{act}")
def change(request: Request, caller: Sender, device: str, act: str, revision: Field = "", back: Field = "") -> Response:
    """Accepts, rejects, removes or assigns."""
    registry = hub_of(request).registry
    if act == "accept":
        registry.accept(device, by=caller.user)
    elif act == "reject":
        registry.reject(device, by=caller.user)
    elif act == "assign":
        registry.assign(device, Assignment(revision=revision), by=caller.user)
    elif act == "remove":
        registry.remove(device)
        return _done("/devices", "removed")
    else:
        raise HTTPException(404, "no such action")
    return _done("/devices" if back == "list" else f"/devices/{quote(device, safe='')}", f"{act}ed")


@router.get("/revisions")
def revisions(request: Request, caller: Viewer) -> Response:
    """Lists the revisions."""
    hub = hub_of(request)
    version = hub.broker.version
    infos = hub.registry.list()
    found = hub.repository.revisions()
    return _render(
        request,
        "revisions.html",
        caller,
        revisions=found,
        names=views.revision_names(found),
        runs={one.commit: sum(info.current == one.commit for info in infos) for one in found},
        version=version,
        due={one.commit: sum(info.desired == one.commit != info.current for info in infos) for one in found},
    )


@router.get("/enrol")
def enrol(request: Request, caller: Viewer) -> Response:
    """Tells how a device is added, and lists the tokens."""
    return _enrol(request, caller)


@router.post("/enrol")
def make_token(
    request: Request,
    caller: Sender,
    uses: Annotated[int, Form()] = 1,
    hours: Annotated[int, Form()] = 1,
    note: Field = "",
) -> Response:
    """Makes a token and shows it, this once."""
    accounts = hub_of(request).accounts
    try:
        made = accounts.make_enrolment_token(uses=uses, expires_in_s=hours * 3600, note=note.strip(), by=caller.user)
    except WherryError as error:
        return _enrol(request, caller, wrong=error.what, status_code=422)
    return _enrol(request, caller, made=made)


@router.post("/enrol/{token_id}/revoke")
def revoke_token(request: Request, caller: Sender, token_id: str) -> Response:
    """Revokes a token."""
    hub_of(request).accounts.revoke_enrolment_token(token_id)
    return _done("/enrol", "revoked")


def _enrol(request: Request, caller: Session, *, status_code: int = 200, **values: Any) -> Response:
    tokens = hub_of(request).accounts.list_enrolment_tokens()
    url = str(request.base_url).rstrip("/")
    return _render(
        request,
        "enrol.html",
        caller,
        status_code=status_code,
        tokens=tokens,
        url=url,
        **{"made": None, "wrong": "", **values},
    )


def _done(path: str, note: str) -> Response:
    return RedirectResponse(f"{path}?{urlencode({'note': note})}", 303)


def _inside(path: str) -> str:
    """Returns a path on this hub; anything that a browser might take for another place becomes the first page."""
    plain = path.isprintable() and "\\" not in path and path.startswith("/") and not path.startswith("//")
    return path if plain and not path.startswith("/login") else "/devices"


def _render(
    request: Request,
    template: str,
    caller: Session | None = None,
    *,
    status_code: int = 200,
    version: str = "",
    **values: Any,
) -> Response:
    """Fills in a template; `version` is that of the broker from before the values were read."""
    hub = hub_of(request)
    now = hub.clock()
    text = (
        _environment()
        .get_template(template)
        .render(
            user=caller.user if caller else "",
            csrf=csrf_token(hub.key, caller.token_hash) if caller else "",
            path=request.url.path,
            version=version or hub.broker.version,
            note=_NOTES.get(request.query_params.get("note", ""), ""),
            now=now,
            ago=lambda time_s: views.ago(time_s, now),
            **values,
        )
    )
    return Response(
        text, status_code=status_code, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"}
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(iso=views.iso, clock=views.clock, size=format_size)
    environment.globals.update(token_word=views.token_word, static=_static)
    return environment


@cache
def _static(name: str) -> str:
    """Returns the address of a static file, which changes with its content so that browsers may keep it for ever."""
    digest = hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
