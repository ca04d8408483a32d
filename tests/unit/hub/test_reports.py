"""What a report means: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wherry.core.errors import InvalidInput
from wherry.hub.reports import MAX_DETAIL_CHARS, Known, apply_report, check_report
from wherry.spec.wire import AppReport, Progress, UpdateState

A, B = "a" * 64, "b" * 64
KNOWN = Known(assignment=3, sequence=10, current=A)
REPORT = Progress(assignment=3, revision=B, state=UpdateState.FETCHING, running=A, sequence=11)


def applied(known: Known, report: Progress) -> tuple[Known, str | None]:
    result = apply_report(known, report)
    assert result is not None
    return result[0], result[1].event if result[1] else None


def test_old_reports_are_no_news() -> None:
    assert apply_report(KNOWN, replace(REPORT, sequence=10)) is None
    assert apply_report(KNOWN, replace(REPORT, sequence=9)) is None


def test_a_line_for_each_change_and_none_for_a_repetition() -> None:
    known, event = applied(KNOWN, REPORT)
    assert event == "fetching"
    known, event = applied(known, replace(REPORT, sequence=12, bytes_done=5))
    assert event is None
    assert known.bytes_done == 5
    known, event = applied(known, replace(REPORT, sequence=13, state=UpdateState.FAILED))
    assert event == "failed"
    known, event = applied(known, replace(REPORT, sequence=14, attempt=1))
    assert event == "fetching"


def test_idle_is_never_a_line_and_forgets_nothing() -> None:
    known, _ = applied(KNOWN, replace(REPORT, state=UpdateState.DONE, running=B))
    known, event = applied(known, replace(REPORT, sequence=12, state=UpdateState.IDLE, running=B))
    assert event is None
    _, event = applied(known, replace(REPORT, sequence=13, state=UpdateState.DONE, running=B))
    assert event is None


def test_what_runs_is_believed_and_not_what_is_said() -> None:
    known, _ = applied(KNOWN, replace(REPORT, state=UpdateState.DONE, running=A, detail="fine"))
    assert known.current == A
    assert known.detail == "fine; it says that it is done, but it runs aaaaaaaaaaaa"


def test_a_report_about_an_order_that_was_never_given_counts_for_what_runs_only() -> None:
    known, event = applied(KNOWN, replace(REPORT, assignment=4, state=UpdateState.FAILED, running=B))
    assert (event, known.current, known.update_state) == (None, B, UpdateState.IDLE)


def test_details_are_cut() -> None:
    known, _ = applied(KNOWN, replace(REPORT, detail="x" * 10_000))
    assert len(known.detail) == MAX_DETAIL_CHARS


@pytest.mark.parametrize(
    "report",
    [
        replace(REPORT, sequence=-1),
        replace(REPORT, sequence=2**60),
        replace(REPORT, bytes_total=-1),
        replace(REPORT, revision="abc"),
        replace(REPORT, running="../../etc"),
        replace(REPORT, apps=tuple(AppReport(name=str(number), state="running") for number in range(201))),
        replace(REPORT, apps=(AppReport(name="x" * 300, state="running"),)),
        replace(REPORT, apps=(AppReport(name="x", state="running", restarts=-1),)),
    ],
)
def test_reports_out_of_bounds(report: Progress) -> None:
    with pytest.raises(InvalidInput):
        check_report(report)
