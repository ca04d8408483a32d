"""The life of an update, as a pure state machine: a state and an event give the next state and what to do.

Nothing here touches a file, a clock or the network, so that every path can be tested, and every crash be
thought of as: the last written state, and the event ``Restarted``. Drawn in ``docs/explanation/update-life-cycle.md``.

What it promises, whatever the order of events:

* there is at most one candidate;
* ``current`` and ``last_good`` change in one event alone, ``Passed``, which is the commit of a healthy candidate;
  what was current becomes last-good, so that there is always something to fall back on;
* from every state a final one can be reached, and an interrupted trial does not go on for ever.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TypeAlias

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict
from wherry.spec.wire import UpdateState

MAX_STRIKES = 3
"""How often an update may break in a way that a later try is unlikely to mend; then it is refused."""
MAX_TRIALS = 3
"""How often the switch to one candidate is begun when crashes or power cuts interrupt it; then it is rolled back."""

_BEFORE_SWITCH = frozenset(
    {UpdateState.PLANNING, UpdateState.FETCHING, UpdateState.VERIFYING, UpdateState.STAGING, UpdateState.FAILED}
)
_ON_TRIAL = frozenset({UpdateState.TRYING, UpdateState.TESTING})


class Origin(enum.StrEnum):
    """Who ordered a revision."""

    HUB = "hub"
    APPLY = "apply"
    """A person on the device."""
    ROLLBACK = "rollback"
    """A person on the device, back to last-good."""


class Action(enum.StrEnum):
    """What is to be done now that the new state is written."""

    REPORT_OUTCOME = "report-outcome"
    REPORT = "report"
    PLAN = "plan"
    FETCH = "fetch"
    VERIFY = "verify"
    STAGE = "stage"
    SWITCH = "switch"
    TEST = "test"
    RESTORE = "restore"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A revision that the device shall run. ``assignment`` is 0 for an order given on the device."""

    revision: Checksum
    assignment: int = 0
    origin: Origin = Origin.HUB


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The revision that the device is being brought to."""

    order: Order
    phase: UpdateState
    attempt: int = 1
    """Counts the beginnings from planning on."""
    strikes: int = 0
    """Counts failures that a later try is unlikely to mend."""
    trials: int = 0
    """Counts the beginnings of the switch."""
    reason: str = ""
    bytes_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the last update ended."""

    order: Order
    state: UpdateState
    reason: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the device must know after a power cut."""

    current: Checksum | None = None
    """The committed revision; a candidate on trial falls back on it."""
    last_good: Checksum | None = None
    """The one that was committed before; ``rollback`` goes there."""
    candidate: Candidate | None = None
    assignment: int = 0
    """The hub's newest assignment that was taken up, whatever became of it."""
    outcome: Outcome | None = None
    dirty: bool = False
    """Whether an update may have left things that nothing needs."""

    @property
    def phase(self) -> UpdateState:
        """How far the device is, in the hub's words."""
        if self.candidate is not None:
            return self.candidate.phase
        return self.outcome.state if self.outcome is not None else UpdateState.IDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """Somebody wants a revision to run."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """Nobody wants the candidate any more."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """It is known what is missing, it is signed by a trusted key, and it fits."""

    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """Everything is here."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Everything is as the signature says."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The deployment is laid out and its containers are made; nothing that runs was touched."""


@dataclass(frozen=True, slots=True)
class Switched:
    """The candidate's apps are started and what it does not have is stopped."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The candidate runs and is healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It must not, or cannot, be run here; trying again would not help."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """It broke before the switch. `lasting`: a later try is unlikely to mend it (a lost link is not lasting)."""

    reason: str
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The wait after a failure is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwell:
    """The candidate was tried and is not healthy."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The current revision's apps run again and the candidate's do not. `problem`: what did not go well in that."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What nothing needs is gone."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent starts, after an end of any kind: a stop, a crash, a power cut."""


Event: TypeAlias = (
    Ordered
    | Withdrawn
    | Planned
    | Fetched
    | Verified
    | Staged
    | Switched
    | Passed
    | Refused
    | Broke
    | Retry
    | Unwell
    | Restored
    | Cleaned
    | Restarted
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an event leads to. The state is written durably before the first action begins."""

    state: State
    actions: tuple[Action, ...] = ()


_WORK = {
    UpdateState.PLANNING: Action.PLAN,
    UpdateState.FETCHING: Action.FETCH,
    UpdateState.VERIFYING: Action.VERIFY,
    UpdateState.STAGING: Action.STAGE,
    UpdateState.TRYING: Action.SWITCH,
    UpdateState.TESTING: Action.TEST,
    UpdateState.ROLLING_BACK: Action.RESTORE,
}

_FORWARD: dict[UpdateState, tuple[type, UpdateState]] = {
    UpdateState.PLANNING: (Planned, UpdateState.FETCHING),
    UpdateState.FETCHING: (Fetched, UpdateState.VERIFYING),
    UpdateState.VERIFYING: (Verified, UpdateState.STAGING),
    UpdateState.STAGING: (Staged, UpdateState.TRYING),
    UpdateState.FAILED: (Retry, UpdateState.PLANNING),
    UpdateState.TRYING: (Switched, UpdateState.TESTING),
}


def work_of(state: State) -> Action | None:
    """Returns the work that a state waits for; None when it is settled or waits for a retry."""
    return None if state.candidate is None else _WORK.get(state.candidate.phase)


def outcome_of(state: State, order: Order) -> tuple[UpdateState, str]:
    """Returns how an order that was taken up ended, and why; cancelled when the state speaks of a later one."""
    outcome = state.outcome
    if outcome is not None and outcome.order == order:
        return outcome.state, outcome.reason
    return UpdateState.CANCELLED, "another order came after it"


def advance(state: State, event: Event) -> Step:
    """Returns what `event` leads to.

    Orders that come while a candidate is on trial change nothing: the trial ends first, and whoever ordered
    asks again. The same order twice is one order.

    Raises:
        Conflict: the event cannot happen in this state.
    """
    match event:
        case Ordered():
            return _ordered(state, event.order)
        case Restarted():
            return _restarted(state)
        case Withdrawn():
            return _withdrawn(state, event.reason)
        case Cleaned() if state.candidate is None:
            return Step(state=replace(state, dirty=False))
        case _:
            pass
    candidate = state.candidate
    if candidate is None:
        raise _unfit(state, event)
    phase = candidate.phase
    match event:
        case Passed() if phase is UpdateState.TESTING:
            return _committed(state, candidate)
        case Unwell() if phase in _ON_TRIAL:
            return _to(state, replace(candidate, phase=UpdateState.ROLLING_BACK, reason=event.reason))
        case Restored() if phase is UpdateState.ROLLING_BACK:
            problem = f"; on the way back: {event.problem}" if event.problem else ""
            return _ended(state, candidate, UpdateState.ROLLED_BACK, candidate.reason + problem)
        case Refused() if phase in _BEFORE_SWITCH:
            return _ended(state, candidate, UpdateState.REFUSED, event.reason)
        case Broke() if phase in _BEFORE_SWITCH - {UpdateState.FAILED}:
            return _broke(state, candidate, event)
        case _:
            return _forward(state, candidate, event)


def _forward(state: State, candidate: Candidate, event: Event) -> Step:
    expected, phase = _FORWARD.get(candidate.phase, (None, candidate.phase))
    if expected is None or not isinstance(event, expected):
        raise _unfit(state, event)
    moved = replace(candidate, phase=phase)
    match event:
        case Planned():
            moved = replace(moved, bytes_total=event.bytes_total)
        case Retry():
            moved = replace(moved, attempt=candidate.attempt + 1)
        case Staged():
            moved = replace(moved, trials=1, reason="")
        case _:
            pass
    return _to(state, moved)


def _ordered(state: State, order: Order) -> Step:
    candidate = state.candidate
    if candidate is not None and (candidate.order == order or candidate.phase not in _BEFORE_SWITCH):
        return Step(state=state)
    first: tuple[Action, ...] = ()
    outcome = state.outcome
    if candidate is not None:
        reason = f"replaced by an order for {order.revision[:12]}"
        outcome = Outcome(order=candidate.order, state=UpdateState.CANCELLED, reason=reason, attempt=candidate.attempt)
        first = (Action.REPORT_OUTCOME,)
    following = replace(
        state,
        candidate=Candidate(order=order, phase=UpdateState.PLANNING),
        assignment=order.assignment if order.origin is Origin.HUB else state.assignment,
        outcome=outcome,
        dirty=True,
    )
    return Step(state=following, actions=(*first, Action.REPORT, Action.PLAN))


def _withdrawn(state: State, reason: str) -> Step:
    candidate = state.candidate
    if candidate is None or candidate.phase not in _BEFORE_SWITCH:
        return Step(state=state)
    return _ended(state, candidate, UpdateState.CANCELLED, reason)


def _restarted(state: State) -> Step:
    candidate = state.candidate
    if candidate is None:
        return Step(state=state, actions=(Action.CLEAN,) if state.dirty else ())
    if candidate.phase in _ON_TRIAL:
        if candidate.trials >= MAX_TRIALS:
            reason = f"the device stopped {candidate.trials} times while it tried this revision"
            return _to(state, replace(candidate, phase=UpdateState.ROLLING_BACK, reason=reason))
        return _to(state, replace(candidate, phase=UpdateState.TRYING, trials=candidate.trials + 1))
    work = work_of(state)
    return Step(state=state, actions=() if work is None else (work,))


def _broke(state: State, candidate: Candidate, event: Broke) -> Step:
    strikes = candidate.strikes + (1 if event.lasting else 0)
    if strikes >= MAX_STRIKES:
        reason = f"given up after {strikes} tries: {event.reason}"
        return _ended(state, candidate, UpdateState.REFUSED, reason)
    failed = replace(candidate, phase=UpdateState.FAILED, strikes=strikes, reason=event.reason)
    return Step(state=replace(state, candidate=failed), actions=(Action.REPORT,))


def _committed(state: State, candidate: Candidate) -> Step:
    revision = candidate.order.revision
    done = replace(
        state,
        current=revision,
        last_good=state.last_good if revision == state.current or state.current is None else state.current,
    )
    return _ended(done, candidate, UpdateState.DONE, "")


def _ended(state: State, candidate: Candidate, how: UpdateState, reason: str) -> Step:
    outcome = Outcome(order=candidate.order, state=how, reason=reason, attempt=candidate.attempt)
    return Step(state=replace(state, candidate=None, outcome=outcome), actions=(Action.REPORT_OUTCOME, Action.CLEAN))


def _to(state: State, candidate: Candidate) -> Step:
    following = replace(state, candidate=candidate)
    work = work_of(following)
    return Step(state=following, actions=(Action.REPORT,) if work is None else (Action.REPORT, work))


def _unfit(state: State, event: Event) -> Conflict:
    return Conflict(f"the event {type(event).__name__} does not fit the state {state.phase}")
