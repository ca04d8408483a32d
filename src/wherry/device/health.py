"""When a candidate counts as healthy: pure judgement of what the engine tells about its containers.

Healthy means: every app runs (or has ended well, if nothing starts it again), every health check passes, nothing
restarted for ``stable_ms``, and the hub was reached if the revision asks for that; all of it within ``timeout_ms``.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from wherry.device.apps import is_one_shot
from wherry.device.interfaces import Container
from wherry.spec.container import App
from wherry.spec.revision import HealthPolicy


class Finding(enum.StrEnum):
    """How a set of apps is."""

    WELL = "well"
    WAITING = "waiting"
    """Not yet; it may become well by itself."""
    UNWELL = "unwell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A finding, and the app and the check behind it."""

    finding: Finding
    app: str = ""
    text: str = ""


def judge(apps: Mapping[str, App], containers: Mapping[str, Container], *, fresh: Collection[str]) -> Verdict:
    """Returns how the apps are.

    Args:
        apps: by name.
        containers: the app's container, by the app's name.
        fresh: apps that this update started; one that was ill before gets until the timeout.
    """
    worst = Verdict(finding=Finding.WELL)
    for name, app in sorted(apps.items()):
        verdict = _judge_one(name, app, containers.get(name))
        if verdict.finding is Finding.UNWELL and name in fresh:
            return verdict
        if verdict.finding is not Finding.WELL and worst.finding is Finding.WELL:
            worst = Verdict(finding=Finding.WAITING, app=verdict.app, text=verdict.text)
    return worst


def _judge_one(name: str, app: App, container: Container | None) -> Verdict:
    def say(finding: Finding, text: str = "") -> Verdict:
        return Verdict(finding=finding, app=name, text=text)

    if container is None:
        return say(Finding.UNWELL, "has no container")
    if container.status == "running":
        if container.health == "unhealthy":
            return say(Finding.UNWELL, "its health check fails")
        if container.health == "starting":
            return say(Finding.WAITING, "its health check has not passed yet")
        return say(Finding.WELL)
    if container.status == "exited":
        if is_one_shot(app):
            if container.exit_code == 0:
                return say(Finding.WELL)
            return say(Finding.UNWELL, f"ended with status {_status(container)}")
        return say(Finding.WAITING, f"ended with status {_status(container)}")
    if container.status == "restarting":
        return say(
            Finding.WAITING, f"ended with status {_status(container)} and was restarted {container.restarts} times"
        )
    return say(Finding.WAITING, "was not started")


def _status(container: Container) -> str:
    status = "unknown" if container.exit_code is None else str(container.exit_code)
    return f"{status} ({container.error})" if container.error else status


class Decision(enum.StrEnum):
    """What follows for the trial."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 not a password
    FAIL = "fail"


@dataclass(slots=True, kw_only=True)
class Trial:
    """The time that a candidate has to become healthy, and to stay so. Told the time, it never looks at a clock."""

    policy: HealthPolicy
    began_s: float
    hub_needed: bool
    hub_reached: bool = False
    hub_problem: str = ""
    _well_since_s: float | None = field(default=None, init=False)
    _pulse: Mapping[str, tuple[str, int, float | None]] = field(default_factory=dict, init=False)
    _last: Verdict = field(default=Verdict(finding=Finding.WAITING), init=False)

    def see(self, now_s: float, verdict: Verdict, containers: Mapping[str, Container]) -> Decision:
        """Takes one look into account and says what follows."""
        self._last = verdict
        pulse = {name: (each.id, each.restarts, each.started_s) for name, each in containers.items()}
        steady = pulse == self._pulse
        self._pulse = pulse
        if verdict.finding is Finding.UNWELL:
            return Decision.FAIL
        if verdict.finding is Finding.WAITING:
            self._well_since_s = None
        elif self._well_since_s is None or not steady:
            self._well_since_s = now_s
        stable = self._well_since_s is not None and now_s - self._well_since_s >= self.policy.stable_ms / 1000
        if stable and (self.hub_reached or not self.hub_needed):
            return Decision.PASS
        late = now_s - self.began_s >= self.policy.timeout_ms / 1000
        if late and (self._well_since_s is None or stable):
            return Decision.FAIL
        if late and now_s - self.began_s >= (self.policy.timeout_ms + 2 * self.policy.stable_ms) / 1000:
            return Decision.FAIL
        return Decision.WAIT

    def left_s(self, now_s: float) -> float:
        """Returns how much of the timeout is left."""
        return max(0.0, self.began_s + self.policy.timeout_ms / 1000 - now_s)

    def failure(self) -> Verdict:
        """Returns why it failed: which app, which check."""
        seconds = f"{self.policy.timeout_ms / 1000:g} s"
        if self._last.finding is Finding.UNWELL:
            return self._last
        if self._last.finding is Finding.WAITING:
            return Verdict(finding=Finding.UNWELL, app=self._last.app, text=f"{self._last.text} (waited for {seconds})")
        if self.hub_needed and not self.hub_reached:
            why = f": {self.hub_problem}" if self.hub_problem else ""
            return Verdict(
                finding=Finding.UNWELL, text=f"the hub cannot be reached from this revision (tried for {seconds}){why}"
            )
        return Verdict(finding=Finding.UNWELL, text=f"the apps did not stay well for {self.policy.stable_ms} ms")
