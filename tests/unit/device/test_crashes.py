"""SIGKILL at every trace point, at every time it is reached: a restart ends in the old or the new revision.

The engine is simulated, so that each case takes milliseconds; the real one is killed in ``tests/integration/device``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.simulators.device_rig import Rig
from tests.simulators.device_supply import app

from wherry.core.digest import Checksum
from wherry.device.agent import write_request
from wherry.device.machine import Order, Origin
from wherry.device.points import Point
from wherry.spec.container import Healthcheck, RestartName, RestartPolicy
from wherry.spec.wire import UpdateState

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
CHECKED = Healthcheck(test=("CMD", "true"))
JOB = RestartPolicy(name=RestartName.NO)
OLD = {
    "web": app("web:1", config="01" * 32),
    "side": app("side:1", config="05" * 32),
    "gone": app("gone:1"),
    "job": app("job:1", environment={"SIM": "exit:0"}, restart=JOB),
}
_ENROL_POINTS = {Point.KEY_WRITTEN, Point.ENROL_ANSWERED, Point.IDENTITY_WRITTEN}


def first(rig: Rig) -> Checksum:
    return rig.offer("kiosk", {"web": app("web:1", config="01" * 32), "db": app("db:1")})


def good(rig: Rig) -> Checksum:
    web = app("web:2", config="02" * 32, healthcheck=CHECKED, depends_on={"side": "service_started"})
    return rig.offer("kiosk", {**OLD, "web": web, "new": app("new:1")} | {"gone": app("gone:2")})


def bad(rig: Rig) -> Checksum:
    web = app("web:3", environment={"SIM": "unhealthy"}, healthcheck=CHECKED, config="03" * 32)
    return rig.offer("kiosk", {"web": web, "side": OLD["side"], "new": app("new:1")})


def unsigned(rig: Rig) -> Checksum:
    from wherry.spec.revision import Revision

    return rig.supply.offer(Revision(format=1, name="kiosk", apps=OLD), signed=False)


SCENARIOS: dict[str, tuple[bool, Callable[[Rig], Checksum], UpdateState]] = {
    "first": (False, first, UpdateState.DONE),
    "good": (True, good, UpdateState.DONE),
    "bad": (True, bad, UpdateState.ROLLED_BACK),
    "unsigned": (True, unsigned, UpdateState.REFUSED),
    "by hand": (True, good, UpdateState.DONE),
}


def prepare(root: Path, scenario: str) -> tuple[Rig, Checksum | None, Checksum]:
    """Returns a device, what it runs, and what it is ordered to run."""
    has_old, make, _ = SCENARIOS[scenario]
    rig = Rig(root)
    old = None
    if has_old:
        old = rig.offer("kiosk", OLD)
        rig.deploy(1, old)
    new = make(rig)
    if scenario == "by hand":
        write_request(rig.paths, Order(revision=new, origin=Origin.APPLY))
    else:
        rig.hub.assign(2, new)
    return rig, old, new


def check(rig: Rig, scenario: str, old: Checksum | None, new: Checksum) -> None:
    """The end of every story: the old or the new revision, whole, and nothing else."""
    expected = SCENARIOS[scenario][2]
    state = rig.state
    assert state.candidate is None
    assert state.outcome is not None
    assert state.outcome.state is expected
    assert state.current == (new if expected is UpdateState.DONE else old)
    assert not state.dirty
    assert not rig.engine.started_twice
    apps = {} if state.current is None else rig.supply.verify(state.current).apps
    long_lived = {name for name in apps if name != "job"}
    assert set(rig.running()) == long_lived
    for container in rig.engine.list():
        assert all(Path(layer, "etc").is_dir() for layer in container.layers)
    names = [
        container.labels["io.wherry.device.app"] for container in rig.engine.list() if container.status == "running"
    ]
    assert sorted(names) == sorted(long_lived)
    last = rig.hub.reports()[-1]
    assert (last.state, last.running) == (expected, state.current)
    for report in rig.hub.reports():
        if report.state is UpdateState.DONE:
            assert report.running == report.revision
    folders = [*rig.paths.deployments.iterdir(), *rig.paths.config.iterdir()]
    assert not [path for path in folders if path.name.startswith(".")]


class Again:
    """One prepared device, to be put back as it was, in the same place, as often as needed."""

    def __init__(self, folder: Path, scenario: str) -> None:
        self._here, self._copy = folder / "here", folder / "copy"
        self.rig, self.old, self.new = prepare(self._here, scenario)
        shutil.copytree(self._here, self._copy, ignore=shutil.ignore_patterns("wake"))

    def reset(self) -> Rig:
        shutil.rmtree(self._here)
        shutil.copytree(self._copy, self._here)
        return self.rig


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere(memory: Path, scenario: str) -> None:
    again = Again(memory, scenario)
    rig = again.rig
    points = rig.points_of_once()
    check(rig, scenario, again.old, again.new)
    for count in range(1, len(points) + 1):
        again.reset()
        where = f"{points[count - 1]}, {count} of {len(points)}"
        assert rig.once_until(count) == -9, f"not reached: {where}"
        assert rig.in_child(rig.once) == 0, where
        try:
            check(rig, scenario, again.old, again.new)
        except AssertionError as error:
            raise AssertionError(f"killed at {where}: {error}") from error


def test_every_point_is_reached(memory: Path) -> None:
    seen: set[str] = set()
    for scenario in SCENARIOS:
        rig, _, _ = prepare(memory / scenario, scenario)
        seen.update(rig.points_of_once())
    missing = {point.value for point in Point} - {point.value for point in _ENROL_POINTS} - seen
    assert missing == set(), "points that no scenario kills at"


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", ["good", "bad"])
def test_killed_twice(memory: Path, scenario: str) -> None:
    """Killed, and killed again while it picks itself up."""
    again = Again(memory, scenario)
    rig = again.rig
    length = len(rig.points_of_once())
    for count in range(1, length + 1):
        for second in range(1 + count % 5, length + 1, 5):  # every pair would take an hour
            again.reset()
            assert rig.once_until(count) == -9
            if rig.once_until(second) == 0:
                break
            assert rig.in_child(rig.once) == 0
            check(rig, scenario, again.old, again.new)
