"""``/api/v1``: what people call, by ``wherry fleet``, by a script, or from the dashboard."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from wherry.hub.accounts import USER_SESSION_S, Session
from wherry.hub.broker import Event
from wherry.hub.context import hub_of
from wherry.hub.messages import answer, read, takes
from wherry.hub.registry import MAX_HISTORY
from wherry.hub.security import try_login, unauthorized, user_caller
from wherry.hub.streams import stream_events
from wherry.spec.wire import (
    USER_API,
    Assignment,
    DeviceInfo,
    DeviceList,
    EnrolmentToken,
    EnrolmentTokenList,
    EnrolmentTokenRequest,
    History,
    LoginAnswer,
    LoginRequest,
    RevisionList,
)

router = APIRouter(prefix=USER_API, tags=["user"])
User = Annotated[Session, Depends(user_caller)]


@router.post("/login", response_model=LoginAnswer, openapi_extra=takes(LoginRequest))
async def login(request: Request) -> Response:
    """Changes a password into a token."""
    message = await read(request, LoginRequest)
    token = await run_in_threadpool(try_login, hub_of(request), request, message.user, message.password)
    if token is None:
        raise unauthorized("wrong user or password")
    return answer(LoginAnswer(token=token, user=message.user, expires_in_s=USER_SESSION_S))


@router.post("/logout", status_code=204, response_model=None)
def logout(request: Request, caller: User) -> Response:
    """Ends this session."""
    hub = hub_of(request)
    hub.accounts.close_session(caller.token_hash)
    hub.broker.drop_user(caller.user)
    return Response(status_code=204)


@router.get("/devices", response_model=DeviceList)
def devices(request: Request, caller: User) -> Response:
    """Every device."""
    return answer(DeviceList(devices=hub_of(request).registry.list()))


@router.get("/devices/{device}", response_model=DeviceInfo)
def device(request: Request, caller: User, device: str) -> Response:
    """One device."""
    return answer(hub_of(request).registry.get(device))


@router.post("/devices/{device}/accept", response_model=DeviceInfo)
def accept(request: Request, caller: User, device: str) -> Response:
    """Lets a device in."""
    return answer(hub_of(request).registry.accept(device, by=caller.user))


@router.post("/devices/{device}/reject", response_model=DeviceInfo)
def reject(request: Request, caller: User, device: str) -> Response:
    """Keeps a device out."""
    return answer(hub_of(request).registry.reject(device, by=caller.user))


@router.delete("/devices/{device}", status_code=204, response_model=None)
def remove(request: Request, caller: User, device: str) -> Response:
    """Forgets a device."""
    hub_of(request).registry.remove(device)
    return Response(status_code=204)


@router.put("/devices/{device}/desired", response_model=DeviceInfo, openapi_extra=takes(Assignment))
async def assign(request: Request, caller: User, device: str) -> Response:
    """Orders a device to a revision."""
    message = await read(request, Assignment)
    hub = hub_of(request)
    found = await run_in_threadpool(hub.registry.assign, device, message, by=caller.user)
    hub.deltas.wish(found.current, found.desired)
    return answer(found)


@router.get("/devices/{device}/history", response_model=History)
def history(
    request: Request, caller: User, device: str, limit: Annotated[int, Query(ge=1, le=MAX_HISTORY)] = 200
) -> Response:
    """What happened to a device, the newest first."""
    return answer(History(history=hub_of(request).registry.history(device, limit=limit)))


@router.get("/revisions", response_model=RevisionList)
def revisions(request: Request, caller: User) -> Response:
    """Every revision, the newest first."""
    return answer(RevisionList(revisions=hub_of(request).repository.revisions()))


@router.get("/enrolment-tokens", response_model=EnrolmentTokenList)
def tokens(request: Request, caller: User) -> Response:
    """Every enrolment token, without the secrets."""
    return answer(EnrolmentTokenList(tokens=hub_of(request).accounts.list_enrolment_tokens()))


@router.post("/enrolment-tokens", response_model=EnrolmentToken, openapi_extra=takes(EnrolmentTokenRequest))
async def make_token(request: Request, caller: User) -> Response:
    """Makes an enrolment token."""
    message = await read(request, EnrolmentTokenRequest)
    made = await run_in_threadpool(
        hub_of(request).accounts.make_enrolment_token,
        uses=message.uses,
        expires_in_s=message.expires_in_s,
        note=message.note,
        by=caller.user,
    )
    return answer(made)


@router.delete("/enrolment-tokens/{token_id}", status_code=204, response_model=None)
def revoke_token(request: Request, caller: User, token_id: str) -> Response:
    """Revokes an enrolment token."""
    hub_of(request).accounts.revoke_enrolment_token(token_id)
    return Response(status_code=204)


@router.get("/events", response_model=None)
async def events(request: Request, caller: User) -> Response:
    """What changes, as server-sent events."""
    broker = hub_of(request).broker
    return stream_events(
        request,
        caller,
        broker.user(caller.user),
        lambda: Event(name="hello", key="", data={"version": broker.version}),
    )
