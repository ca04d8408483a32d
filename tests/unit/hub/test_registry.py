"""Devices in the database: enrolment, decisions, orders, reports."""

from __future__ import annotations

import base64

import pytest
from sqlalchemy import insert
from tests.unit.hub.conftest import Clock

from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from wherry.hub.accounts import Accounts
from wherry.hub.database import Database
from wherry.hub.registry import Registry, free_name
from wherry.hub.schema import revisions
from wherry.spec.wire import Assignment, DeviceState, EnrolRequest, Progress, UpdateState

A, B = "a" * 64, "b" * 64


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def enrol(registry: Registry, token: str, number: int = 1, name: str = "kiosk") -> str:
    return registry.enrol(EnrolRequest(token=token, public_key=key(number), name=name)).device_id


@pytest.fixture
def token(accounts: Accounts) -> str:
    return accounts.make_enrolment_token(uses=50, expires_in_s=3600).token


@pytest.fixture
def device(registry: Registry, database: Database, token: str) -> str:
    with database.write() as connection:
        for commit in (A, B):
            row = {"commit": commit, "ref": "revision/x", "subject": "s", "time_s": 1, "parent": None, "apps": "[]"}
            connection.execute(insert(revisions).values(row))
    found = enrol(registry, token)
    registry.accept(found, by="ann")
    return found


def test_tokens_are_used_up_expire_and_are_revoked(registry: Registry, accounts: Accounts, clock: Clock) -> None:
    made = accounts.make_enrolment_token(uses=2, expires_in_s=100)
    enrol(registry, made.token, 1)
    enrol(registry, made.token, 1)
    enrol(registry, made.token, 2)
    with pytest.raises(NotPermitted):
        enrol(registry, made.token, 3)
    enrol(registry, made.token, 1)  # its own token goes on being good for it
    other = accounts.make_enrolment_token(uses=2, expires_in_s=100)
    clock.now += 100
    with pytest.raises(NotPermitted):
        enrol(registry, other.token, 3)
    third = accounts.make_enrolment_token(uses=2, expires_in_s=100)
    accounts.revoke_enrolment_token(third.id)
    for bad in (third.token, "", "whe_nonsense", "x" * 10_000):
        with pytest.raises(NotPermitted):
            enrol(registry, bad, 3)


def test_malformed_enrolments(registry: Registry, token: str) -> None:
    for request in (
        EnrolRequest(token=token, public_key="AAAA"),
        EnrolRequest(token=token, public_key="not base64!"),
        EnrolRequest(token=token, public_key=key(1), name="../x"),
        EnrolRequest(token=token, public_key=key(1), name="x" * 64),
        EnrolRequest(token=token, public_key=key(1), target="x" * 200),
        EnrolRequest(token=token, public_key=key(1), facts={str(number): "" for number in range(40)}),
        EnrolRequest(token=token, public_key=key(1), facts={"a": "x" * 300}),
    ):
        with pytest.raises(InvalidInput):
            registry.enrol(request)
    assert registry.list() == ()


def test_names_are_made_different(registry: Registry, token: str) -> None:
    for number in range(1, 4):
        enrol(registry, token, number)
    enrol(registry, token, 9, name="")
    assert [info.name for info in registry.list()][1:] == ["kiosk", "kiosk-2", "kiosk-3"]
    assert registry.list()[0].name.startswith("device-")
    assert len(free_name("x" * 63, {"x" * 63})) <= 63


def test_found_by_name_id_and_prefix(registry: Registry, device: str) -> None:
    for name in (device, device[:4], device[:12].upper(), "kiosk"):
        assert registry.get(name).id == device
    for name in (device[:3], "kios", "", "zzzz", "%", "____"):
        with pytest.raises(NotFound):
            registry.get(name)


def test_orders(registry: Registry, device: str, token: str) -> None:
    assert registry.order(device) == (0, None)
    assert registry.assign("kiosk", Assignment(revision=A), by="ann").assignment == 1
    assert registry.assign("kiosk", Assignment(revision=A), by="ann").assignment == 2
    assert registry.order(device) == (2, A)
    with pytest.raises(NotFound):
        registry.assign("kiosk", Assignment(revision="c" * 64), by="ann")
    pending = enrol(registry, token, 2, "other")
    with pytest.raises(Conflict):
        registry.assign(pending, Assignment(revision=A), by="ann")


def test_a_report_about_an_older_order_does_not_hide_the_new_one(registry: Registry, device: str) -> None:
    registry.assign(device, Assignment(revision=A), by="ann")
    report = Progress(assignment=1, revision=A, state=UpdateState.DONE, running=A, sequence=1)
    assert registry.report(device, report).accepted
    assert registry.get(device).update_state is UpdateState.DONE
    registry.assign(device, Assignment(revision=B), by="ann")
    info = registry.get(device)
    assert (info.update_state, info.current, info.desired) == (UpdateState.IDLE, A, B)
    late = Progress(assignment=1, revision=A, state=UpdateState.DONE, running=A, sequence=2)
    assert registry.report(device, late).assignment == 2
    assert registry.get(device).update_state is UpdateState.IDLE


def test_enrolling_again_starts_the_count_again(registry: Registry, device: str, token: str) -> None:
    report = Progress(assignment=0, revision=None, state=UpdateState.IDLE, running=A, sequence=900)
    assert registry.report(device, report).accepted
    newer = Progress(assignment=0, revision=None, state=UpdateState.IDLE, running=B, sequence=1)
    assert not registry.report(device, newer).accepted
    enrol(registry, token)
    assert registry.report(device, newer).accepted
    assert registry.get(device).state is DeviceState.ACCEPTED


def test_presence(registry: Registry, device: str, clock: Clock) -> None:
    registry.seen(device)
    assert registry.get(device).online
    clock.now += 59
    assert registry.get(device).online
    clock.now += 5
    assert not registry.get(device).online
    registry.tick()
    before = registry._broker.version
    registry.tick()
    assert registry._broker.version == before
    registry.seen(device)
    registry.tick()
    assert registry._broker.version != before


def test_history_is_bounded(registry: Registry, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.hub.registry.MAX_HISTORY", 20)
    for number in range(320):
        state = UpdateState.FETCHING if number % 2 else UpdateState.FAILED
        registry.report(
            device,
            Progress(assignment=0, revision=A, state=state, running=None, sequence=number, attempt=number),
        )
    found = registry.history(device, limit=10_000)
    assert 20 <= len(found) <= 120
    assert found[0].event == "fetching"


def test_rejected_and_removed(registry: Registry, accounts: Accounts, device: str) -> None:
    token = accounts.open_device_session(device)
    assert accounts.find_session(token) is not None
    assert registry.reject("kiosk", by="ann").state is DeviceState.REJECTED
    assert accounts.find_session(token) is None
    registry.accept("kiosk", by="ann")
    registry.accept("kiosk", by="ann")
    events = [(line.event, line.by) for line in registry.history("kiosk")]
    assert events == [("accepted", "ann"), ("rejected", "ann"), ("accepted", "ann"), ("enrolled", "")]
    token = accounts.open_device_session(device)
    registry.remove("kiosk")
    assert accounts.find_session(token) is None
    with pytest.raises(NotFound):
        registry.report(device, Progress(assignment=0, revision=None, state=UpdateState.IDLE, running=None))
