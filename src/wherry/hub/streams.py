"""Server-sent events (WHATWG HTML, section 9.2) over a subscription."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from wherry.hub.accounts import Session
from wherry.hub.broker import Event, Stream
from wherry.hub.context import hub_of
from wherry.spec.wire import EVENTS_HEARTBEAT_S

_HEARTBEAT = b": still here\n\n"
_RETRY = b"retry: 2000\n\n"


def stream_events(
    request: Request, session: Session, subscription: AbstractContextManager[Stream], first: Callable[[], Event]
) -> StreamingResponse:
    """Returns an endless answer: `first`, what the subscription brings, and heartbeats.

    `first` is called once the subscription stands, so that nothing falls between what it says and what follows.

    It ends when the session does, when the subscription is closed, or when the reader goes.
    """
    hub = hub_of(request)

    async def body() -> AsyncIterator[bytes]:
        with subscription as stream:
            yield _RETRY + (await run_in_threadpool(first)).encode()
            while not stream.closed:
                events = await stream.take(EVENTS_HEARTBEAT_S)
                if events:
                    yield b"".join(event.encode() for event in events)
                elif not stream.closed:
                    if hub.clock() >= session.expires_s:
                        return
                    if session.device_id:
                        hub.registry.seen(session.device_id)
                    yield _HEARTBEAT

    return StreamingResponse(
        body(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
