"""Enrolment, login, questions, reports and the bell, against a small hub over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.simulators.device_hub import HubServer, serve_hub

from wherry.core.errors import Conflict, InvalidInput, NetworkError, NotFound, NotPermitted, TrustError
from wherry.device.hub import (
    Doorbell,
    HubSession,
    LinkFile,
    Reporter,
    backoff_s,
    load_link,
    poll_delay_s,
)
from wherry.device.identity import Enrolment, enrol, load_identity, load_key
from wherry.device.paths import DevicePaths
from wherry.spec.wire import MAX_OBJECTS_PER_QUESTION, Desired, DeviceState, Progress, UpdateState
from wherry.trust.keys import PrivateKey

OWNER = PrivateKey.generate().public


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with serve_hub() as server:
        yield server


@pytest.fixture
def paths(memory: Path) -> DevicePaths:
    return DevicePaths(memory / "device")


def wanted(hub: HubServer) -> Enrolment:
    return Enrolment(hub=hub.url, token="let-me-in", trusted_keys=[OWNER], name="kiosk")


@pytest.fixture
def session(hub: HubServer, paths: DevicePaths) -> Iterator[HubSession]:
    identity, _ = enrol(paths, wanted(hub))
    found = HubSession(identity, load_key(paths, identity), timeout_s=5, tries=1)
    yield found
    found.close()


def test_enrol(hub: HubServer, paths: DevicePaths) -> None:
    hub.accepted = False
    identity, state = enrol(paths, wanted(hub))
    assert state is DeviceState.PENDING
    assert load_identity(paths) == identity
    assert identity.keys() == (OWNER,)
    assert load_key(paths, identity).public.key_id.startswith(identity.device_id)
    again, _ = enrol(paths, wanted(hub))
    assert again.device_id == identity.device_id
    with pytest.raises(Conflict, match="enrolled with"):
        enrol(paths, replace(wanted(hub), hub="http://other.example"))
    with pytest.raises(Conflict, match="other trusted keys"):
        enrol(paths, replace(wanted(hub), trusted_keys=[PrivateKey.generate().public]))


def test_enrol_refused(hub: HubServer, paths: DevicePaths) -> None:
    with pytest.raises(TrustError, match="unknown token"):
        enrol(paths, replace(wanted(hub), token="guess"))
    with pytest.raises(TrustError, match="1 to 16 keys"):
        enrol(paths, replace(wanted(hub), trusted_keys=[]))
    with pytest.raises(NotFound, match="no device is enrolled here"):
        load_identity(paths)


def test_another_devices_key(hub: HubServer, paths: DevicePaths) -> None:
    identity, _ = enrol(paths, wanted(hub))
    paths.key.unlink()
    PrivateKey.generate().save(paths.key)
    with pytest.raises(InvalidInput, match="not the one it was enrolled with"):
        load_key(paths, identity)


def test_desired_is_asked_for_cheaply(hub: HubServer, session: HubSession) -> None:
    hub.assign("ab" * 32)
    first = session.desired()
    assert (first.assignment, first.revision) == (1, "ab" * 32)
    assert session.desired() == first
    assert [status for name, status in hub.calls if name == "desired"] == [200, 304]
    hub.assign("cd" * 32)
    assert session.desired().assignment == 2


def test_a_lapsed_login_is_renewed(hub: HubServer, session: HubSession) -> None:
    session.desired()
    hub.tokens.clear()
    session.desired()
    assert [name for name, _ in hub.calls].count("session") == 2


def test_not_accepted(hub: HubServer, session: HubSession) -> None:
    hub.accepted = False
    with pytest.raises(NotPermitted, match="does not let this device in") as caught:
        session.desired()
    assert "wherry fleet accept" in str(caught.value)
    hub.devices.clear()
    with pytest.raises(NotPermitted, match="does not know this device"):
        session.desired()


def test_nonsense_is_a_network_error(hub: HubServer, session: HubSession) -> None:
    session.login()
    for name, call in (("desired", session.desired), ("sizes", lambda: session.sizes(["a"]))):
        hub.nonsense = {name}
        with pytest.raises(NetworkError, match="nonsense"):
            call()
    hub.nonsense = {"challenge"}
    with pytest.raises(NetworkError, match="nonsense"):
        session.prove(5)


def test_sizes_in_portions(hub: HubServer, session: HubSession) -> None:
    names = [f"{number:x}" for number in range(MAX_OBJECTS_PER_QUESTION + 5)]
    found = session.sizes(names)
    assert (found.transfer_bytes, found.disk_bytes) == (10 * len(names), 20 * len(names))
    assert hub.questions == [MAX_OBJECTS_PER_QUESTION, 5]


def test_prove_logs_in_anew(hub: HubServer, session: HubSession) -> None:
    session.desired()
    session.prove(5)
    assert [name for name, _ in hub.calls].count("session") == 2
    assert [status for name, status in hub.calls if name == "desired"] == [200, 200]


def test_bell(hub: HubServer, session: HubSession, paths: DevicePaths) -> None:
    identity = load_identity(paths)
    heard: list[int | None] = []
    rung = threading.Event()

    def ring(assignment: int | None) -> None:
        heard.append(assignment)
        rung.set()

    bell = Doorbell(lambda: HubSession(identity, load_key(paths, identity)))
    bell.start(ring)
    assert rung.wait(10)
    rung.clear()
    hub.assign("ab" * 32)
    assert rung.wait(10)
    assert heard == [0, 1]
    bell.stop()


def report(number: int) -> Progress:
    return Progress(assignment=1, revision=None, state=UpdateState.IDLE, running=None, sequence=number)


def test_reporter(hub: HubServer, paths: DevicePaths, session: HubSession) -> None:
    identity = load_identity(paths)
    lost: list[str] = []
    reporter = Reporter(lambda: HubSession(identity, load_key(paths, identity), tries=1, timeout_s=5), lost.append)
    for number in range(1, 6):
        reporter.send(report(number))
    assert reporter.flush(10)
    assert [each["sequence"] for each in hub.reports] == [1, 2, 3, 4, 5]
    hub.nonsense = {"progress"}
    reporter.send(report(6))
    assert reporter.flush(10)
    assert "nonsense" in lost[0]
    reporter.stop(1)


def test_numbers_only_grow(memory: Path) -> None:
    path = memory / "link.json"
    first = LinkFile(path)
    used = [first.sequence() for _ in range(300)]
    again = LinkFile(path).sequence()
    assert used == sorted(set(used))
    assert again > used[-1]


def test_clock_is_a_floor(memory: Path) -> None:
    path = memory / "link.json"
    link = LinkFile(path)
    link.heard(1_800_000_000, 10)
    link.heard(1_700_000_000, 100)
    assert load_link(path).clock_floor_s == 1_800_000_000
    link.lost("gone")
    assert load_link(path).problem == "gone"
    link.heard(1_800_000_001, 101)
    assert load_link(path).problem == ""
    path.write_text("rubbish")
    assert load_link(path).next_sequence == 1


def test_delays() -> None:
    desired = Desired(assignment=0, revision=None, poll_interval_s=100, poll_jitter_percent=20, time_s=0)
    assert poll_delay_s(desired, random_01=lambda: 0.0) == 80
    assert poll_delay_s(desired, random_01=lambda: 1.0) == 120
    hasty = Desired(assignment=0, revision=None, poll_interval_s=-5, poll_jitter_percent=900, time_s=0)
    assert poll_delay_s(hasty, random_01=lambda: 0.0) == 1
    assert backoff_s(0, base_s=2, most_s=60, random_01=lambda: 1.0) == 2
    assert backoff_s(3, base_s=2, most_s=60, random_01=lambda: 1.0) == 16
    assert backoff_s(10_000, base_s=2, most_s=60, random_01=lambda: 1.0) == 60


def test_identity_round_trip_keeps_what_it_does_not_know(paths: DevicePaths, hub: HubServer) -> None:
    enrol(paths, wanted(hub))
    text = paths.identity.read_text()
    paths.identity.write_text(text.replace("{", '{"site":"north",', 1))
    assert load_identity(paths).extra == {"site": "north"}
    paths.identity.write_text(text.replace('"format":1', '"format":9'))
    with pytest.raises(InvalidInput, match="format 9"):
        load_identity(paths)
