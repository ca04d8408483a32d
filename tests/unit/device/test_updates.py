"""Updates of a simulated device: what is committed, refused, tried again and rolled back, and what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulators.device_rig import Rig
from tests.simulators.device_supply import app

from wherry.core.errors import IntegrityError, NoSpace, TrustError, Unhealthy
from wherry.device import space
from wherry.device.machine import MAX_STRIKES, Order, Origin
from wherry.spec.container import App, Healthcheck, PortMapping, RestartName, RestartPolicy
from wherry.spec.revision import HealthPolicy, Revision
from wherry.spec.wire import UpdateState

CHECKED = Healthcheck(test=("CMD", "true"))
JOB = RestartPolicy(name=RestartName.NO)
ALWAYS = RestartPolicy(name=RestartName.ALWAYS)


def test_first_revision(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1"), "db": app("db:1")})
    rig.deploy(1, one)
    assert rig.state.current == one
    assert rig.state.last_good is None
    assert set(rig.running()) == {"web", "db"}
    states = [report.state for report in rig.hub.reports()]
    assert states[-1] is UpdateState.DONE
    assert list(dict.fromkeys(state for state in states if state is not UpdateState.IDLE)) == [
        UpdateState.PLANNING,
        UpdateState.FETCHING,
        UpdateState.VERIFYING,
        UpdateState.STAGING,
        UpdateState.TRYING,
        UpdateState.TESTING,
        UpdateState.DONE,
    ]
    assert all(report.running is None for report in rig.hub.reports()[:-1]), "success is told only when it is one"
    assert rig.hub.reports()[-1].running == one
    numbers = [report.sequence for report in rig.hub.reports()]
    assert numbers == sorted(set(numbers))


def test_only_changed_apps_restart(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1"), "db": app("db:1"), "old": app("old:1")})
    rig.deploy(1, one)
    before = rig.running()
    two = rig.offer("kiosk", {"web": app("web:2"), "db": app("db:1"), "new": app("new:1")})
    rig.deploy(2, two)
    after = rig.running()
    assert set(after) == {"web", "db", "new"}
    assert after["db"] == before["db"], "the same container, and not touched"
    assert after["web"].id != before["web"].id
    assert (rig.state.current, rig.state.last_good) == (two, one)
    assert {each.id for each in rig.engine.list()} == {each.id for each in [*before.values(), *after.values()]}


def test_cleaning_keeps_two_revisions(rig: Rig) -> None:
    revisions = [
        rig.offer("kiosk", {"web": app(f"web:{number}", config="ab" * 31 + f"0{number}")}) for number in (1, 2, 3)
    ]
    for number, revision in enumerate(revisions, start=1):
        rig.deploy(number, revision)
    assert not rig.supply.has(revisions[0])
    assert rig.supply.has(revisions[1])
    assert {path.name for path in rig.paths.deployments.iterdir()} == set(revisions[1:])
    assert len(list(rig.paths.config.iterdir())) == 2
    assert len(rig.engine.list()) == 2
    assert not rig.state.dirty


def test_config_outlives_the_revision_that_brought_it(rig: Rig) -> None:
    side = app("side:1", config="cd" * 32)
    for number in (1, 2, 3):
        rig.deploy(number, rig.offer("kiosk", {"web": app(f"web:{number}"), "side": side}))
    (layer,) = rig.running()["side"].layers
    assert Path(layer, "etc", "side.conf").exists(), "the app runs on it still"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (app("web:2", environment={"SIM": "unhealthy"}, healthcheck=CHECKED), "health check"),
        (app("web:2", environment={"SIM": "exit:3"}), "status 3"),
        (app("web:2", environment={"SIM": "refuse"}), "cannot be invoked"),
        (app("web:2", environment={"SIM": "slow:1000000"}, healthcheck=CHECKED), "not passed yet (waited for 0.3 s)"),
        (app("web:2", ports=(PortMapping(container_port=80, host_port=5432),)), "port 5432 is in use"),
    ],
)
def test_rolled_back(rig: Rig, broken: App, why: str) -> None:
    port = (PortMapping(container_port=5432, host_port=5432),)
    one = rig.offer("kiosk", {"web": app("web:1"), "db": app("db:1", ports=port)})
    rig.deploy(1, one)
    before = rig.running()
    two = rig.offer("kiosk", {"web": broken, "db": app("db:1", ports=port), "extra": app("extra:1")})
    agent = rig.deploy(2, two)
    after = rig.running()
    assert set(after) == {"web", "db"}
    assert after["db"] == before["db"]
    assert after["web"].id == before["web"].id, "the old container was started again"
    assert after["web"].starts == 2
    assert (rig.state.current, rig.state.last_good, rig.state.candidate) == (one, None, None)
    last = rig.hub.reports()[-1]
    assert (last.state, last.running, last.revision) == (UpdateState.ROLLED_BACK, one, two)
    assert last.detail.startswith("app web")
    assert why in last.detail
    assert isinstance(agent.updater.last_error, Unhealthy)
    assert {each.id for each in rig.engine.list()} == {each.id for each in before.values()}, "the others are removed"
    rig.once()
    assert rig.hub.reports()[-1].state is UpdateState.ROLLED_BACK, "it is not tried again by itself"
    assert rig.running() == after


def test_reason_quotes_the_app(rig: Rig) -> None:
    rig.deploy(1, rig.offer("kiosk", {"web": app("web:1", environment={"SIM": "exit:1"})}))
    assert "last words of web-" in rig.hub.reports()[-1].detail


def test_first_revision_rolled_back_to_nothing(rig: Rig) -> None:
    rig.deploy(1, rig.offer("kiosk", {"web": app("web:1", environment={"SIM": "exit:1"}), "db": app("db:1")}))
    assert rig.state.current is None
    assert rig.engine.list() == []
    assert rig.hub.reports()[-1].state is UpdateState.ROLLED_BACK
    good = rig.offer("kiosk", {"web": app("web:2")})
    rig.deploy(2, good)
    assert rig.state.current == good


def test_hub_lost_from_the_candidate(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.deploy(1, one)
    two = rig.offer("kiosk", {"firewall": app("firewall:1")})
    rig.hub.lost_from("firewall")
    rig.deploy(2, two)
    assert rig.state.current == one
    assert set(rig.running()) == {"web"}
    assert "the hub cannot be reached from this revision" in rig.hub.reports()[-1].detail


def test_hub_lost_but_not_asked_for(rig: Rig) -> None:
    rig.hub.lost_from("firewall")
    two = rig.offer("kiosk", {"firewall": app("firewall:1")}, health={"require_hub": False})
    rig.deploy(1, two)
    assert rig.state.current == two


def test_hub_down(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.deploy(1, one)
    rig.hub.go_down()
    agent = rig.once()
    assert agent.hub_error is not None
    assert set(rig.running()) == {"web"}
    rig.hub.come_up()
    assert rig.once().hub_error is None


def test_link_lost_in_fetching(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.supply.reachable = False
    for _ in range(2 * MAX_STRIKES):
        rig.deploy(1, one)
        candidate = rig.state.candidate
        assert candidate is not None
        assert candidate.phase is UpdateState.FAILED, "a lost link is never given up"
    rig.supply.reachable = True
    rig.once()
    assert rig.state.current == one


def test_unsigned_is_refused_once(rig: Rig) -> None:
    bad = rig.supply.offer(Revision(format=1, name="kiosk", apps={"web": app("web:1")}), signed=False)
    agent = rig.deploy(1, bad)
    assert isinstance(agent.updater.last_error, TrustError)
    assert rig.state.candidate is None
    assert rig.hub.reports()[-1].state is UpdateState.REFUSED
    assert not rig.supply.has(bad)
    planned = [report for report in rig.hub.reports() if report.state is UpdateState.PLANNING]
    rig.once()
    assert [report for report in rig.hub.reports() if report.state is UpdateState.PLANNING] == planned


def test_unknown_revision_is_refused(rig: Rig) -> None:
    from tests.simulators.device_supply import commit_of

    rig.deploy(1, commit_of("nothing"))
    assert rig.hub.reports()[-1].state is UpdateState.REFUSED
    assert "does not have it" in rig.hub.reports()[-1].detail


def test_spoiled_objects_are_given_up(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.supply.spoil(one)
    for number in range(1, MAX_STRIKES + 1):
        agent = rig.deploy(1, one)
        assert isinstance(agent.updater.last_error, IntegrityError)
        expected = UpdateState.REFUSED if number == MAX_STRIKES else UpdateState.FAILED
        assert rig.hub.reports()[-1].state is expected
    assert "given up after 3 tries" in rig.hub.reports()[-1].detail
    rig.supply.mend(one)
    rig.once()
    assert rig.state.current is None, "not for the old order"
    rig.deploy(2, one)
    assert rig.state.current == one, "but for a new one"


def test_no_space(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.device import updater

    monkeypatch.setattr(updater, "disk_of", lambda path: space.Disk(total_bytes=10**8, free_bytes=8 * 10**6))
    one = rig.supply.offer(Revision(format=1, name="kiosk", apps={"web": app("web:1")}), object_bytes=2 * 10**6)
    agent = rig.deploy(1, one)
    assert isinstance(agent.updater.last_error, NoSpace)
    detail = rig.hub.reports()[-1].detail
    assert rig.hub.reports()[-1].state is UpdateState.REFUSED
    assert "6.02 MB" in detail
    assert "8 MB are free" in detail
    assert not rig.supply.has(one)


def test_wrong_target(rig: Rig) -> None:
    rig.deploy(1, rig.offer("kiosk", {"web": app("web:1")}, target="riscv64"))
    assert "for riscv64" in rig.hub.reports()[-1].detail
    assert rig.hub.reports()[-1].state is UpdateState.REFUSED


def test_withdrawn(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.supply.reachable = False
    rig.deploy(1, one)
    rig.hub.assign(2, None)
    rig.once()
    assert rig.state.candidate is None
    assert rig.hub.reports()[-1].state is UpdateState.CANCELLED


def test_replaced_before_the_switch(rig: Rig) -> None:
    one, two = (rig.offer("kiosk", {"web": app(f"web:{number}")}) for number in (1, 2))
    rig.supply.reachable = False
    rig.deploy(1, one)
    rig.supply.reachable = True
    rig.deploy(2, two)
    assert rig.state.current == two
    assert UpdateState.CANCELLED in [report.state for report in rig.hub.reports() if report.assignment == 1]


def test_same_revision_again_touches_nothing(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.deploy(1, one)
    before = rig.running()
    rig.deploy(2, one)
    assert rig.running() == before
    assert (rig.state.current, rig.state.last_good) == (one, None)
    assert (rig.hub.reports()[-1].state, rig.hub.reports()[-1].assignment) == (UpdateState.DONE, 2)


def test_order_of_start(rig: Rig) -> None:
    apps = {
        "a-web": app("web:1", depends_on={"db": "service_healthy", "migrate": "service_completed_successfully"}),
        "db": app("db:1", environment={"SIM": "slow:3"}, healthcheck=CHECKED),
        "migrate": app("migrate:1", environment={"SIM": "exit:0"}, restart=JOB, depends_on={"db": "service_healthy"}),
    }
    one = rig.offer("kiosk", apps, health={"timeout_ms": 5000})
    rig.deploy(1, one)
    assert rig.state.current == one
    started = sorted(rig.engine.list(), key=lambda each: each.started_s or 0)
    assert [each.labels["io.wherry.device.app"] for each in started] == ["db", "migrate", "a-web"]


def test_dependency_that_never_comes(rig: Rig) -> None:
    apps = {
        "web": app("web:1", depends_on={"migrate": "service_completed_successfully"}),
        "migrate": app("migrate:1", environment={"SIM": "exit:2"}, restart=JOB),
    }
    rig.deploy(1, rig.offer("kiosk", apps))
    assert "app web: depends on migrate, which ended with status 2" in rig.hub.reports()[-1].detail


def test_reboot_starts_everything_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.device import updater

    apps = {"web": app("web:1", restart=ALWAYS), "job": app("job:1", environment={"SIM": "exit:0"}, restart=JOB)}
    rig.deploy(1, rig.offer("kiosk", apps))
    starts = {each.name: each.starts for each in rig.engine.list()}
    rig.once()
    assert {each.name: each.starts for each in rig.engine.list()} == starts, "the job had its run"
    rig.engine.reboot()
    monkeypatch.setattr(updater, "boot_id", lambda: "another boot")
    rig.hub.go_down()
    rig.once()
    assert {each.name: each.starts for each in rig.engine.list()} == {name: n + 1 for name, n in starts.items()}


def test_a_monitor_that_died_is_replaced(rig: Rig) -> None:
    rig.deploy(1, rig.offer("kiosk", {"web": app("web:1", restart=ALWAYS)}))
    rig.engine.reboot()
    rig.once()
    assert set(rig.running()) == {"web"}


def test_orders_by_hand(rig: Rig) -> None:
    one, two = (rig.offer("kiosk", {"web": app(f"web:{number}")}) for number in (1, 2))
    rig.deploy(1, one)
    rig.deploy(2, two)
    rig.hub.go_down()
    agent = rig.agent()
    agent.run_order(Order(revision=one, origin=Origin.ROLLBACK))
    assert (rig.state.current, rig.state.last_good) == (one, two), "back, without the hub"
    rig.hub.come_up()
    rig.once()
    assert rig.state.current == one, "the hub's old order does not undo it"
    last = rig.hub.reports()[-1]
    assert (last.assignment, last.state, last.running) == (0, UpdateState.DONE, one)


def test_apply_by_hand_needs_the_hub_if_the_revision_does(rig: Rig) -> None:
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.hub.go_down()
    rig.agent().run_order(Order(revision=one, origin=Origin.APPLY))
    assert rig.state.current is None
    assert rig.state.outcome is not None
    assert "hub cannot be reached" in rig.state.outcome.reason


def test_lost_deployment_is_laid_out_again(rig: Rig) -> None:
    import shutil

    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.deploy(1, one)
    shutil.rmtree(rig.paths.deployments)
    rig.once()
    assert (rig.paths.deployment(one) / "revision.json").exists()


def test_policy_default_asks_for_the_hub() -> None:
    assert HealthPolicy().require_hub


def test_interrupted_trials_end(rig: Rig) -> None:
    """A candidate that takes the machine down each time is rolled back after a few tries."""
    one = rig.offer("kiosk", {"web": app("web:1")})
    rig.deploy(1, one)
    two = rig.offer("kiosk", {"web": app("web:2")})
    rig.hub.assign(2, two)
    for _ in range(3):
        assert rig.in_child(lambda: _die_at(rig, "device.test.begun")) == -9
        rig.engine.reboot()
    rig.once()
    assert rig.state.current == one
    assert "stopped 3 times while it tried this revision" in rig.hub.reports()[-1].detail


def _die_at(rig: Rig, point: str) -> None:
    import os
    import signal

    from wherry.core import trace

    trace.arm(point, lambda: os.kill(os.getpid(), signal.SIGKILL))
    rig.once()
