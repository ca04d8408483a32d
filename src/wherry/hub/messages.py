"""JSON in and out of routes, by ``spec.codec`` alone, and the same classes in OpenAPI.

FastAPI's own conversion is not used: the codec is what device and command line use as well, it refuses unknown keys
and wrong types by name, and it leaves out defaults in the same way. FastAPI is told the classes for OpenAPI only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from wherry.core import jsonio
from wherry.core.errors import InvalidInput
from wherry.spec.codec import decode, encode
from wherry.version import __version__

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_LIST_BYTES = 4 * 1024 * 1024
_REFERENCE = "#/components/schemas/{model}"

T = TypeVar("T")
_bodies: dict[str, type] = {}


def takes(cls: type) -> dict[str, Any]:
    """Returns what OpenAPI says of a route whose body is a `cls`."""
    _bodies[cls.__name__] = cls
    schema = {"$ref": _REFERENCE.format(model=cls.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read(request: Request, cls: type[T], *, max_bytes: int = MAX_MESSAGE_BYTES) -> T:
    """Returns the body of a request as a `cls`.

    Raises:
        InvalidInput: it is not one.
        TooLarge: it is longer than `max_bytes`.
    """
    data = await read_body(request, max_bytes)
    return decode(cls, jsonio.loads(data, where="the request's body", max_bytes=max_bytes), where="the request's body")


class TooLarge(InvalidInput):
    """The body of a request is longer than the limit."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body of a request.

    Raises:
        TooLarge: it is longer than `max_bytes`; not more than that has been read.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"the request's body is longer than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a message, or any JSON value, as the answer."""
    return Response(
        jsonio.canonical(encode(value)),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def publish_openapi(app: FastAPI) -> None:
    """Has the app's OpenAPI hold the schemas of request bodies as well."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="Wherry hub",
                version=__version__,
                description="The fleet server: devices and people. See docs/reference/hub-api.md.",
                routes=app.routes,
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, cls in _bodies.items():
                found = TypeAdapter(cls).json_schema(ref_template=_REFERENCE)
                schemas.update(found.pop("$defs", {}))
                schemas[name] = found
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way, "Extending OpenAPI"
