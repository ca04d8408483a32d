"""Restarts, health, users, state on disk, packets: what a life is decided by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.core.errors import CommandNotFound, Conflict, InvalidInput, NotFound, WherryError
from wherry.engine import person, state, wire
from wherry.engine.bundle import signal_number
from wherry.engine.health import HEALTHY, STARTING, UNHEALTHY, Health
from wherry.engine.info import describe
from wherry.engine.names import random_name
from wherry.engine.records import LastRun, ProbeResult, RunState
from wherry.engine.restart import Backoff, wants_restart
from wherry.engine.spec import BareSettings, ContainerConfig, ContainerSpec, resolve
from wherry.engine.state import Paths
from wherry.linux import packets
from wherry.runtime.users import Identity, look_up
from wherry.spec.container import Healthcheck, RestartName, RestartPolicy

ALWAYS = RestartPolicy(name=RestartName.ALWAYS)


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts", "stopped", "wanted"),
    [
        (RestartPolicy(), 1, 0, False, False),
        (ALWAYS, 0, 99, False, True),
        (ALWAYS, 1, 0, True, False),
        (RestartPolicy(name=RestartName.UNLESS_STOPPED), 0, 0, False, True),
        (RestartPolicy(name=RestartName.UNLESS_STOPPED), 0, 0, True, False),
        (RestartPolicy(name=RestartName.ON_FAILURE), 0, 0, False, False),
        (RestartPolicy(name=RestartName.ON_FAILURE), 1, 1000, False, True),
        (RestartPolicy(name=RestartName.ON_FAILURE, max_retries=2), 1, 1, False, True),
        (RestartPolicy(name=RestartName.ON_FAILURE, max_retries=2), 1, 2, False, False),
    ],
)
def test_restart(policy: RestartPolicy, exit_code: int, restarts: int, stopped: bool, wanted: bool) -> None:
    assert wants_restart(policy, exit_code=exit_code, restarts=restarts, stopped=stopped) is wanted


def test_backoff_doubles_and_calms_down() -> None:
    backoff = Backoff()
    assert [backoff.delay_s(1) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    for _ in range(20):
        last = backoff.delay_s(1)
    assert last == 60
    assert backoff.delay_s(10) == 0.1
    assert backoff.delay_s(9.9) == 0.2


def probe(exit_code: int) -> ProbeResult:
    return ProbeResult(started_s=0, finished_s=0, exit_code=exit_code)


def test_health_states() -> None:
    health = Health(Healthcheck(test=("CMD", "x"), interval_ms=10_000, retries=2), 100)
    assert (health.status, health.due_s) == (STARTING, 110)
    assert health.record(probe(1), 111) is False
    assert health.due_s == 121
    assert health.record(probe(-1), 122) is True
    assert health.status == UNHEALTHY
    assert health.record(probe(0), 123) is True
    assert (health.status, health.failing_streak) == (HEALTHY, 0)
    assert health.record(probe(1), 124) is False
    assert health.record(probe(0), 125) is False
    for _ in range(9):
        health.record(probe(1), 126)
    assert (health.status, len(health.probes)) == (UNHEALTHY, 5)


def test_failures_in_the_start_period_do_not_count() -> None:
    check = Healthcheck(test=("CMD", "x"), interval_ms=30_000, retries=1, start_period_ms=20_000)
    health = Health(check, 0)
    assert health.due_s == 5, "in the start period it is looked sooner"
    health.record(probe(1), 5)
    health.record(probe(1), 10)
    assert (health.status, health.failing_streak) == (STARTING, 0)
    assert health.record(probe(0), 12)
    assert (health.status, health.due_s) == (HEALTHY, 42)
    health.record(probe(1), 13)
    assert health.status == UNHEALTHY, "once it was well, the start period is over"


PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:34::/var/www:/bin/sh\n42:x:7:8::/h:/x\nbig:x:99999999999:1::/:\n"
)
GROUP = "root:x:0:\nwww:x:34:\nextra:x:50:root,web\nmore:x:40:web\nno:x:z:web\n"


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("", Identity(home="/root", groups=(50,))),
        ("web", Identity(uid=33, gid=34, groups=(40, 50), home="/var/www")),
        ("33", Identity(uid=33, gid=34, groups=(40, 50), home="/var/www")),
        ("web:extra", Identity(uid=33, gid=50, home="/var/www")),
        ("1000", Identity(uid=1000, gid=0)),
        ("1000:1001", Identity(uid=1000, gid=1001)),
        ("42", Identity(uid=7, gid=8, home="/h")),
    ],
)
def test_users(text: str, identity: Identity) -> None:
    assert look_up(text, PASSWD, GROUP) == identity


@pytest.mark.parametrize("text", ["nobody", "web:nogroup", "big", "-1"])
def test_unknown_users(text: str) -> None:
    with pytest.raises(NotFound):
        look_up(text, PASSWD, GROUP)


@pytest.mark.parametrize("text", ["4294967295", "0:99999999999", "2147483648"])
def test_ids_out_of_range(text: str) -> None:
    with pytest.raises(InvalidInput):
        look_up(text, PASSWD, GROUP)


def config(number: int = 1, name: str = "a") -> ContainerConfig:
    return resolve(
        ContainerSpec(image="i", args=("x",)),
        BareSettings(),
        container_id=f"{number:064x}",
        name=name,
        created_s=1,
        image="i",
        commit="",
    )


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(tmp_path / "root", tmp_path / "run")
    found.make()
    return found


def test_folders_and_names(paths: Paths) -> None:
    state.add_container(paths, config())
    assert state.read_config(paths, config().id) == config()
    assert state.find(paths, "a") == state.find(paths, "0" * 10) == config().id
    with pytest.raises(Conflict, match="is taken"):
        state.add_container(paths, config(2))
    state.add_container(paths, config(2, "b"))
    with pytest.raises(InvalidInput, match="begins 2"):
        state.find(paths, "00")
    for text in ("", "c", "../a", ".new", "a/b"):
        with pytest.raises(NotFound):
            state.find(paths, text)
    state.drop_container(paths, config().id, "a")
    assert state.all_ids(paths) == [config(2, "b").id]
    state.add_container(paths, config(3, "a"))


def test_half_made_and_half_removed(paths: Paths) -> None:
    (Path(paths.containers) / ".new-x/upper").mkdir(parents=True)
    (Path(paths.containers) / ".rm-y/upper/deep").mkdir(parents=True)
    (Path(paths.containers) / ".rm-y/upper/deep/link").symlink_to("/etc")
    (Path(paths.names) / "a").symlink_to("f" * 64)
    state.add_container(paths, config())
    assert [path.name for path in Path(paths.containers).iterdir()] == [config().id]
    assert Path("/etc/passwd").exists()


def test_life_lock(paths: Paths) -> None:
    run_dir = Path(paths.run_dir(config().id))
    run_dir.mkdir()
    assert not state.is_kept(paths, config().id)
    fd = state.take_life_lock(paths, config().id)
    assert fd is not None
    assert state.is_kept(paths, config().id)
    assert state.take_life_lock(paths, config().id) is None
    (run_dir / "etc").mkdir()
    assert not state.is_lost(paths, config().id)
    os.close(fd)
    assert state.is_lost(paths, config().id)
    state.finish_run(paths, config().id)
    assert not state.is_lost(paths, config().id)


def test_container_lock_goes_with_the_container(paths: Paths) -> None:
    state.add_container(paths, config())
    with state.container_lock(paths, config().id) as held:
        assert held
        with state.container_lock(paths, config().id, wait=False) as second:
            assert not second
    assert list(Path(paths.running).glob("*.lock"))
    with state.container_lock(paths, config().id):
        state.drop_container(paths, config().id, "a")
    assert not list(Path(paths.running).glob("*.lock"))


def test_records(paths: Paths) -> None:
    state.add_container(paths, config())
    assert state.read_last(paths, config().id) is None
    for durably in (False, True):
        last = LastRun(started_s=1.5, finished_s=2.5, exit_code=3, oom_killed=durably)
        state.write_last(paths, config().id, last, durably=durably)
        assert state.read_last(paths, config().id) == last
    (Path(paths.container(config().id)) / "last.json").write_bytes(b"\0\0\0")
    assert state.read_last(paths, config().id) is None, "a power cut ate it"


def test_describe() -> None:
    assert describe(config(), None, None).status == "created"
    ended = describe(config(), None, LastRun(started_s=1, finished_s=2, exit_code=4))
    assert (ended.status, ended.exit_code) == ("exited", 4)
    lost = describe(config(), None, LastRun(started_s=1))
    assert (lost.status, lost.exit_code, lost.error) == ("exited", 137, "the machine went down while it ran")
    refused = describe(config(), None, LastRun(finished_s=2, exit_code=127, error="x"))
    assert (refused.status, refused.exit_code) == ("created", 127)
    running = describe(config(), RunState(status="running", supervisor_pid=1, pid=2, started_s=3), LastRun(started_s=3))
    assert (running.status, running.pid, running.exit_code) == ("running", 2, None)
    paused = describe(config(), RunState(status="restarting", supervisor_pid=1, exit_code=9), None)
    assert (paused.status, paused.exit_code) == ("restarting", 9)


def test_detach_keys() -> None:
    keys = person.DetachFilter()
    assert keys.feed(b"abc") == (b"abc", False)
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x11later") == (b"", True)
    assert person.DetachFilter().feed(b"x\x10\x11y") == (b"x", True)


@pytest.mark.parametrize(
    "error",
    [
        Conflict("w", where="x", hint="h"),
        CommandNotFound("w"),
        WherryError("w", hint="h"),
    ],
)
def test_errors_go_to_another_process(error: WherryError) -> None:
    found = wire.load_error(wire.dump_error(error))
    assert type(found) is type(error)
    assert str(found) == str(error)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}"])
def test_silence_is_an_error(data: bytes) -> None:
    assert "died" in str(wire.load_error(data))


@pytest.mark.parametrize(("text", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37)])
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOPE", "SIGRTMIN+99", "SIG_DFL"])
def test_no_signals(text: str) -> None:
    with pytest.raises(InvalidInput):
        signal_number(text)


def test_names() -> None:
    names = {random_name() for _ in range(50)}
    assert len(names) > 40
    assert all(name.replace("_", "").isalpha() for name in names)


def test_packets_keep_apart_and_carry_descriptors() -> None:
    ours, theirs = packets.pair()
    reader, writer = os.pipe()
    packets.send(ours, b"ia")
    packets.send(ours, b"ib", [writer])
    assert packets.receive(theirs, 100) == (b"ia", [])
    data, (copy,) = packets.receive(theirs, 100)
    assert data == b"ib"
    assert not os.get_inheritable(copy)
    os.write(copy, b"x")
    assert os.read(reader, 1) == b"x"
    ours.close()
    assert packets.receive(theirs, 100) == (b"", [])
    theirs.close()
    for fd in (reader, writer, copy):
        os.close(fd)
