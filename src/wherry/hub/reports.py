"""What a device's report means for what the hub knows of it: pure, no database, no clock.

Rules, in order:

- A report whose ``sequence`` is not larger than the last one is old and ignored.
- ``running`` is believed always: it becomes ``current``.
- State, detail, bytes and apps are taken when the report is about the assignment that stands; a report about an earlier
  one is still what the device does now, so it is taken too, and the page shows that the new order has not arrived.
- A report about an assignment that the hub never made (its database is older than the device's memory) counts for
  ``current`` and apps only.
- A line of history is written when (assignment, revision, attempt, state) differs from the last line written;
  ``idle`` never is. A device that says ``done`` while it runs something else gets that into its detail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wherry.core import jsonio
from wherry.core.digest import is_checksum, short
from wherry.core.errors import InvalidInput
from wherry.spec.wire import AppReport, Progress, UpdateState

MAX_DETAIL_CHARS = 2000
MAX_APPS = 200
MAX_APP_FIELD_CHARS = 200
MAX_COUNT = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the hub knows from a device's reports."""

    assignment: int
    """The order that stands."""
    sequence: int = -1
    report_assignment: int = 0
    update_state: UpdateState = UpdateState.IDLE
    current: str | None = None
    detail: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    apps: tuple[AppReport, ...] = ()
    recorded: str = ""
    """The key of the last line of history that came from a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line for the history."""

    event: str
    revision: str | None
    assignment: int
    detail: str


def check_report(report: Progress) -> None:
    """Refuses a report that is out of bounds.

    Raises:
        InvalidInput: names the field.
    """
    for name in ("assignment", "bytes_done", "bytes_total", "sequence", "attempt"):
        if not 0 <= getattr(report, name) <= MAX_COUNT:
            raise InvalidInput(f"{name}: out of range")
    for name in ("revision", "running"):
        value = getattr(report, name)
        if value is not None and not is_checksum(value):
            raise InvalidInput(f"{name}: not a checksum")
    if len(report.apps) > MAX_APPS:
        raise InvalidInput(f"apps: more than {MAX_APPS}")
    for app in report.apps:
        if max(len(app.name), len(app.state), len(app.health)) > MAX_APP_FIELD_CHARS or not 0 <= app.restarts < 2**31:
            raise InvalidInput("apps: a field is out of range")


def apply_report(known: Known, report: Progress) -> tuple[Known, Line | None] | None:
    """Returns what is known after a report, and the line for the history if there is one; None for an old report."""
    if report.sequence <= known.sequence:
        return None
    if report.assignment > known.assignment:
        return replace(known, sequence=report.sequence, current=report.running, apps=report.apps), None
    detail = report.detail[:MAX_DETAIL_CHARS]
    if report.state is UpdateState.DONE and report.running != report.revision:
        runs = short(report.running) if report.running else "nothing"
        detail = f"{detail}; " * bool(detail) + f"it says that it is done, but it runs {runs}"
    after = replace(
        known,
        sequence=report.sequence,
        report_assignment=report.assignment,
        update_state=report.state,
        current=report.running,
        detail=detail,
        bytes_done=report.bytes_done,
        bytes_total=report.bytes_total,
        apps=report.apps,
    )
    key = jsonio.canonical([report.assignment, report.revision, report.attempt, report.state.value]).decode()
    if report.state is UpdateState.IDLE or key == known.recorded:
        return after, None
    line = Line(event=report.state.value, revision=report.revision, assignment=report.assignment, detail=detail)
    return replace(after, recorded=key), line
