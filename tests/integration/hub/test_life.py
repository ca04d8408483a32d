"""The life of a device with a hub, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.integration.hub.conftest import Device, HubProcess, Listener, make_revision, push

from wherry.core.errors import HttpError
from wherry.spec.wire import UpdateState
from wherry.store.repository import Repository
from wherry.trust.keys import PrivateKey


def test_enrol_accept_update_and_history(hub: HubProcess, repo: Repository) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    push(person, repo, commit, component)
    device = Device(url=hub.url, key=PrivateKey.generate())
    assert device.enrol(hub.token()) == {"device_id": device.key.public.key_id[:32], "state": "pending"}
    with pytest.raises(HttpError, match="pending") as refused:
        device.session()
    assert refused.value.status == 403

    person.json("POST", "/api/v1/devices/kiosk/accept")
    device.session()
    first = device.desired()
    assert first["assignment"] == 0
    assert first["revision"] is None
    assert abs(first["time_s"] - time.time()) < 5

    person.json("PUT", f"/api/v1/devices/{device.id[:8]}/desired", {"revision": commit})
    assert device.desired()["revision"] == commit
    for state, running in (
        (UpdateState.FETCHING, None),
        (UpdateState.FETCHING, None),
        (UpdateState.TESTING, commit),
        (UpdateState.DONE, commit),
        (UpdateState.DONE, commit),
    ):
        device.report(state, assignment=1, running=running, revision=commit, bytes_done=5, bytes_total=10)
    info = person.json("GET", "/api/v1/devices/kiosk")
    assert info["current"] == info["desired"] == commit
    assert info["update_state"] == "done"
    assert info["online"] is True
    events = [line["event"] for line in person.json("GET", "/api/v1/devices/kiosk/history")["history"]]
    assert events == ["done", "testing", "fetching", "assigned", "accepted", "enrolled"]
    revisions = person.json("GET", "/api/v1/revisions")["revisions"]
    assert revisions == [
        {"commit": commit, "ref": "revision/kiosk", "subject": "first", "time_s": 1_700_000_000, "apps": ["web"]}
    ]


def test_rollback_is_kept_with_its_reason(
    hub: HubProcess, repo: Repository, make_device: Callable[..., Device]
) -> None:
    person = hub.login()
    good, component = make_revision(repo)
    push(person, repo, good, component)
    bad, component = make_revision(repo, subject="second", page=b"oops", parent=good)
    push(person, repo, bad, component, expected=good)
    device = make_device()
    person.json("PUT", "/api/v1/devices/kiosk/desired", {"revision": bad})
    device.report(UpdateState.TESTING, assignment=1, running=bad, revision=bad)
    device.report(
        UpdateState.ROLLED_BACK, assignment=1, running=good, revision=bad, detail="web: unhealthy after 3 tries"
    )
    info = person.json("GET", "/api/v1/devices/kiosk")
    assert (info["current"], info["desired"], info["update_state"]) == (good, bad, "rolled-back")
    history = person.json("GET", "/api/v1/devices/kiosk/history")["history"]
    assert history[0]["event"] == "rolled-back"
    assert history[0]["detail"] == "web: unhealthy after 3 tries"
    assert history[0]["revision"] == bad


def test_doorbell_rings_at_once(hub: HubProcess, repo: Repository, make_device: Callable[..., Device]) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    push(person, repo, commit, component)
    device = make_device()
    listener = Listener(device.client, "/api/device/v1/events")
    assert listener.wait(1)[0].data == '{"assignment":0}'
    latencies = []
    for number in range(1, 6):
        began = time.monotonic()
        person.json("PUT", "/api/v1/devices/kiosk/desired", {"revision": commit})
        event = listener.wait(number + 1)[-1]
        latencies.append(listener.events[-1][0] - began)
        assert event.event == "desired"
        assert event.data == f'{{"assignment":{number}}}'
    assert sorted(latencies)[2] < 0.5, latencies


def test_dashboard_stream_tells_of_changes(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    listener = Listener(hub.login(), "/api/v1/events")
    assert listener.wait(1)[0].event == "hello"
    device = make_device(accepted=False)
    assert f'{{"id":"{device.id}"}}' in [event.data for event in listener.wait(2)]


def test_a_second_stream_ends_the_first_and_rejection_ends_it(
    hub: HubProcess, make_device: Callable[..., Device]
) -> None:
    device = make_device()
    first = Listener(device.client, "/api/device/v1/events")
    first.wait(1)
    second = Listener(device.client, "/api/device/v1/events")
    second.wait(1)
    assert first.ended.wait(5)
    hub.login().json("POST", "/api/v1/devices/kiosk/reject")
    assert second.ended.wait(5)
    with pytest.raises(HttpError) as refused:
        device.desired()
    assert refused.value.status == 401
    with pytest.raises(HttpError, match="rejected"):
        device.session()


def test_same_key_is_same_device_and_costs_no_use(hub: HubProcess) -> None:
    token = hub.token(1)
    device = Device(url=hub.url, key=PrivateKey.generate())
    first = device.enrol(token)
    assert device.enrol(token) == first
    other = Device(url=hub.url, key=PrivateKey.generate())
    with pytest.raises(HttpError, match="spent") as refused:
        other.enrol(token)
    assert refused.value.status == 403
    assert len(hub.login().json("GET", "/api/v1/devices")["devices"]) == 1


def test_challenges_are_good_once_and_for_their_device(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    one, two = make_device("one"), make_device("two")
    challenge = one.challenge()
    one.session(challenge)
    for device, used in ((one, challenge), (two, one.challenge())):
        with pytest.raises(HttpError) as refused:
            device.session(used)
        assert refused.value.status == 401
    stranger = Device(url=hub.url, key=PrivateKey.generate(), id=one.id)
    with pytest.raises(HttpError, match="signature") as refused:
        stranger.session()
    assert refused.value.status == 401


def test_not_modified(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    device = make_device()
    with device.client.open("GET", "/api/device/v1/desired") as response:
        tag = response.headers["ETag"]
        response.read_all()
    with device.client.open("GET", "/api/device/v1/desired", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
        assert response.read_all() == b""


def test_restart_keeps_everything_and_streams_end_cleanly(
    hub: HubProcess, repo: Repository, make_device: Callable[..., Device]
) -> None:
    person = hub.login()
    commit, component = make_revision(repo)
    push(person, repo, commit, component)
    device = make_device()
    person.json("PUT", "/api/v1/devices/kiosk/desired", {"revision": commit})
    before = [person.json("GET", f"/api/v1/{path}") for path in ("revisions", "devices/kiosk/history")]
    listener = Listener(device.client, "/api/device/v1/events")
    listener.wait(1)
    began = time.monotonic()
    assert hub.stop() == 0
    assert time.monotonic() - began < 5
    assert listener.ended.wait(5)
    hub.start()
    after = [person.json("GET", f"/api/v1/{path}") for path in ("revisions", "devices/kiosk/history")]
    assert before == after
    assert device.desired()["revision"] == commit  # sessions live on too


def test_device_and_user_tokens_are_not_interchangeable(hub: HubProcess, make_device: Callable[..., Device]) -> None:
    person, device = hub.login(), make_device()
    with pytest.raises(HttpError) as refused:
        person.json("GET", "/api/device/v1/desired")
    assert refused.value.status == 401
    with pytest.raises(HttpError) as refused:
        device.client.json("GET", "/api/v1/devices")
    assert refused.value.status == 401
