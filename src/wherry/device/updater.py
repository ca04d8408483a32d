"""The updater: does the work that the state machine asks for, one durable step after another.

Each round: the state says what work there is; the work is done, idempotently; what came of it is an event; the event
gives the next state, which is written before anything else happens. A crash at any point therefore leaves a
state whose work is simply done again. Errors become events here, and nowhere else: what will never succeed is
refused, what may is tried again, and what went wrong after the switch is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wherry.core import durable
from wherry.core.digest import Checksum, short
from wherry.core.errors import (
    HttpError,
    InvalidInput,
    NetworkError,
    NoSpace,
    NotFound,
    NotPermitted,
    TrustError,
    Unhealthy,
    Unsupported,
    WherryError,
)
from wherry.device.deployments import Deployments
from wherry.device.health import Decision, Finding, Trial, judge
from wherry.device.interfaces import Container, Containers, Hub, Supply, Waiter
from wherry.device.journal import Journal
from wherry.device.machine import (
    Action,
    Broke,
    Candidate,
    Cleaned,
    Event,
    Fetched,
    Order,
    Origin,
    Passed,
    Planned,
    Refused,
    Restored,
    Staged,
    State,
    Switched,
    Unwell,
    Verified,
    advance,
    work_of,
)
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.device.space import disk_of, why_not
from wherry.device.state import StateFile
from wherry.device.switch import Switch, boot_id
from wherry.spec.revision import Revision
from wherry.spec.wire import AppReport, UpdateState

HEALTH_POLL_S = 0.2
HUB_TRY_S = 10.0
"""The longest that one try to reach the hub takes during a trial."""
HUB_RETRY_S = 1.0
FETCH_REPORT_S = 2.0
RESTORE_TIMEOUT_S = 120.0
"""How long an app waits for another one on the way back."""
_TRANSIENT_STATUS = frozenset({401, 403, 408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that the updater works with."""

    paths: DevicePaths
    supply: Supply
    containers: Containers
    hub: Hub | None
    """None on a device that is told by hand alone."""
    waiter: Waiter
    journal: Journal
    target: str = ""
    """What the device is; a revision for something else is refused."""


class Updater:
    """Brings one device to the revision that it is ordered to run; for the one who holds its lock.

    Args:
        world: what it works with.
        report: called when the hub should hear of the state, with the action that says of what in it.
    """

    def __init__(self, world: World, report: Callable[[Action], None] = lambda action: None) -> None:
        self._world = world
        self._report = report
        self._file = StateFile(world.paths)
        self._file.restock()
        self._deployments = Deployments(world.paths)
        self._switch = Switch(
            world.paths,
            world.containers,
            self._deployments,
            world.waiter,
            boot_id=boot_id(),
            note=lambda text: world.journal.write("app", text),
        )
        self._trial_began_s: float | None = None
        self._fresh: tuple[str, ...] = ()
        self._told_s = 0.0
        self.bytes_done = 0
        self.last_error: WherryError | None = None
        """Why the last update did not succeed; None while nothing is wrong."""

    @property
    def state(self) -> State:
        """The state that is on the disk."""
        return self._file.state

    def take(self, event: Event) -> None:
        """Gives the state machine an event, and does what follows at once: reports and cleaning.

        Raises:
            Conflict: the event does not fit.
            NoSpace: the state cannot be written; it is as it was.
        """
        before = self.state
        step = advance(before, event)
        if step.state != before:
            self._file.write(step.state)
            self._tell(before, step.state)
        for action in step.actions:
            if action in (Action.REPORT, Action.REPORT_OUTCOME):
                self._report(action)
            elif action is Action.CLEAN:
                self.clean()

    def work(self) -> bool:
        """Does the work of one phase, if there is any, and returns whether there was.

        Raises:
            Interrupted: somebody wants something else first; the state says where to go on.
        """
        action = work_of(self.state)
        candidate = self.state.candidate
        if action is None or candidate is None:
            return False
        if action is Action.PLAN:
            self.last_error = None
        self.take(self._perform(action, candidate))
        return True

    def reconcile(self) -> None:
        """Has the containers of the current revision run, and no others; for a device that is not on trial.

        Raises:
            Unhealthy: an app does not start; the others do.
        """
        current = self.state.current
        revision = None if current is None else self._laid_out(current)
        self._switch.stop_others(revision)
        if current is not None and revision is not None:
            self._switch.create_missing(current, revision)
            self._switch.start_all(revision, deadline_s=self._world.waiter.now() + RESTORE_TIMEOUT_S, patient=True)

    def current_revision(self) -> Revision | None:
        """Returns the document of the current revision; None when there is none."""
        return None if self.state.current is None else self._laid_out(self.state.current)

    def app_reports(self) -> tuple[AppReport, ...]:
        """Returns how the apps are: the candidate's while it is on trial, else the current revision's."""
        candidate = self.state.candidate
        trying = candidate is not None and candidate.phase in (UpdateState.TRYING, UpdateState.TESTING)
        commit = candidate.order.revision if candidate is not None and trying else self.state.current
        if commit is None:
            return ()
        try:
            revision = self._deployments.load(commit)
            found = self._switch.of(revision)
        except WherryError:
            return ()  # a report without its apps is better than none
        return app_reports(revision, found)

    def stop_apps(self) -> int:
        """Stops every app, and returns how many ran."""
        return self._switch.stop_all()

    def clean(self) -> None:
        """Removes what neither the current nor the last-good revision needs; nothing while there is a candidate.

        What cannot be removed is noted and tried again at the next start: cleaning never fails an update.
        """
        if self.state.candidate is not None or not self.state.dirty:
            return
        reach(Point.CLEAN_BEGUN)
        kept = [commit for commit in (self.state.current, self.state.last_good) if commit is not None]
        try:
            revisions = [self._laid_out(commit) for commit in kept]
            self._switch.remove_others(revisions)
            reach(Point.CLEAN_CONTAINERS)
            self._deployments.keep(kept)
            reach(Point.CLEAN_DEPLOYMENTS)
            self._world.supply.keep(revisions, kept)
            images = {Checksum(commit) for revision in revisions for commit in revision.components()}
            self._world.containers.keep_images(images)
            reach(Point.CLEAN_STORE)
        except (WherryError, OSError) as error:
            self._world.journal.write("clean", f"not all could be removed: {error}")
            return
        self.take(Cleaned())
        self._file.restock()

    def _perform(self, action: Action, candidate: Candidate) -> Event:
        commit = candidate.order.revision
        if action is Action.SWITCH:
            return self._guarded_switch(commit)
        if action is Action.TEST:
            return self._test(commit, candidate.order)
        if action is Action.RESTORE:
            return self._restore()
        try:
            return self._prepare(action, commit)
        except (WherryError, OSError) as error:
            mapped = error if isinstance(error, WherryError) else durable.map_os_error(error, "cannot go on")
            self.last_error = mapped
            return failure_event(mapped)

    def _prepare(self, action: Action, commit: Checksum) -> Event:
        supply = self._world.supply
        if action is Action.PLAN:
            reach(Point.PLAN_BEGUN)
            plan = supply.plan(commit, lambda: self._world.waiter.check(also_news=False))
            reach(Point.PLAN_REVISION)
            self._check_target(plan.revision)
            disk = disk_of(self._world.paths.root)
            problem = why_not(disk, disk_bytes=plan.disk_bytes, objects=max(plan.count, len(plan.objects)))
            if problem is not None:
                self.last_error = NoSpace(f"revision {short(commit)} does not fit: {problem}")
                return Refused(reason=f"no space: {problem}")
            reach(Point.PLAN_DONE)
            self.bytes_done = plan.received_bytes
            return Planned(bytes_total=plan.received_bytes + plan.transfer_bytes)
        if action is Action.FETCH:
            reach(Point.FETCH_BEGUN)
            self.bytes_done = supply.fetch(commit, self._fetched)
            reach(Point.FETCH_DONE)
            return Fetched()
        if action is Action.VERIFY:
            reach(Point.VERIFY_BEGUN)
            self._check_target(supply.verify(commit))
            reach(Point.VERIFY_DONE)
            return Verified()
        reach(Point.STAGE_BEGUN)
        revision = supply.verify(commit)
        self._deployments.stage(commit, revision, supply)
        self._switch.create_missing(commit, revision)
        reach(Point.STAGE_DONE)
        return Staged()

    def _guarded_switch(self, commit: Checksum) -> Event:
        reach(Point.SWITCH_BEGUN)
        self._trial_began_s = self._world.waiter.now()
        try:
            revision = self._laid_out(commit)
            deadline_s = self._trial_began_s + revision.health.timeout_ms / 1000
            self._fresh = self._switch.changed(revision)
            self._switch.stop_others(revision)
            self._switch.create_missing(commit, revision)
            self._switch.start_all(revision, deadline_s=deadline_s)
        except (WherryError, OSError) as error:
            self.last_error = Unhealthy(str(error))
            return Unwell(reason=str(error))
        reach(Point.SWITCH_DONE)
        return Switched()

    def _test(self, commit: Checksum, order: Order) -> Event:
        reach(Point.TEST_BEGUN)
        waiter = self._world.waiter
        try:
            revision = self._laid_out(commit)
            needed = revision.health.require_hub and order.origin is not Origin.ROLLBACK and self._world.hub is not None
            trial = Trial(
                policy=revision.health,
                began_s=waiter.now() if self._trial_began_s is None else self._trial_began_s,
                hub_needed=needed,
            )
            decision = Decision.WAIT
            next_try_s = 0.0
            while decision is Decision.WAIT:
                waiter.check(also_news=False)
                found = self._switch.of(revision)
                verdict = judge(revision.apps, found, fresh=self._fresh)
                now_s = waiter.now()
                if needed and not trial.hub_reached and verdict.finding is not Finding.UNWELL and now_s >= next_try_s:
                    self._try_hub(trial)
                    next_try_s = waiter.now() + HUB_RETRY_S
                decision = trial.see(waiter.now(), verdict, found)
                if decision is Decision.WAIT:
                    waiter.pause(HEALTH_POLL_S)
        except (WherryError, OSError) as error:
            self.last_error = Unhealthy(str(error))
            return Unwell(reason=str(error))
        if decision is Decision.PASS:
            reach(Point.TEST_PASSED)
            return Passed()
        verdict = trial.failure()
        reason = f"app {verdict.app}: {verdict.text}" if verdict.app else verdict.text
        words = self._switch.last_words(revision, verdict.app) if verdict.app else ""
        if words:
            reason += f"; it said last:\n{words}"
        self.last_error = Unhealthy(reason)
        return Unwell(reason=reason)

    def _try_hub(self, trial: Trial) -> None:
        hub = self._world.hub
        if hub is None:
            return
        try:
            hub.prove(max(1.0, min(HUB_TRY_S, trial.left_s(self._world.waiter.now()))))
        except WherryError as error:
            trial.hub_problem = str(error)
        else:
            trial.hub_reached = True

    def _restore(self) -> Event:
        reach(Point.RESTORE_BEGUN)
        problem = ""
        try:
            self.reconcile()
        except (WherryError, OSError) as error:
            # the old revision is the one to run, well or not; the next look tries to start the rest
            problem = str(error)
        reach(Point.RESTORE_DONE)
        return Restored(problem=problem)

    def _laid_out(self, commit: Checksum) -> Revision:
        try:
            return self._deployments.load(commit)
        except (NotFound, InvalidInput):
            # lost or damaged on the disk; the store has it, signed
            revision = self._world.supply.verify(commit)
            self._deployments.stage(commit, revision, self._world.supply)
            return revision

    def _check_target(self, revision: Revision) -> None:
        mine = self._world.target
        if mine and revision.target and revision.target != mine:
            raise InvalidInput(f"the revision is for {revision.target}, and this device is {mine}", where=revision.name)

    def _fetched(self, done: int, total: int) -> None:
        self.bytes_done = done
        now = self._world.waiter.now()
        if now - self._told_s >= FETCH_REPORT_S:
            self._told_s = now
            self._report(Action.REPORT)
        self._world.waiter.check(also_news=True)

    def _tell(self, before: State, after: State) -> None:
        journal = self._world.journal
        if after.outcome is not None and after.outcome != before.outcome:
            outcome = after.outcome
            text = {
                UpdateState.DONE: "committed: it runs and is healthy",
                UpdateState.ROLLED_BACK: f"rolled back to {_name(after.current)}: {outcome.reason}",
            }.get(outcome.state, outcome.reason)
            journal.write(
                outcome.state.value, text, revision=outcome.order.revision, assignment=outcome.order.assignment
            )
        candidate = after.candidate
        if candidate is not None and (before.candidate is None or before.candidate != candidate):
            text = candidate.reason
            if candidate.phase is UpdateState.FETCHING:
                text = f"{candidate.bytes_total} bytes to fetch"
            elif candidate.phase is UpdateState.TESTING:
                text = f"{len(self._fresh)} apps changed: {', '.join(self._fresh) or 'none'}"
            elif candidate.phase is UpdateState.PLANNING:
                text = f"attempt {candidate.attempt}, ordered by {candidate.order.origin.value}"
            journal.write(
                candidate.phase.value, text, revision=candidate.order.revision, assignment=candidate.order.assignment
            )


def app_reports(revision: Revision, containers: Mapping[str, Container]) -> tuple[AppReport, ...]:
    """Returns how the apps of a revision are, by name."""
    reports: list[AppReport] = []
    for name in sorted(revision.apps):
        container = containers.get(name)
        if container is None:
            reports.append(AppReport(name=name, state="missing"))
        else:
            reports.append(
                AppReport(name=name, state=container.status, health=container.health, restarts=container.restarts)
            )
    return tuple(reports)


def failure_event(error: WherryError) -> Event:
    """Returns what an error before the switch means.

    A lost link, a busy or confused server and a lapsed login mend by themselves; a definite answer of the hub, a
    missing signature or a malformed revision do not; all else (a full disk, bytes that do not have their digest)
    is tried a few times.
    """
    reason = str(error)
    match error:
        case HttpError():
            if error.status in _TRANSIENT_STATUS or error.status >= 500:
                return Broke(reason=reason)
            return Refused(reason=reason)
        case NetworkError() | NotPermitted():
            return Broke(reason=reason)
        case TrustError() | InvalidInput() | Unsupported() | NotFound():
            return Refused(reason=reason)
        case _:
            return Broke(reason=reason, lasting=True)


def _name(commit: Checksum | None) -> str:
    return "nothing" if commit is None else short(commit)
