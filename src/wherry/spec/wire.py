"""What hub, device and fleet command say to each other over HTTP, version 1.

Every message is a JSON object; these classes are its fields. Paths and authentication are described in
``docs/reference/hub-api.md``; the hub publishes the same as OpenAPI. Times are whole seconds since 1970 by
the hub's clock unless a field says otherwise: a device's own clock may stand in 1970.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEVICE_API = "/api/device/v1"
USER_API = "/api/v1"
REPO = "/repo"
EVENTS_HEARTBEAT_S = 15
"""A comment is sent on every event stream at least this often."""
MAX_OBJECTS_PER_QUESTION = 10_000


class DeviceState(enum.StrEnum):
    """How a device stands with its hub."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class UpdateState(enum.StrEnum):
    """How far a device is with an update. The last five are final."""

    IDLE = "idle"
    PLANNING = "planning"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGING = "staging"
    TRYING = "trying"
    TESTING = "testing"
    ROLLING_BACK = "rolling-back"
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    """Not begun: no space, no trust, malformed."""
    FAILED = "failed"
    """It broke before the switch, for example in fetching; the device will try again."""
    CANCELLED = "cancelled"


FINAL_STATES = frozenset(
    {UpdateState.DONE, UpdateState.ROLLED_BACK, UpdateState.REFUSED, UpdateState.FAILED, UpdateState.CANCELLED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """``POST /api/device/v1/enroll``: a device asks to be let in."""

    token: str
    public_key: str
    """Ed25519, 32 bytes, base64. The device's id is the first 32 hex digits of its SHA-256."""
    name: str = ""
    target: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    """For the person who accepts it: host name, machine, kernel, addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolAnswer:
    """The hub has noted it; a person may still have to accept."""

    device_id: str
    state: DeviceState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRequest:
    """``POST /api/device/v1/challenge``: first half of a device's login, which needs no clock."""

    device_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeAnswer:
    """Random bytes, base64, to be signed as ``b"wherry-session-v1\\n" + challenge bytes``; good once, for a minute."""

    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """``POST /api/device/v1/session``: second half."""

    device_id: str
    challenge: str
    signature: str
    """Ed25519, base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAnswer:
    """A bearer token for everything below ``/api/device/v1`` and ``/repo``. 403 while the device is pending."""

    token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """``GET /api/device/v1/desired``: what the device should run, and when to ask again."""

    assignment: int
    """Number of the assignment; a new one is a new order, even for the same revision. 0: none yet."""
    revision: str | None
    """Commit checksum of the revision."""
    poll_interval_s: int
    poll_jitter_percent: int
    time_s: int
    """The hub's clock, as a floor for devices without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppReport:
    """One app as it runs on the device."""

    name: str
    state: str
    health: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``POST /api/device/v1/progress``: how far the device is. Sent at every step, and at each poll."""

    assignment: int
    revision: str | None
    """The revision that it is being brought to."""
    state: UpdateState
    running: str | None
    """The revision that runs now: the hub believes this, not ``state``."""
    detail: str = ""
    """For people: why it failed or was rolled back."""
    bytes_done: int = 0
    bytes_total: int = 0
    apps: tuple[AppReport, ...] = ()
    sequence: int = 0
    """Grows with every report of a device, so that a late one is not taken for news."""
    device_time_s: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """Names of objects, ``xx/yyyy.filez`` as below ``objects/``; at most ``MAX_OBJECTS_PER_QUESTION``."""

    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSizes:
    """``POST /api/device/v1/sizes`` answers an ``ObjectList``: what these cost in all."""

    transfer_bytes: int
    disk_bytes: int
    """Unpacked."""
    missing: tuple[str, ...] = ()


MAX_SENT_PACK_BYTES = 64 * 1024 * 1024
"""A pack for a device ends before it would be longer than this."""
MAX_PACKED_BYTES = 1024 * 1024
"""An object longer than this is left out of it: its own file below ``/repo`` can be taken up again in the middle."""


DELTA_FOLDER = "extensions/wherry/deltas"
"""Below ``/repo``: ``OLD-NEW.wdelta`` leads from revision OLD and its components to NEW and its."""
MAX_DELTA_SOURCES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaQuestion:
    """``POST /api/device/v1/deltas``: which deltas are there to a revision."""

    have: tuple[str, ...]
    """Revisions that are whole on the device, at most ``MAX_DELTA_SOURCES``; the one that runs first."""
    want: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaOffer:
    """A delta that is ready."""

    have: str
    """The revision that it starts from."""
    size: int
    """In bytes."""
    objects_bytes: int
    """What all objects together cost that the one revision needs beyond the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAnswer:
    """What ``POST /api/device/v1/deltas`` answers; the hub may make more for the next who asks."""

    deltas: tuple[DeltaOffer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefUpdate:
    """``PUT /api/v1/repo/refs/{ref}``: moves a ref when all objects are there."""

    commit: str
    expected: str | None = None
    """The commit it stands at now, None when it is new; 409 when not so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``PUT /api/v1/devices/{id}/desired``."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """One device as the hub knows it."""

    id: str
    name: str
    state: DeviceState
    target: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    current: str | None = None
    desired: str | None = None
    assignment: int = 0
    update_state: UpdateState = UpdateState.IDLE
    detail: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    apps: tuple[AppReport, ...] = ()
    enrolled_s: int = 0
    last_seen_s: int | None = None
    online: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line in the history of a device."""

    time_s: int
    event: str
    """``enrolled``, ``accepted``, ``assigned``, or an ``UpdateState``."""
    revision: str | None = None
    assignment: int = 0
    detail: str = ""
    by: str = ""
    """The person who did it, or "" for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionInfo:
    """One revision in the hub's repository."""

    commit: str
    ref: str
    subject: str = ""
    time_s: int = 0
    apps: tuple[str, ...] = ()
    parent: str | None = None


PACK_TYPE = "application/vnd.wherry.pack"
"""Body of ``POST /api/v1/repo/pack``, and answer of ``POST /api/device/v1/pack``.

For each object u16 BE name length, name, u64 BE size, bytes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressAnswer:
    """What ``POST /api/device/v1/progress`` answers."""

    accepted: bool
    """False: a later report was there already, so this one was ignored."""
    assignment: int
    """The number of the assignment that stands now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """``POST /api/v1/login``."""

    user: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAnswer:
    """A bearer token for everything below ``/api/v1`` and ``/repo``."""

    token: str
    user: str
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceList:
    """``GET /api/v1/devices``."""

    devices: tuple[DeviceInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """``GET /api/v1/devices/{id}/history``, the newest first."""

    history: tuple[HistoryEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionList:
    """``GET /api/v1/revisions``, the newest first."""

    revisions: tuple[RevisionInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefList:
    """``GET /api/v1/repo/refs``: ref -> commit."""

    refs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackAnswer:
    """``POST /api/v1/repo/pack``: what became of the objects."""

    stored: int
    present: int
    """They were there already."""
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTokenRequest:
    """``POST /api/v1/enrolment-tokens``."""

    uses: int = 1
    expires_in_s: int = 3600
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentToken:
    """One enrolment token; ``token`` itself is told once, when it is made."""

    id: str
    uses_left: int
    created_s: int
    expires_s: int
    note: str = ""
    by: str = ""
    token: str = ""
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentTokenList:
    """``GET /api/v1/enrolment-tokens``."""

    tokens: tuple[EnrolmentToken, ...]
