"""State on disk, journal, space, health, apps and attention, each alone."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest
from tests.simulators.device_engine import SimContainer
from tests.simulators.device_supply import app, commit_of

from wherry.core import durable
from wherry.core.errors import (
    HttpError,
    IntegrityError,
    InvalidInput,
    Locked,
    NetworkError,
    NoSpace,
    TrustError,
    Unsupported,
    WherryError,
)
from wherry.core.value import replace
from wherry.device import journal as journal_module
from wherry.device.agent import device_lock, is_held, read_request, write_request
from wherry.device.apps import fingerprint, key_of, spec_of, start_order
from wherry.device.attention import Attention, wake
from wherry.device.health import Decision, Finding, Trial, judge
from wherry.device.interfaces import Interrupted
from wherry.device.journal import Journal
from wherry.device.machine import Broke, Candidate, Order, Origin, Outcome, Refused, State
from wherry.device.paths import DevicePaths
from wherry.device.space import Disk, disk_of, why_not
from wherry.device.state import BALLAST_BYTES, StateFile, load_state
from wherry.device.updater import failure_event
from wherry.spec.container import App, Mount, MountType, RestartName, RestartPolicy
from wherry.spec.revision import HealthPolicy, Revision
from wherry.spec.wire import UpdateState

ORDER = Order(revision=commit_of("one"), assignment=3)


@pytest.fixture
def paths(memory: Path) -> DevicePaths:
    return DevicePaths(memory)


def test_state_round_trip(paths: DevicePaths) -> None:
    assert load_state(paths.state) == State()
    state = State(
        current=commit_of("one"),
        candidate=Candidate(order=ORDER, phase=UpdateState.FETCHING),
        outcome=Outcome(order=ORDER, state=UpdateState.REFUSED, reason="é"),
    )
    StateFile(paths).write(state)
    assert load_state(paths.state) == state
    assert paths.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InvalidInput),
        ('{"format":1}', InvalidInput),
        ('{"format":2,"state":{}}', Unsupported),
        ('{"format":1,"state":{"current":"../../etc"}}', InvalidInput),
        ('{"format":1,"state":{"candidate":{"order":{"revision":"../x"},"phase":"fetching"}}}', InvalidInput),
        ('{"format":1,"state":{"candidate":{"order":{"revision":"%s"},"phase":"done"}}}' % ("a" * 64), InvalidInput),
        ('{"format":1,"state":{"outcome":{"order":{"revision":"%s"},"state":"idle"}}}' % ("a" * 64), InvalidInput),
        ('{"format":1,"state":{"surprise":1}}', InvalidInput),
    ],
)
def test_bad_state(paths: DevicePaths, text: str, error: type[WherryError]) -> None:
    paths.state.write_text(text)
    with pytest.raises(error) as caught:
        load_state(paths.state)
    assert str(paths.state) in str(caught.value)


def test_full_disk_gives_up_the_ballast(paths: DevicePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(paths)
    file.restock()
    assert paths.ballast.stat().st_size == BALLAST_BYTES
    real = durable.write_file

    def full(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if paths.ballast.exists():
            raise NoSpace("cannot write: no space left", where=path)
        real(path, data, mode=mode)

    monkeypatch.setattr(durable, "write_file", full)
    file.write(State(assignment=4))
    assert load_state(paths.state).assignment == 4
    file.restock()
    with pytest.raises(NoSpace):
        monkeypatch.setattr(durable, "write_file", lambda *args, **more: _full())
        file.write(State(assignment=5))
    assert file.state.assignment == 4


def _full() -> None:
    raise NoSpace("cannot write: no space left")


def test_journal_is_bounded(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_FILE_BYTES", 2000)
    journal = Journal(memory / "log")
    for number in range(200):
        journal.write("app", f"line {number}", revision="ab")
    assert sum(path.stat().st_size for path in (memory / "log").iterdir()) <= 4000
    lines = journal.tail(5)
    assert [line.text for line in lines] == [f"line {number}" for number in range(195, 200)]
    with (memory / "log/journal.jsonl").open("ab") as file:
        file.write(b'{"cut sho')
    assert journal.tail(1)[0].text == "line 199"
    Journal(Path("/proc/nowhere")).write("app", "no place to write is no error")


def test_journal_follow(memory: Path) -> None:
    journal = Journal(memory)
    journal.write("app", "before")
    following = journal.follow()
    heard: list[str] = []
    thread = threading.Thread(target=lambda: heard.append(next(following).text), daemon=True)
    thread.start()
    time.sleep(0.1)
    journal.write("app", "after")
    thread.join(5)
    assert heard == ["after"]


def test_space() -> None:
    disk = Disk(total_bytes=100_000_000, free_bytes=20_000_000, free_inodes=10)
    assert disk.reserve_bytes == 5_000_000
    assert why_not(disk, disk_bytes=14_000_000, objects=5) is None
    problem = why_not(disk, disk_bytes=15_000_000, objects=5)
    assert problem is not None
    assert "15020480 bytes" in problem
    assert "15000000 bytes" in problem
    assert "20 MB are free, of which 5 MB are kept in reserve" in problem.replace("20.0", "20")
    assert "room for 10" in str(why_not(disk, disk_bytes=1, objects=11))
    assert why_not(dataclasses.replace(disk, free_bytes=0), disk_bytes=0, objects=0) is None
    assert disk_of(Path("/")).total_bytes > 0


def test_fingerprint() -> None:
    web = app("web:1", environment={"A": "1"})
    assert fingerprint(web) == fingerprint(replace(web, image=replace(web.image, reference="other words")))
    assert fingerprint(web) == fingerprint(replace(web, depends_on={"db": "service_started"}))
    different = [
        replace(web, environment={"A": "2"}),
        replace(web, config="ab" * 32),
        replace(web, command=("x",)),
        replace(web, image=replace(web.image, commit=commit_of("web:2"))),
        replace(web, extra={"newer": True}),
    ]
    assert len({fingerprint(each) for each in [web, *different]}) == len(different) + 1


def test_spec_of() -> None:
    volume = Mount(type=MountType.VOLUME, source="data", target="/data")
    web = app("web:1", command=("serve",), mounts=(volume,), cap_add=("NET_ADMIN",), read_only=True, user="7")
    spec = spec_of("my_web", web, revision=commit_of("r"), config=Path("/x"))
    assert (spec.image, spec.args, spec.mounts, spec.layers) == (web.image.commit, ("serve",), (volume,), ("/x",))
    assert (spec.name, spec.hostname, spec.aliases) == (key_of("my_web", web).container_name, "my-web", ("my_web",))
    assert spec.labels["io.wherry.device.app"] == "my_web"
    host = spec_of("web", replace(web, network_mode="host"), revision=commit_of("r"), config=None)
    assert (host.hostname, host.aliases, host.layers) == ("", (), ())


def revision(**apps: App) -> Revision:
    return Revision(format=1, name="kiosk", apps=apps)


def test_start_order() -> None:
    apps = {
        "a": app("a", depends_on={"c": "service_started"}),
        "b": app("b"),
        "c": app("c", depends_on={"b": "service_healthy"}),
    }
    assert start_order(revision(**apps)) == ("b", "c", "a")
    with pytest.raises(InvalidInput, match="wait for each other: a, b"):
        start_order(
            revision(a=app("a", depends_on={"b": "service_started"}), b=app("b", depends_on={"a": "service_started"}))
        )
    with pytest.raises(InvalidInput, match="unknown condition"):
        start_order(revision(a=app("a", depends_on={"b": "service_shiny"}), b=app("b")))


def container(**settings: object) -> SimContainer:
    return SimContainer(id="1", name="web", image="x", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("restart", "found", "finding"),
    [
        (RestartPolicy(name=RestartName.NO), container(status="running"), Finding.WELL),
        (RestartPolicy(name=RestartName.NO), container(status="running", health="healthy"), Finding.WELL),
        (RestartPolicy(name=RestartName.NO), container(status="running", health="starting"), Finding.WAITING),
        (RestartPolicy(name=RestartName.NO), container(status="running", health="unhealthy"), Finding.UNWELL),
        (RestartPolicy(name=RestartName.NO), container(status="exited", exit_code=0), Finding.WELL),
        (RestartPolicy(name=RestartName.NO), container(status="exited", exit_code=1), Finding.UNWELL),
        (RestartPolicy(name=RestartName.ALWAYS), container(status="exited", exit_code=1), Finding.WAITING),
        (RestartPolicy(name=RestartName.ALWAYS), container(status="restarting", exit_code=1), Finding.WAITING),
        (RestartPolicy(name=RestartName.ALWAYS), container(status="created"), Finding.WAITING),
        (RestartPolicy(name=RestartName.ALWAYS), None, Finding.UNWELL),
    ],
)
def test_judge(restart: RestartPolicy, found: SimContainer | None, finding: Finding) -> None:
    apps = {"web": app("web:1", restart=restart)}
    containers = {} if found is None else {"web": found}
    assert judge(apps, containers, fresh={"web"}).finding is finding
    patient = judge(apps, containers, fresh=set()).finding
    assert patient is (Finding.WAITING if finding is Finding.UNWELL else finding)


def test_trial_waits_for_a_steady_pulse() -> None:
    policy = HealthPolicy(timeout_ms=10_000, stable_ms=2_000, require_hub=True)
    trial = Trial(policy=policy, began_s=100.0, hub_needed=True)
    apps = {"web": app("web:1")}

    def look(now_s: float, **settings: object) -> Decision:
        found = {"web": container(status="running", **settings)}
        return trial.see(now_s, judge(apps, found, fresh={"web"}), found)

    assert look(100.0) is Decision.WAIT
    assert look(101.9, restarts=1) is Decision.WAIT, "it restarted: the count begins anew"
    assert look(103.0, restarts=1) is Decision.WAIT
    assert look(104.0, restarts=1) is Decision.WAIT, "well, but the hub was not reached"
    trial.hub_reached = True
    assert look(104.1, restarts=1) is Decision.PASS


def test_trial_fails_late_and_says_why() -> None:
    policy = HealthPolicy(timeout_ms=10_000, stable_ms=1_000)
    trial = Trial(policy=policy, began_s=0.0, hub_needed=True)
    apps = {"web": app("web:1", restart=RestartPolicy(name=RestartName.ALWAYS))}
    crashing = {"web": container(status="restarting", exit_code=2, restarts=7)}
    assert trial.see(9.9, judge(apps, crashing, fresh={"web"}), crashing) is Decision.WAIT
    assert trial.see(10.0, judge(apps, crashing, fresh={"web"}), crashing) is Decision.FAIL
    assert trial.failure().text == "ended with status 2 and was restarted 7 times (waited for 10 s)"
    well = {"web": container(status="running")}
    trial = Trial(policy=policy, began_s=0.0, hub_needed=True, hub_problem="refused")
    assert trial.see(1.0, judge(apps, well, fresh=()), well) is Decision.WAIT
    assert trial.see(10.0, judge(apps, well, fresh=()), well) is Decision.FAIL
    assert "hub cannot be reached from this revision (tried for 10 s): refused" in trial.failure().text
    trial = Trial(policy=policy, began_s=0.0, hub_needed=False)
    decisions = []
    for tenth in range(200):
        beat = {"web": container(status="running", restarts=tenth)}
        decisions.append(trial.see(tenth / 10, judge(apps, beat, fresh=()), beat))
    assert Decision.PASS not in decisions
    assert decisions[-1] is Decision.FAIL
    assert "did not stay well" in trial.failure().text


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (NetworkError("x"), Broke(reason="x")),
        (HttpError("x", status=503), Broke(reason="x")),
        (HttpError("x", status=401), Broke(reason="x")),
        (HttpError("x", status=404), Refused(reason="x")),
        (TrustError("x"), Refused(reason="x")),
        (InvalidInput("x"), Refused(reason="x")),
        (IntegrityError("x"), Broke(reason="x", lasting=True)),
        (NoSpace("x"), Broke(reason="x", lasting=True)),
    ],
)
def test_what_errors_mean(error: WherryError, event: object) -> None:
    assert failure_event(error) == event


def test_attention(memory: Path) -> None:
    path = memory / "wake"
    assert not wake(path)
    attention = Attention(path)
    begun = attention.now()
    attention.pause(0.05)
    assert attention.now() - begun >= 0.05
    assert wake(path)
    with pytest.raises(Interrupted):
        attention.check(also_news=True)
    attention.check(also_news=False)
    attention.wait(10)
    attention.check(also_news=True)
    threading.Timer(0.05, attention.ring).start()
    attention.wait(10)
    for _ in range(100_000):
        attention.ring()
    attention.heed()
    attention.check(also_news=True)
    attention.request_stop()
    with pytest.raises(Interrupted):
        attention.pause(10)
    attention.wait(10)
    assert attention.stopping
    attention.close()
    assert not wake(path), "nobody listens"


def test_one_at_a_time(paths: DevicePaths) -> None:
    assert not is_held(paths)
    with device_lock(paths):
        assert is_held(paths)
        with pytest.raises(Locked, match="this device is in use by another process"), device_lock(paths):
            pass
    assert not is_held(paths)


def test_requests(paths: DevicePaths) -> None:
    assert read_request(paths) is None
    order = Order(revision=commit_of("x"), origin=Origin.APPLY)
    write_request(paths, order)
    request = read_request(paths)
    assert request is not None
    assert request.order == order
    paths.request.write_text(json.dumps({"order": {"revision": "../../x"}}))
    assert read_request(paths) is None
    assert not paths.request.exists(), "rubbish is not looked at twice"
