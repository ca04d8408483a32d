"""What the pages show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wherry.hub.views import Chip, ago, chapters, chip_of, device_view, fleet_view, revision_names
from wherry.spec.wire import DeviceInfo, DeviceState, HistoryEntry, RevisionInfo, UpdateState

A, B = "a" * 64, "b" * 64
INFO = DeviceInfo(id="1" * 32, name="kiosk", state=DeviceState.ACCEPTED, online=True, current=A, desired=A)
NAMES = revision_names(
    [
        RevisionInfo(commit=A, ref="revision/shop", subject="first\n\nmore"),
        RevisionInfo(commit=B, ref="revision/shop", subject="second"),
    ]
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("Up to date", "good")),
        ({"state": DeviceState.PENDING}, ("Pending", "warn")),
        ({"state": DeviceState.REJECTED}, ("Rejected", "quiet")),
        ({"online": False}, ("Offline", "quiet")),
        ({"desired": None}, ("Nothing assigned", "quiet")),
        ({"desired": B}, ("Waiting", "busy")),
        ({"desired": B, "update_state": UpdateState.FETCHING}, ("Fetching", "busy")),
        ({"desired": B, "update_state": UpdateState.DONE}, ("Runs something else", "warn")),
        ({"desired": B, "update_state": UpdateState.ROLLED_BACK}, ("Rolled back", "bad")),
        ({"desired": B, "update_state": UpdateState.ROLLED_BACK, "online": False}, ("Rolled back", "bad")),
        ({"desired": B, "update_state": UpdateState.REFUSED}, ("Refused", "bad")),
        ({"desired": B, "update_state": UpdateState.FETCHING, "online": False}, ("Offline", "quiet")),
    ],
)
def test_chips(changes: dict[str, object], expected: tuple[str, str]) -> None:
    assert chip_of(replace(INFO, **changes)) == Chip(word=expected[0], tone=expected[1])  # type: ignore[arg-type]


def test_every_state_has_a_word() -> None:
    for state in UpdateState:
        assert chip_of(replace(INFO, desired=B, update_state=state)).word


def test_progress() -> None:
    fetching = replace(INFO, update_state=UpdateState.FETCHING, bytes_done=30, bytes_total=120)
    assert device_view(fetching, NAMES).percent == 25
    assert device_view(replace(fetching, bytes_done=900), NAMES).percent == 100
    assert device_view(replace(fetching, bytes_total=0), NAMES).percent is None
    assert device_view(INFO, NAMES).percent is None


def test_fleet() -> None:
    infos = [
        replace(INFO, id="1" * 32, name="a"),
        replace(INFO, id="2" * 32, name="b", current=B),
        replace(INFO, id="3" * 32, name="c", current=B, desired=B),
        replace(INFO, id="4" * 32, name="d", current=None, update_state=UpdateState.FAILED, detail="no link"),
        replace(INFO, id="5" * 32, name="e", state=DeviceState.PENDING),
    ]
    fleet = fleet_view(infos, NAMES)
    assert [view.info.name for view in fleet.needs] == ["e", "d"]
    assert [(one.revision.short if one.revision else None, one.count, one.share) for one in fleet.segments] == [
        ("bbbbbbbb", 2, 500),
        ("aaaaaaaa", 1, 250),
        (None, 1, 250),
    ]
    assert sum(count for _, count in fleet.counts) == 5
    assert [view.info.name for view in fleet_view(infos, NAMES, query="second").devices] == ["b", "c"]
    assert [view.info.name for view in fleet_view(infos, NAMES, query="failed").devices] == ["d"]
    assert fleet_view(infos, NAMES, query="b nothing").devices == ()
    assert fleet_view([], NAMES).segments == ()


def test_chapters() -> None:
    lines = [
        ("enrolled", None, 0, 1, ""),
        ("accepted", None, 0, 2, "ann"),
        ("assigned", A, 1, 10, "ann"),
        ("fetching", A, 1, 12, ""),
        ("done", A, 1, 20, ""),
        ("assigned", B, 2, 30, "bob"),
        ("rejected", None, 2, 40, "ann"),
        ("accepted", None, 2, 50, "ann"),
        ("rolled-back", B, 2, 60, ""),
    ]
    history = [
        HistoryEntry(event=event, revision=revision, assignment=number, time_s=time_s, by=by)
        for event, revision, number, time_s, by in reversed(lines)
    ]
    found = chapters(history, NAMES)
    assert [(one.title, one.tone, len(one.steps)) for one in found] == [
        ("Rolled back", "bad", 1),
        ("Accepted", "good", 0),
        ("Rejected", "quiet", 0),
        ("Assigned", "busy", 1),
        ("Done", "good", 3),
        ("Accepted", "good", 0),
        ("Asked to be let in", "quiet", 0),
    ]
    assert [(step.word, step.after) for step in found[4].steps] == [
        ("Assigned", ""),
        ("Fetching", "2 s"),
        ("Done", "8 s"),
    ]
    assert found[4].revision is not None
    assert (found[4].revision.subject, found[4].by) == ("first", "ann")
    assert chapters([], NAMES) == ()


def test_ago() -> None:
    assert [ago(time_s, 1000.0) for time_s in (None, 1000, 1030, 990, 100)] == [
        "never",
        "just now",
        "just now",
        "10 s ago",
        "15 min ago",
    ]
