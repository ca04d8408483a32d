"""The pages for people."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

router = APIRouter(include_in_schema=False)


def is_page(request: Request) -> bool:
    """Tells whether a person looks at the answer."""
    path = request.url.path
    return not path.startswith(("/api/", "/repo/", "/static/")) and request.url.path != "/repo"


def error_page(request: Request, status: int, detail: str) -> Response:
    """Returns the page that tells of an error."""
    return PlainTextResponse(detail, status_code=status)
