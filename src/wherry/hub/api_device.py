"""``/api/device/v1``: what devices call. See ``docs/reference/hub-api.md``."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error

from fastapi import APIRouter, Depends, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wherry.core.errors import InvalidInput, TrustError
from wherry.hub.accounts import DEVICE_SESSION_S, Session
from wherry.hub.context import Hub, hub_of
from wherry.hub.messages import MAX_LIST_BYTES, answer, read, takes
from wherry.hub.registry import desired_event
from wherry.hub.security import device_caller, unauthorized
from wherry.hub.sending import pack_pieces, plan_pack
from wherry.hub.streams import stream_events
from wherry.spec.wire import (
    DEVICE_API,
    MAX_DELTA_SOURCES,
    PACK_TYPE,
    ChallengeAnswer,
    ChallengeRequest,
    DeltaAnswer,
    DeltaQuestion,
    Desired,
    DeviceState,
    EnrolAnswer,
    EnrolRequest,
    ObjectList,
    ObjectSizes,
    Progress,
    ProgressAnswer,
    SessionAnswer,
    SessionRequest,
)
from wherry.trust.keys import PublicKey

SESSION_CONTEXT = b"wherry-session-v1\n"
router = APIRouter(prefix=DEVICE_API, tags=["device"])


def _too_many(wait_s: int) -> None:
    if wait_s:
        raise HTTPException(429, f"too many tries; wait {wait_s} s", headers={"Retry-After": str(wait_s)})


@router.post("/enroll", response_model=EnrolAnswer, openapi_extra=takes(EnrolRequest))
async def enroll(request: Request) -> Response:
    """A device asks to be let in."""
    hub = hub_of(request)
    message = await read(request, EnrolRequest)
    address = request.client.host if request.client else ""
    _too_many(hub.limits.enrol.try_(address))
    found = await run_in_threadpool(hub.registry.enrol, message)
    hub.limits.enrol.take_back(address)
    return answer(found)


@router.post("/challenge", response_model=ChallengeAnswer, openapi_extra=takes(ChallengeRequest))
async def challenge(request: Request) -> Response:
    """First half of a device's login."""
    hub = hub_of(request)
    message = await read(request, ChallengeRequest)
    if await run_in_threadpool(hub.registry.public_key, message.device_id) is None:
        raise HTTPException(404, "no such device: enrol it again")
    _too_many(hub.limits.challenge.try_(message.device_id))
    return answer(ChallengeAnswer(challenge=hub.challenges.make(message.device_id)))


@router.post("/session", response_model=SessionAnswer, openapi_extra=takes(SessionRequest))
async def session(request: Request) -> Response:
    """Second half of a device's login."""
    hub = hub_of(request)
    message = await read(request, SessionRequest)
    return await run_in_threadpool(_open_session, hub, message)


def _open_session(hub: Hub, message: SessionRequest) -> Response:
    known = hub.registry.public_key(message.device_id)
    if known is None:
        raise HTTPException(404, "no such device: enrol it again")
    public_key, state = known
    data = hub.challenges.take(message.device_id, message.challenge)
    if data is None:
        raise unauthorized("the challenge is not one of this hub's, is used up or too old: ask for a new one")
    try:
        signature = b64decode(message.signature, validate=True)
        PublicKey.from_base64(public_key).verify(SESSION_CONTEXT + data, signature)
    except (Base64Error, ValueError, TrustError, InvalidInput):
        raise unauthorized("the signature is not by this device's key") from None
    hub.registry.seen(message.device_id)
    if state is DeviceState.PENDING:
        raise HTTPException(403, "the device is pending: a person must accept it first")
    if state is DeviceState.REJECTED:
        raise HTTPException(403, "the device is rejected")
    token = hub.accounts.open_device_session(message.device_id)
    return answer(SessionAnswer(token=token, expires_in_s=DEVICE_SESSION_S))


@router.get("/desired", response_model=Desired)
def desired(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """What the device should run."""
    hub = hub_of(request)
    assignment, revision = hub.registry.order(caller.device_id)
    settings = hub.settings
    # The clock is left out: an answer that differs in its time alone is the same.
    tag = f'"{assignment}-{(revision or "none")[:16]}-{settings.poll_interval_s}-{settings.poll_jitter_percent}"'
    if tag in (part.strip() for part in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    message = Desired(
        assignment=assignment,
        revision=revision,
        poll_interval_s=settings.poll_interval_s,
        poll_jitter_percent=settings.poll_jitter_percent,
        time_s=int(hub.clock()),
    )
    return answer(message, headers={"ETag": tag, "Cache-Control": "no-cache"})


@router.post("/progress", response_model=ProgressAnswer, openapi_extra=takes(Progress))
async def progress(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """How far the device is."""
    message = await read(request, Progress)
    return answer(await run_in_threadpool(hub_of(request).registry.report, caller.device_id, message))


@router.post("/sizes", response_model=ObjectSizes, openapi_extra=takes(ObjectList))
async def sizes(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """What objects cost."""
    message = await read(request, ObjectList, max_bytes=MAX_LIST_BYTES)
    return answer(await run_in_threadpool(hub_of(request).repository.sizes, message))


@router.post("/deltas", response_model=DeltaAnswer, openapi_extra=takes(DeltaQuestion))
async def deltas(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """Which deltas are ready; another may be made for later."""
    message = await read(request, DeltaQuestion)
    return answer(await run_in_threadpool(_deltas, hub_of(request), caller.device_id, message))


def _deltas(hub: Hub, device_id: str, message: DeltaQuestion) -> DeltaAnswer:
    if len(message.have) > MAX_DELTA_SOURCES:
        raise InvalidInput(f"have: more than {MAX_DELTA_SOURCES}")
    found = hub.deltas.offers(message.have, message.want)
    if message.have and hub.registry.order(device_id)[1] == message.want:  # else nobody shall keep the hub busy
        hub.deltas.wish(message.have[0], message.want)
    return DeltaAnswer(deltas=found)


@router.post(
    "/pack",
    response_class=StreamingResponse,
    responses={200: {"content": {PACK_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    openapi_extra=takes(ObjectList),
)
async def pack(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """Many objects in one answer."""
    repo = hub_of(request).repository.repo
    message = await read(request, ObjectList, max_bytes=MAX_LIST_BYTES)
    planned = await run_in_threadpool(plan_pack, repo, message)
    headers = {"Content-Length": str(planned.size), "Cache-Control": "no-store"}
    return StreamingResponse(pack_pieces(repo, planned.items), headers=headers, media_type=PACK_TYPE)


@router.get("/events", response_model=None)
async def events(request: Request, caller: Session = Depends(device_caller)) -> Response:
    """The doorbell: server-sent events ``desired``."""
    hub = hub_of(request)
    subscription = hub.broker.device(caller.device_id)
    return stream_events(request, caller, subscription, lambda: desired_event(hub.registry.order(caller.device_id)[0]))
