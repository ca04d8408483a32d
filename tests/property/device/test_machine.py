"""The state machine under any order of events: nothing is lost, and there is always a way to an end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.core.digest import Checksum
from wherry.core.errors import Conflict
from wherry.device.machine import (
    MAX_STRIKES,
    MAX_TRIALS,
    Action,
    Broke,
    Cleaned,
    Event,
    Fetched,
    Order,
    Ordered,
    Origin,
    Passed,
    Planned,
    Refused,
    Restarted,
    Restored,
    Retry,
    Staged,
    State,
    Switched,
    Unwell,
    Verified,
    Withdrawn,
    advance,
    outcome_of,
    work_of,
)
from wherry.device.state import _Document
from wherry.spec.codec import decode, encode
from wherry.spec.wire import FINAL_STATES, UpdateState

REVISIONS = tuple(Checksum(digit * 64) for digit in "abc")
orders = st.builds(
    Order, revision=st.sampled_from(REVISIONS), assignment=st.integers(0, 3), origin=st.sampled_from(Origin)
)
reasons = st.sampled_from(["why", "why not"])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Ordered, order=orders),
    st.builds(Withdrawn, reason=reasons),
    st.builds(Planned, bytes_total=st.integers(0, 100)),
    st.builds(Fetched),
    st.builds(Verified),
    st.builds(Staged),
    st.builds(Switched),
    st.builds(Passed),
    st.builds(Refused, reason=reasons),
    st.builds(Broke, reason=reasons, lasting=st.booleans()),
    st.builds(Retry),
    st.builds(Unwell, reason=reasons),
    st.builds(Restored, problem=reasons),
    st.builds(Cleaned),
    st.builds(Restarted),
)
SUCCESS: dict[Action, Callable[[], Event]] = {
    Action.PLAN: Planned,
    Action.FETCH: Fetched,
    Action.VERIFY: Verified,
    Action.STAGE: Staged,
    Action.SWITCH: Switched,
    Action.TEST: Passed,
    Action.RESTORE: Restored,
}


def play(story: list[Event], state: State | None = None) -> list[State]:
    """Returns the states that a story goes through; events that cannot happen are left out."""
    states = [state or State()]
    for event in story:
        try:
            states.append(advance(states[-1], event).state)
        except Conflict:
            continue
    return states


@given(st.lists(events, max_size=60))
def test_only_a_passed_trial_changes_what_runs(story: list[Event]) -> None:
    state = State()
    for event in story:
        try:
            following = advance(state, event).state
        except Conflict:
            continue
        if (state.current, state.last_good) != (following.current, following.last_good):
            assert isinstance(event, Passed)
            assert state.candidate is not None
            assert state.candidate.phase is UpdateState.TESTING
            assert following.current == state.candidate.order.revision
            if state.current is not None:
                assert following.last_good == state.current
        if state.last_good is not None:
            assert following.last_good is not None, "there is always something to fall back on"
        if state.current is not None:
            assert following.current is not None
        state = following


@given(st.lists(events, max_size=60))
def test_done_means_that_it_runs(story: list[Event]) -> None:
    for before, after in zip(states := play(story), states[1:], strict=False):
        if after.outcome is not None and after.outcome != before.outcome and after.outcome.state is UpdateState.DONE:
            assert after.current == after.outcome.order.revision
            assert after.candidate is None


@given(st.lists(events, max_size=60))
def test_phases_and_work_agree(story: list[Event]) -> None:
    for state in play(story):
        if state.candidate is None:
            assert work_of(state) is None
            assert state.phase in FINAL_STATES | {UpdateState.IDLE}
        else:
            assert state.dirty, "what a candidate leaves behind is cleaned up"
            assert (work_of(state) is None) == (state.candidate.phase is UpdateState.FAILED)


@given(st.lists(events, max_size=60))
def test_an_end_can_always_be_reached(story: list[Event]) -> None:
    state = play(story)[-1]
    for _ in range(len(SUCCESS) + 1):
        work = work_of(state)
        if work is None:
            if state.candidate is None:
                break
            state = advance(state, Retry()).state
            continue
        state = advance(state, SUCCESS[work]()).state
    assert state.candidate is None


@given(st.lists(events, max_size=60), st.lists(st.booleans(), min_size=1, max_size=80))
def test_killed_anywhere_it_ends_old_or_new(story: list[Event], kills: list[bool]) -> None:
    """The device does its work and is killed again and again; it ends where it may."""
    state = play(story)[-1]
    old = state.current
    wanted = None if state.candidate is None else state.candidate.order.revision
    remaining = iter(kills)
    for _ in range(200):
        if next(remaining, False):
            # only what was written is left, and the work of the phase may have been done or not
            state = decode(_Document, encode(_Document(format=1, state=state))).state
            step = advance(state, Restarted())
            assert step.state.current == state.current
            state = step.state
            continue
        work = work_of(state)
        if work is None:
            if state.candidate is None:
                break
            state = advance(state, Retry()).state
            continue
        state = advance(state, SUCCESS[work]()).state
    assert state.candidate is None
    assert state.current in (old, wanted)


@given(st.lists(events, max_size=60), orders)
def test_a_trial_is_not_disturbed(story: list[Event], order: Order) -> None:
    for state in play(story):
        phase = state.phase if state.candidate is not None else None
        if phase in (UpdateState.TRYING, UpdateState.TESTING, UpdateState.ROLLING_BACK):
            assert advance(state, Ordered(order=order)).state == state
            assert advance(state, Withdrawn(reason="x")).state == state
        else:
            assert advance(state, Ordered(order=order)).state.candidate is not None


@given(st.lists(events, max_size=40))
def test_states_survive_the_disk(story: list[Event]) -> None:
    for state in play(story):
        assert decode(_Document, encode(_Document(format=1, state=state))).state == state


ORDER = Order(revision=REVISIONS[0], assignment=1)
TO_TRIAL: list[Event] = [Ordered(order=ORDER), Planned(), Fetched(), Verified(), Staged()]


def test_lasting_failures_are_given_up() -> None:
    state = advance(State(), Ordered(order=ORDER)).state
    for _ in range(MAX_STRIKES - 1):
        state = play([Planned(), Broke(reason="no", lasting=True), Retry()], state)[-1]
        assert state.phase is UpdateState.PLANNING
    state = play([Planned(), Broke(reason="no", lasting=True)], state)[-1]
    assert outcome_of(state, ORDER) == (UpdateState.REFUSED, f"given up after {MAX_STRIKES} tries: no")


def test_passing_failures_are_not() -> None:
    again: list[Event] = [Broke(reason="link"), Retry()]
    state = play([Ordered(order=ORDER), *again * 50])[-1]
    assert state.candidate is not None
    assert state.candidate.attempt == 51


def test_trials_are_counted() -> None:
    again: list[Event] = [Switched(), Restarted()]
    state = play([*TO_TRIAL, *again * (MAX_TRIALS - 1)])[-1]
    assert state.phase is UpdateState.TRYING
    assert play([Restarted()], state)[-1].phase is UpdateState.ROLLING_BACK


def test_way_back_survives_restarts() -> None:
    state = play([*TO_TRIAL, Unwell(reason="ill"), *[Restarted()] * 10])[-1]
    assert state.phase is UpdateState.ROLLING_BACK
    state = advance(state, Restored(problem="and so on")).state
    assert outcome_of(state, ORDER) == (UpdateState.ROLLED_BACK, "ill; on the way back: and so on")


def test_events_that_do_not_fit() -> None:
    with pytest.raises(Conflict, match="Passed does not fit the state idle"):
        advance(State(), Passed())
    with pytest.raises(Conflict):
        advance(play(TO_TRIAL)[-1], Refused(reason="too late"))


def test_another_order_replaces_a_candidate_before_its_trial() -> None:
    other = dataclasses.replace(ORDER, revision=REVISIONS[1], assignment=2)
    step = advance(play(TO_TRIAL[:-1])[-1], Ordered(order=other))
    assert step.actions == (Action.REPORT_OUTCOME, Action.REPORT, Action.PLAN)
    assert outcome_of(step.state, ORDER)[0] is UpdateState.CANCELLED
    assert step.state.assignment == 2
