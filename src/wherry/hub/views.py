"""What the pages show: words, tones and groups, made from what the hub knows. Pure; the templates only lay it out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wherry.core.digest import short
from wherry.core.units import format_duration, format_size
from wherry.spec.wire import (
    FINAL_STATES,
    DeviceInfo,
    DeviceState,
    EnrolmentToken,
    HistoryEntry,
    RevisionInfo,
    UpdateState,
)

SHORT_REVISION = 8
FLEET_COLOURS = 6
"""Revisions that have a colour of their own in the bar; the rest share one."""

_TROUBLE = {
    UpdateState.ROLLED_BACK: "Rolled back",
    UpdateState.FAILED: "Failed",
    UpdateState.REFUSED: "Refused",
    UpdateState.CANCELLED: "Cancelled",
}
_WORK = {
    UpdateState.PLANNING: "Planning",
    UpdateState.FETCHING: "Fetching",
    UpdateState.VERIFYING: "Verifying",
    UpdateState.STAGING: "Staging",
    UpdateState.TRYING: "Starting apps",
    UpdateState.TESTING: "Testing",
    UpdateState.ROLLING_BACK: "Rolling back",
}
_EVENTS: dict[str, tuple[str, str]] = {
    "enrolled": ("Asked to be let in", "quiet"),
    "accepted": ("Accepted", "good"),
    "rejected": ("Rejected", "quiet"),
    "assigned": ("Assigned", "quiet"),
    UpdateState.DONE: ("Done", "good"),
    **{state: (word, "bad") for state, word in _TROUBLE.items()},
    **{state: (word, "busy") for state, word in _WORK.items()},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """How a device is, in one or two words. `tone` is good, busy, bad, warn or quiet."""

    word: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """A revision that is mentioned."""

    commit: str
    short: str
    subject: str
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One device."""

    info: DeviceInfo
    chip: Chip
    needs_you: bool
    reason: str
    current: RevisionView | None
    desired: RevisionView | None
    percent: int | None
    transfer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the bar that shows what the fleet runs: from `start`, `share`, both in thousandths."""

    revision: RevisionView | None
    count: int
    start: int
    share: int
    colour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """All devices."""

    devices: tuple[DeviceView, ...]
    needs: tuple[DeviceView, ...]
    counts: tuple[tuple[Chip, int], ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the history."""

    time_s: int
    word: str
    tone: str
    detail: str
    by: str
    after: str
    """How long after the line before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One assignment with all that came of it, or one event that belongs to none."""

    title: str
    tone: str
    time_s: int
    by: str
    detail: str
    revision: RevisionView | None
    steps: tuple[Step, ...]


def revision_names(revisions: Sequence[RevisionInfo]) -> dict[str, RevisionView]:
    """Returns every revision by its commit."""
    return {
        one.commit: RevisionView(
            commit=one.commit,
            short=one.commit[:SHORT_REVISION],
            subject=one.subject.partition("\n")[0],
            project=one.ref.removeprefix("revision/"),
        )
        for one in revisions
    }


def mention(commit: str | None, names: Mapping[str, RevisionView]) -> RevisionView | None:
    """Returns a revision to show; one that the hub does not have is shown by its checksum."""
    if commit is None:
        return None
    known = names.get(commit)
    return known or RevisionView(commit=commit, short=short(commit)[:SHORT_REVISION], subject="", project="")


def device_view(info: DeviceInfo, names: Mapping[str, RevisionView]) -> DeviceView:
    """Returns one device as it is shown."""
    chip = chip_of(info)
    trouble = info.state is DeviceState.ACCEPTED and chip.tone in ("bad", "warn")
    fetching = info.update_state is UpdateState.FETCHING and info.bytes_total > 0 and info.online
    return DeviceView(
        info=info,
        chip=chip,
        needs_you=trouble or info.state is DeviceState.PENDING,
        reason=info.detail if trouble else "",
        current=mention(info.current, names),
        desired=mention(info.desired, names),
        percent=min(100, 100 * info.bytes_done // info.bytes_total) if fetching else None,
        transfer=f"{format_size(info.bytes_done)} of {format_size(info.bytes_total)}" if fetching else "",
    )


def chip_of(info: DeviceInfo) -> Chip:
    """Returns the word for a device: what it runs counts, not what it says of itself."""
    if info.state is DeviceState.PENDING:
        return Chip(word="Pending", tone="warn")
    if info.state is DeviceState.REJECTED:
        return Chip(word="Rejected", tone="quiet")
    if info.update_state in _TROUBLE:
        return Chip(word=_TROUBLE[info.update_state], tone="quiet" if info.update_state == "cancelled" else "bad")
    if not info.online:
        return Chip(word="Offline", tone="quiet")
    if info.update_state in _WORK:
        return Chip(word=_WORK[info.update_state], tone="busy")
    if info.desired is None:
        return Chip(word="Nothing assigned", tone="quiet")
    if info.current == info.desired:
        return Chip(word="Up to date", tone="good")
    if info.update_state is UpdateState.DONE:
        return Chip(word="Runs something else", tone="warn")
    return Chip(word="Waiting", tone="busy")


def fleet_view(devices: Sequence[DeviceInfo], names: Mapping[str, RevisionView], *, query: str = "") -> FleetView:
    """Returns all devices as they are shown; those that need somebody come first, in a list of their own.

    Args:
        devices: all.
        names: the revisions.
        query: shows only devices with this in name, id, target, state or revision.
    """
    everything = [device_view(info, names) for info in devices]
    counts: dict[Chip, int] = {}
    for view in everything:
        counts[view.chip] = counts.get(view.chip, 0) + 1
    tones = {"bad": 0, "warn": 1, "busy": 2, "good": 3, "quiet": 4}
    return FleetView(
        devices=tuple(view for view in everything if _fits(view, query.strip().lower())),
        needs=tuple(sorted((view for view in everything if view.needs_you), key=_urgency)),
        counts=tuple(sorted(counts.items(), key=lambda item: (tones[item[0].tone], item[0].word))),
        segments=_segments([view for view in everything if view.info.state is DeviceState.ACCEPTED]),
    )


def _urgency(view: DeviceView) -> tuple[int, str]:
    return (0 if view.info.state is DeviceState.PENDING else 1, view.info.name)


def _fits(view: DeviceView, query: str) -> bool:
    texts = [view.info.name, view.info.id, view.info.target, view.chip.word]
    for revision in (view.current, view.desired):
        if revision is not None:
            texts += [revision.commit, revision.subject, revision.project]
    return all(any(word in text.lower() for text in texts) for word in query.split())


def _segments(views: Sequence[DeviceView]) -> tuple[Segment, ...]:
    counts: dict[str, tuple[RevisionView | None, int]] = {}
    for view in views:
        key = view.info.current or ""
        counts[key] = (view.current, counts.get(key, (None, 0))[1] + 1)
    ordered = sorted(counts.values(), key=lambda item: (item[0] is None, -item[1], item[0].commit if item[0] else ""))
    segments: list[Segment] = []
    before = coloured = 0
    for revision, count in ordered:
        colour = 0
        if revision is not None:
            coloured += 1
            colour = min(coloured, FLEET_COLOURS)
        start, end = 1000 * before // len(views), 1000 * (before + count) // len(views)
        segments.append(Segment(revision=revision, count=count, start=start, share=end - start, colour=colour))
        before += count
    return tuple(segments)


def chapters(history: Sequence[HistoryEntry], names: Mapping[str, RevisionView]) -> tuple[Chapter, ...]:
    """Returns a history, the newest first, as chapters, the newest first; steps within one are in order of time."""
    result: list[Chapter] = []
    pending: list[HistoryEntry] = []
    for entry in history:
        if pending and entry.assignment != pending[-1].assignment:
            result.append(_chapter(pending, names))
            pending = []
        if entry.event in ("enrolled", "accepted", "rejected"):
            if pending:
                result.append(_chapter(pending, names))
                pending = []
            word, tone = _EVENTS[entry.event]
            result.append(
                Chapter(title=word, tone=tone, time_s=entry.time_s, by=entry.by, detail="", revision=None, steps=())
            )
        else:
            pending.append(entry)
    if pending:
        result.append(_chapter(pending, names))
    return tuple(result)


def _chapter(newest_first: Sequence[HistoryEntry], names: Mapping[str, RevisionView]) -> Chapter:
    entries = list(reversed(newest_first))
    steps = []
    last_s: int | None = None
    for entry in entries:
        word, tone = _EVENTS.get(entry.event, (entry.event, "quiet"))
        after = "" if last_s is None else format_duration(max(0, entry.time_s - last_s))
        last_s = entry.time_s
        steps.append(Step(time_s=entry.time_s, word=word, tone=tone, detail=entry.detail, by=entry.by, after=after))
    last = entries[-1]
    final = last.event in {state.value for state in FINAL_STATES}
    revision = next((entry.revision for entry in entries if entry.revision), None)
    tone = steps[-1].tone
    if last.event == "assigned":
        tone = "busy"
    return Chapter(
        title=steps[-1].word if final or last.event != "assigned" else "Assigned",
        tone=tone,
        time_s=last.time_s,
        by=next((entry.by for entry in entries if entry.by), ""),
        detail=last.detail,
        revision=mention(revision, names),
        steps=tuple(steps),
    )


def token_word(token: EnrolmentToken, now: float) -> Chip:
    """Returns how an enrolment token stands."""
    if token.revoked:
        return Chip(word="Revoked", tone="quiet")
    if token.uses_left < 1:
        return Chip(word="Used up", tone="quiet")
    if token.expires_s <= now:
        return Chip(word="Expired", tone="quiet")
    return Chip(word=f"{format_duration(token.expires_s - now)} left", tone="good")


def ago(time_s: float | None, now: float) -> str:
    """Returns how long ago a time was."""
    if time_s is None:
        return "never"
    seconds = max(0.0, now - time_s)
    return "just now" if seconds < 5 else f"{format_duration(seconds)} ago"


def iso(time_s: float) -> str:
    """Returns a time as HTML's ``<time datetime>`` wants it."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(time_s: float) -> str:
    """Returns a time for people, in UTC; the page's script turns it into the reader's own."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
