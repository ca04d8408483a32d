"""The agent: looks after one device. It asks the hub what to run, has the updater do it, and tells how it went.

It wakes when the hub rings, when a person gives an order on the device, when a failed update is due again, and at the
interval that the hub has set. It holds the device's lock for as long as it works. The apps do not depend on it:
they go on running when it stops, and it finds them again when it starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from wherry.core import durable, jsonio
from wherry.core.digest import parse_checksum
from wherry.core.errors import InvalidInput, Locked, NetworkError, NotPermitted, WherryError
from wherry.core.lock import file_lock
from wherry.device.attention import Attention
from wherry.device.hub import LinkFile, backoff_s, poll_delay_s
from wherry.device.interfaces import Hub, Interrupted
from wherry.device.journal import Journal
from wherry.device.machine import Action, Order, Ordered, Origin, Restarted, Retry, State, Withdrawn
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.device.updater import Updater
from wherry.spec.codec import decode, encode
from wherry.spec.wire import Desired, Progress, UpdateState

MAX_REQUEST_BYTES = 4096
MAX_DETAIL_CHARS = 2000
FLUSH_S = 10.0
STOP_FLUSH_S = 1.0
PENDING_POLL_S = 15.0
"""How often a device that is not accepted asks again, at least."""
_TROUBLE_S = 30.0
_SHORTEST_CAP_S = 10.0
_UNKNOWN_POLL_S = 60.0
"""Until the hub has said how often to ask."""
_ON_TRIAL = frozenset({UpdateState.TRYING, UpdateState.TESTING, UpdateState.ROLLING_BACK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the agent waits when something fails."""

    retry_base_s: float = 5.0
    """After the first failed update; doubles each time."""
    retry_most_s: float = 900.0
    hub_base_s: float = 2.0
    """After the first time that the hub does not answer; doubles each time."""
    hub_most_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``request.json``: an order given on the device while the agent runs."""

    order: Order


@dataclass(slots=True, kw_only=True)
class HubSide:
    """What the agent needs of its hub: calls, and reports that never wait."""

    hub: Hub
    send: Callable[[Progress], None]
    flush: Callable[[float], bool]
    start: Callable[[Callable[[int | None], None]], None] = field(default=lambda heard: None)
    """Begins to listen to the bell; what is heard is the number of the assignment."""
    nudge: Callable[[], None] = field(default=lambda: None)
    """Says that the hub is there again."""
    stop: Callable[[], None] = field(default=lambda: None)


LOCK_TIMEOUT_S = 1.0
"""Long enough for another command's look at whether the lock is held."""


@contextmanager
def device_lock(paths: DevicePaths) -> Iterator[None]:
    """Holds a device alone.

    Raises:
        Locked: an agent, or another command, works on it.
    """
    with file_lock(paths.lock, timeout_s=LOCK_TIMEOUT_S, what="this device"):
        yield


def is_held(paths: DevicePaths) -> bool:
    """Tells whether somebody works on the device."""
    if not paths.lock.exists():
        return False
    try:
        with file_lock(paths.lock, shared=True, timeout_s=0):
            return False
    except Locked:
        return True


class Agent:
    """Looks after one device; for the one who holds its lock.

    Args:
        paths: the device's folder.
        attention: what wakes it.
        journal: where it writes what it does.
        link: what it remembers of its hub.
        hub_side: None for a device that is told by hand alone.
        make_updater: makes the updater with the function that reports.
        timing: waits after failures.
    """

    def __init__(
        self,
        paths: DevicePaths,
        attention: Attention,
        journal: Journal,
        link: LinkFile,
        hub_side: HubSide | None,
        make_updater: Callable[[Callable[[Action], None]], Updater],
        timing: Timing | None = None,
    ) -> None:
        self._paths = paths
        self._attention = attention
        self._journal = journal
        self._link = link
        self._hub = hub_side
        self._timing = timing or Timing()
        self.updater = make_updater(self._report)
        self._retry_at_s = 0.0
        self._hub_failures = 0
        self._app_problem = ""
        self._desired: Desired | None = None
        self.hub_error: WherryError | None = None
        """Why the last look at the hub failed; None when it did not."""

    @property
    def state(self) -> State:
        """The device's state."""
        return self.updater.state

    def run(self) -> None:
        """Looks after the device until it is asked to stop."""
        self.begin()
        try:
            if self._hub is not None:
                self._hub.start(self.heard)
            while not self._attention.stopping:
                self._attention.wait(self._guarded_cycle())
        finally:
            self._end(STOP_FLUSH_S)

    def _guarded_cycle(self) -> float:
        try:
            return self.cycle()
        except (WherryError, OSError) as error:
            # the disk is full to the last byte, for example: what runs goes on running, and it is looked at again
            self._journal.write("agent", f"cannot go on: {error}")
            return min(_TROUBLE_S, self._timing.retry_most_s)

    def run_once(self) -> None:
        """Looks once, does what there is to do, and returns; the reports are out by then."""
        self.begin()
        try:
            self.cycle()
        finally:
            self._end(STOP_FLUSH_S if self._attention.stopping else FLUSH_S)

    def run_order(self, order: Order) -> None:
        """Does one order that was given by hand, and returns when it is settled or waits for another try."""
        self.begin()
        try:
            self._finish_trial()
            self.updater.take(Ordered(order=order))
            self._work()
        finally:
            self._end(STOP_FLUSH_S if self._attention.stopping else FLUSH_S)

    def begin(self) -> None:
        """Finds out where the device was left, and has its apps run."""
        self._journal.write("agent", "started")
        self.updater.take(Restarted())
        reach(Point.STARTED)
        if self.state.phase not in _ON_TRIAL:
            self._reconcile()
        reach(Point.RECONCILED)

    def cycle(self) -> float:
        """Looks for orders, does what there is to do, and returns after how many seconds to look again."""
        recovered = False
        while not self._attention.stopping:
            self._attention.heed()
            self._take_request()
            failures = self._hub_failures
            self._poll()
            recovered = failures > 0 and self._hub_failures == 0
            if self.state.phase is UpdateState.FAILED and (recovered or self._attention.now() >= self._retry_at_s):
                self.updater.take(Retry())
            if self._work():
                break
        if self.state.candidate is None:
            self._reconcile()
        return self._delay_s()

    def _work(self) -> bool:
        """Works until nothing is left to do; returns False when there is something new to look at first."""
        worked = False
        try:
            while self.updater.work():
                worked = True
                self._attention.check(also_news=False)
        except Interrupted:
            return False
        candidate = self.state.candidate
        if worked and candidate is not None:  # it failed, and waits
            wait_s = backoff_s(
                candidate.attempt - 1, base_s=self._timing.retry_base_s, most_s=self._timing.retry_most_s
            )
            self._retry_at_s = self._attention.now() + wait_s
            self._journal.write("failed", f"next try in {wait_s:.0f} s", revision=candidate.order.revision)
        return True

    def _finish_trial(self) -> None:
        while self.state.phase in _ON_TRIAL and self.updater.work():
            self._attention.check(also_news=False)

    def _poll(self) -> None:
        if self._hub is None:
            return
        try:
            if not isinstance(self.hub_error, NotPermitted):
                self._report(Action.REPORT)
            reach(Point.REPORTED)
            desired = self._hub.hub.desired()
        except WherryError as error:
            self._hub_failures += 1
            self._note_lost(error)
            return
        if self._hub_failures:
            self._hub.nudge()
        self._hub_failures = 0
        self.hub_error = None
        self._desired = desired
        self._link.heard(desired.time_s, int(time.time()))
        reach(Point.ASKED)
        self._follow(desired)

    def _note_lost(self, error: WherryError) -> None:
        if self.hub_error is None or str(self.hub_error) != str(error):
            self._journal.write("hub", str(error))
        self.hub_error = error
        self._link.lost(str(error))

    def _follow(self, desired: Desired) -> None:
        if desired.assignment == self.state.assignment:
            return
        if desired.revision is None:
            candidate = self.state.candidate
            if candidate is not None and candidate.order.origin is Origin.HUB:
                self.updater.take(Withdrawn(reason="the hub has withdrawn the order"))
            return
        try:
            revision = parse_checksum(desired.revision, where="desired revision")
        except InvalidInput as error:
            self._note_lost(NetworkError(f"the hub answers nonsense: {error}"))
            return
        self.updater.take(Ordered(order=Order(revision=revision, assignment=desired.assignment, origin=Origin.HUB)))

    def _take_request(self) -> None:
        request = read_request(self._paths)
        if request is None or self.state.phase in _ON_TRIAL:
            return
        self.updater.take(Ordered(order=request.order))
        reach(Point.REQUEST_TAKEN)
        durable.remove_file(self._paths.request)

    def _reconcile(self) -> None:
        problem = ""
        try:
            self.updater.reconcile()
        except (WherryError, OSError) as error:
            problem = f"not all apps run: {error}"
        except Interrupted:
            return
        if problem and problem != self._app_problem:
            self._journal.write("app", problem)
        self._app_problem = problem

    def _delay_s(self) -> float:
        if self._hub_failures:
            known_s = _UNKNOWN_POLL_S if self._desired is None else float(self._desired.poll_interval_s)
            most_s = min(self._timing.hub_most_s, max(known_s, _SHORTEST_CAP_S))
            if isinstance(self.hub_error, NotPermitted):
                most_s = min(most_s, PENDING_POLL_S)  # somebody is about to accept it
            delay_s = backoff_s(self._hub_failures - 1, base_s=self._timing.hub_base_s, most_s=most_s)
        elif self._desired is not None:
            delay_s = poll_delay_s(self._desired)
        else:
            delay_s = _UNKNOWN_POLL_S
        if self.state.phase is UpdateState.FAILED:
            delay_s = min(delay_s, max(0.0, self._retry_at_s - self._attention.now()))
        return delay_s

    def heard(self, assignment: int | None) -> None:
        """Takes what the bell said; for any thread."""
        if assignment is None or assignment != self.state.assignment:
            self._attention.ring()

    def _report(self, action: Action) -> None:
        if self._hub is None:
            return
        try:
            self._hub.send(self._progress(of_outcome=action is Action.REPORT_OUTCOME))
        except WherryError as error:
            self._journal.write("hub", f"no report: {error}")

    def _progress(self, *, of_outcome: bool) -> Progress:
        state = self.state
        what = state.outcome if of_outcome or state.candidate is None else state.candidate
        phase, detail, attempt, bytes_total = UpdateState.IDLE, "", 0, 0
        if what is not None:
            detail, attempt = what.reason, what.attempt
            phase = state.outcome.state if what is state.outcome and state.outcome is not None else state.phase
        if state.candidate is not None and what is state.candidate:
            bytes_total = state.candidate.bytes_total
        return Progress(
            assignment=0 if what is None else what.order.assignment,
            revision=None if what is None else what.order.revision,
            state=phase,
            running=state.current,
            detail=detail[:MAX_DETAIL_CHARS],
            bytes_done=self.updater.bytes_done if what is not None else 0,
            bytes_total=max(bytes_total, self.updater.bytes_done) if what is not None else 0,
            apps=self.updater.app_reports(),
            sequence=self._link.sequence(),
            device_time_s=max(0, int(time.time())),
            attempt=attempt,
        )

    def _end(self, flush_s: float) -> None:
        self._journal.write("agent", "stopped")
        if self._hub is not None:
            self._hub.flush(flush_s)
            self._hub.stop()


def read_request(paths: DevicePaths) -> Request | None:
    """Returns the order that waits on the device; None when there is none, or none that can be read."""
    try:
        data = paths.request.read_bytes()
        request = decode(Request, jsonio.loads(data, where=paths.request, max_bytes=MAX_REQUEST_BYTES))
        parse_checksum(request.order.revision, where=paths.request)
    except FileNotFoundError:
        return None
    except InvalidInput:
        durable.remove_file(paths.request)
        return None
    return request


def write_request(paths: DevicePaths, order: Order) -> None:
    """Leaves an order for the agent that runs."""
    durable.write_file(paths.request, jsonio.canonical(encode(Request(order=order))), mode=0o600)
