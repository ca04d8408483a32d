"""``/api/v1/repo``: how revisions come to the hub. See ``docs/reference/hub-api.md``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import anyio.from_thread
from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wherry.core.errors import InvalidInput, NetworkError, WherryError
from wherry.hub.accounts import Session
from wherry.hub.context import hub_of
from wherry.hub.messages import MAX_LIST_BYTES, answer, read, takes
from wherry.hub.security import user_caller
from wherry.spec.wire import PACK_TYPE, USER_API, ObjectList, PackAnswer, RefList, RefUpdate

SILENCE_S = 60
"""How long a sender may say nothing in the middle of a pack."""
MAX_DRAINED_BYTES = 64 * 1024 * 1024
DRAIN_S = 20
_BATCH_BYTES = 1024 * 1024

router = APIRouter(prefix=USER_API + "/repo", tags=["repository"])
User = Annotated[Session, Depends(user_caller)]


@router.get("/refs", response_model=RefList)
def refs(request: Request, caller: User) -> Response:
    """The revisions' refs."""
    return answer(RefList(refs=hub_of(request).repository.refs()))


@router.put("/refs/{ref:path}", status_code=204, response_model=None, openapi_extra=takes(RefUpdate))
async def update_ref(request: Request, caller: User, ref: str) -> Response:
    """Moves a ref onto a revision that is whole."""
    message = await read(request, RefUpdate)
    await run_in_threadpool(hub_of(request).repository.update_ref, ref, message)
    return Response(status_code=204)


@router.post("/missing", response_model=ObjectList, openapi_extra=takes(ObjectList))
async def missing(request: Request, caller: User) -> Response:
    """Which objects the hub lacks."""
    message = await read(request, ObjectList, max_bytes=MAX_LIST_BYTES)
    return answer(await run_in_threadpool(hub_of(request).repository.missing, message))


@router.post(
    "/pack",
    response_model=PackAnswer,
    openapi_extra={"requestBody": {"content": {PACK_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def pack(request: Request, caller: User) -> Response:
    """Takes objects, as many as there are."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != PACK_TYPE:
        raise InvalidInput("not a pack", hint=f"send it with Content-Type: {PACK_TYPE}")
    stream = request.stream()
    try:
        # One thread has the whole pack, for the repository's transactions belong to threads. It fetches each piece from
        # the loop when it is ready for it, so the sender is held back by TCP and nothing piles up here.
        counts = await run_in_threadpool(hub_of(request).repository.receive_pack, _pieces(stream))
    except WherryError:
        await _drain(stream)
        raise
    return answer(PackAnswer(stored=counts.stored, present=counts.present, bytes=counts.bytes))


def _pieces(stream: AsyncIterator[bytes]) -> Iterator[bytes]:
    while batch := anyio.from_thread.run(_next_batch, stream):
        yield batch


async def _next_batch(stream: AsyncIterator[bytes]) -> bytes:
    """Returns some bytes of the body, empty at its end.

    Raises:
        NetworkError: the sender went, or says nothing.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SILENCE_S):
            async for part in stream:
                parts.append(part)
                size += len(part)
                if size >= _BATCH_BYTES:
                    break
    except TimeoutError:
        raise NetworkError(f"the sender was silent for {SILENCE_S} s") from None
    except ClientDisconnect:
        raise NetworkError("the sender went away") from None
    return b"".join(parts)


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Reads on for a while, so that a sender in the middle of its body gets the answer instead of a reset."""
    size = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_S):
            async for part in stream:
                size += len(part)
                if size > MAX_DRAINED_BYTES:
                    return
