"""The devices of a hub: enrolment, acceptance, assignment, reports, history.

Every method is one transaction; what is published to listeners is published after it has ended well.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from wherry.core import jsonio
from wherry.core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from wherry.hub.accounts import use_enrolment_token
from wherry.hub.broker import Broker, Event
from wherry.hub.credentials import Clock
from wherry.hub.database import Database
from wherry.hub.reports import Known, Line, apply_report, check_report
from wherry.hub.schema import devices, history, revisions, sessions
from wherry.spec.codec import decode, encode
from wherry.spec.wire import (
    AppReport,
    Assignment,
    DeviceInfo,
    DeviceState,
    EnrolAnswer,
    EnrolRequest,
    HistoryEntry,
    Progress,
    ProgressAnswer,
    UpdateState,
)

ONLINE_GRACE_S = 30
MAX_HISTORY = 1000
"""Lines kept for a device; the oldest go."""
MAX_FACTS = 32
MAX_FACT_CHARS = 256
MAX_TARGET_CHARS = 128
MAX_DEVICES = 100_000
MIN_PREFIX = 4
_DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


class Registry:
    """The devices in the database.

    Args:
        database: where they are.
        broker: who is told.
        clock: the time.
        poll_interval_s: how often a device asks, to tell who is online.
    """

    def __init__(self, database: Database, broker: Broker, clock: Clock, *, poll_interval_s: int) -> None:
        self._database, self._broker, self._clock = database, broker, clock
        self._online_s = poll_interval_s + ONLINE_GRACE_S
        self._seen: dict[str, int] = {}
        self._unwritten: set[str] = set()
        self._seen_lock = threading.Lock()
        self._were_online: set[str] | None = None

    # --- the device's side

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        """Notes a device that wants in; the same key again is the same device.

        Raises:
            NotPermitted: the token opens nothing.
            InvalidInput: a field is malformed.
        """
        device_id = device_id_of(request.public_key)
        check_enrolment(request)
        now = self._now()
        with self._database.write() as connection:
            row = connection.execute(select(devices).where(devices.c.id == device_id)).first()
            token_id = use_enrolment_token(connection, request.token, now, known_id=row.token_id if row else "")
            if token_id is None:
                raise NotPermitted(
                    "the enrolment token is unknown, spent, expired or revoked", hint="ask for a new one"
                )
            known = {"target": request.target, "facts": _dump(dict(request.facts)), "token_id": token_id}
            if row is not None:
                # It may have lost its state, and counts its reports from the start then.
                connection.execute(update(devices).where(devices.c.id == device_id).values(**known, sequence=-1))
                state = DeviceState(row.state)
            else:
                self._insert(connection, device_id, request, known, now)
                state = DeviceState.PENDING
        self._changed(device_id)
        return EnrolAnswer(device_id=device_id, state=state)

    def _insert(
        self, connection: Connection, device_id: str, request: EnrolRequest, known: Mapping[str, str], now: int
    ) -> None:
        names = set(connection.execute(select(devices.c.name)).scalars())
        if len(names) >= MAX_DEVICES:
            raise Conflict(f"this hub has {MAX_DEVICES} devices already")
        connection.execute(
            insert(devices).values(
                id=device_id,
                public_key=request.public_key.strip(),
                name=free_name(request.name or f"device-{device_id[:6]}", names),
                state=DeviceState.PENDING.value,
                enrolled_s=now,
                last_seen_s=now,
                assignment=0,
                desired=None,
                sequence=-1,
                report_assignment=0,
                update_state=UpdateState.IDLE.value,
                current=None,
                detail="",
                bytes_done=0,
                bytes_total=0,
                apps="[]",
                recorded="",
                **known,
            )
        )
        self._record(connection, device_id, Line(event="enrolled", revision=None, assignment=0, detail=""), now)

    def public_key(self, device_id: str) -> tuple[str, DeviceState] | None:
        """Returns key and state of a device; None when it is not known."""
        with self._database.read() as connection:
            row = connection.execute(
                select(devices.c.public_key, devices.c.state).where(devices.c.id == device_id)
            ).first()
        return None if row is None else (row.public_key, DeviceState(row.state))

    def seen(self, device_id: str) -> None:
        """Notes that a device was heard of: in memory at once, in the database with the next ``tick``."""
        with self._seen_lock:
            self._seen[device_id] = int(self._clock())
            self._unwritten.add(device_id)

    def tick(self) -> None:
        """Writes down who was heard of, and tells dashboards who has come or gone; called every few seconds."""
        with self._seen_lock:
            fresh = {device_id: self._seen[device_id] for device_id in self._unwritten if device_id in self._seen}
            self._unwritten.clear()
        if fresh:
            statement = (
                update(devices).where(devices.c.id == bindparam("device")).values(last_seen_s=bindparam("time_s"))
            )
            with self._database.write() as connection:
                connection.execute(statement, [{"device": one, "time_s": time_s} for one, time_s in fresh.items()])
        for device_id, time_s in fresh.items():
            self._broker.mention(Event(name="seen", key=device_id, data={"id": device_id, "time_s": time_s}))
        query = select(devices.c.id, devices.c.last_seen_s).where(devices.c.state == DeviceState.ACCEPTED.value)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        online = {row.id for row in rows if self.is_online(row.id, row.last_seen_s)}
        before, self._were_online = self._were_online, online
        for device_id in online ^ (online if before is None else before):
            self._changed(device_id)

    def order(self, device_id: str) -> tuple[int, str | None]:
        """Returns number and revision of the assignment that stands.

        Raises:
            NotFound: there is no such device.
        """
        with self._database.read() as connection:
            row = connection.execute(
                select(devices.c.assignment, devices.c.desired).where(devices.c.id == device_id)
            ).first()
        if row is None:
            raise NotFound("no such device", where=device_id)
        return row.assignment, row.desired

    def report(self, device_id: str, report: Progress) -> ProgressAnswer:
        """Takes a device's report.

        Raises:
            InvalidInput: it is out of bounds.
            NotFound: there is no such device.
        """
        check_report(report)
        now = self._now()
        with self._database.write() as connection:
            row = connection.execute(select(devices).where(devices.c.id == device_id)).first()
            if row is None:
                raise NotFound("no such device", where=device_id)
            result = apply_report(_known(row), report)
            values: dict[str, Any] = {"last_seen_s": now}
            if result is not None:
                after, line = result
                values.update(
                    sequence=after.sequence,
                    report_assignment=after.report_assignment,
                    update_state=after.update_state.value,
                    current=after.current,
                    detail=after.detail,
                    bytes_done=after.bytes_done,
                    bytes_total=after.bytes_total,
                    apps=_dump([encode(app) for app in after.apps]),
                    recorded=after.recorded,
                )
                if line is not None:
                    self._record(connection, device_id, line, now)
            connection.execute(update(devices).where(devices.c.id == device_id).values(values))
        with self._seen_lock:
            self._seen[device_id] = now
        self._changed(device_id)
        return ProgressAnswer(accepted=result is not None, assignment=row.assignment)

    # --- the person's side

    def list(self) -> tuple[DeviceInfo, ...]:
        """Returns every device, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(devices).order_by(devices.c.name)).all()
        return tuple(self._info(row) for row in rows)

    def get(self, name: str) -> DeviceInfo:
        """Returns a device by its id, a unique prefix of it, or its name.

        Raises:
            NotFound: there is none, or the prefix fits several.
        """
        with self._database.read() as connection:
            return self._info(_find(connection, name))

    def accept(self, name: str, *, by: str) -> DeviceInfo:
        """Lets a device in."""
        return self._decide(name, DeviceState.ACCEPTED, by=by)

    def reject(self, name: str, *, by: str) -> DeviceInfo:
        """Keeps a device out; its sessions end."""
        return self._decide(name, DeviceState.REJECTED, by=by)

    def _decide(self, name: str, state: DeviceState, *, by: str) -> DeviceInfo:
        with self._database.write() as connection:
            row = _find(connection, name)
            if row.state != state.value:
                connection.execute(update(devices).where(devices.c.id == row.id).values(state=state.value))
                line = Line(event=state.value, revision=None, assignment=row.assignment, detail="")
                self._record(connection, row.id, line, self._now(), by=by)
                if state is not DeviceState.ACCEPTED:
                    connection.execute(delete(sessions).where(sessions.c.device_id == row.id))
            found = self._info(_find(connection, row.id))
        if state is not DeviceState.ACCEPTED:
            self._broker.drop_device(found.id)
        self._changed(found.id)
        return found

    def remove(self, name: str) -> None:
        """Forgets a device with its history."""
        with self._database.write() as connection:
            device_id = _find(connection, name).id
            connection.execute(delete(devices).where(devices.c.id == device_id))
        with self._seen_lock:
            self._seen.pop(device_id, None)
        self._broker.drop_device(device_id)
        self._broker.publish(Event(name="device", key=device_id, data={"id": device_id, "gone": True}))

    def assign(self, name: str, assignment: Assignment, *, by: str) -> DeviceInfo:
        """Orders a device to a revision, and rings at its door.

        Raises:
            NotFound: no such device or revision.
            Conflict: the device is not accepted.
        """
        with self._database.write() as connection:
            row = _find(connection, name)
            if row.state != DeviceState.ACCEPTED.value:
                raise Conflict(f"the device is {row.state}", where=row.name, hint="accept it first")
            known = select(revisions.c.commit).where(revisions.c.commit == assignment.revision)
            if connection.execute(known).first() is None:
                raise NotFound("no such revision", where=assignment.revision[:80], hint="push it first")
            number = row.assignment + 1
            connection.execute(
                update(devices).where(devices.c.id == row.id).values(assignment=number, desired=assignment.revision)
            )
            line = Line(event="assigned", revision=assignment.revision, assignment=number, detail="")
            self._record(connection, row.id, line, self._now(), by=by)
            found = self._info(_find(connection, row.id))
        self._broker.ring(found.id, desired_event(number))
        self._changed(found.id)
        return found

    def history(self, name: str, *, limit: int = 200) -> tuple[HistoryEntry, ...]:
        """Returns what happened to a device, the newest first."""
        with self._database.read() as connection:
            device_id = _find(connection, name).id
            query = select(history).where(history.c.device_id == device_id).order_by(history.c.id.desc()).limit(limit)
            return tuple(
                HistoryEntry(
                    time_s=row.time_s,
                    event=row.event,
                    revision=row.revision,
                    assignment=row.assignment,
                    detail=row.detail,
                    by=row.by_user,
                )
                for row in connection.execute(query)
            )

    # --- inside

    def is_online(self, device_id: str, last_seen_s: int | None) -> bool:
        """Tells whether a device listens, or was heard of lately."""
        if self._broker.has_device(device_id):
            return True
        last_seen_s = self._last_seen(device_id, last_seen_s)
        return last_seen_s is not None and self._clock() - last_seen_s <= self._online_s

    def _last_seen(self, device_id: str, written_s: int | None) -> int | None:
        with self._seen_lock:
            return max(
                (time_s for time_s in (written_s, self._seen.get(device_id)) if time_s is not None), default=None
            )

    def _info(self, row: Row[Any]) -> DeviceInfo:
        stands = row.report_assignment == row.assignment
        return DeviceInfo(
            id=row.id,
            name=row.name,
            state=DeviceState(row.state),
            target=row.target,
            facts=json.loads(row.facts),
            current=row.current,
            desired=row.desired,
            assignment=row.assignment,
            update_state=UpdateState(row.update_state) if stands else UpdateState.IDLE,
            detail=row.detail if stands else "",
            bytes_done=row.bytes_done if stands else 0,
            bytes_total=row.bytes_total if stands else 0,
            apps=_apps(row.apps),
            enrolled_s=row.enrolled_s,
            last_seen_s=self._last_seen(row.id, row.last_seen_s),
            online=row.state == DeviceState.ACCEPTED.value and self.is_online(row.id, row.last_seen_s),
        )

    def _record(self, connection: Connection, device_id: str, line: Line, now: int, *, by: str = "") -> None:
        result = connection.execute(
            insert(history).values(
                device_id=device_id,
                time_s=now,
                event=line.event,
                revision=line.revision,
                assignment=line.assignment,
                detail=line.detail,
                by_user=by,
            )
        )
        number = result.inserted_primary_key[0] if result.inserted_primary_key else 0
        if number % 100 == 0:
            oldest = (
                select(history.c.id)
                .where(history.c.device_id == device_id)
                .order_by(history.c.id.desc())
                .offset(MAX_HISTORY)
                .limit(1)
            )
            limit = connection.execute(oldest).scalar()
            if limit is not None:
                connection.execute(delete(history).where(history.c.device_id == device_id, history.c.id <= limit))

    def _changed(self, device_id: str) -> None:
        self._broker.publish(device_event(device_id))

    def _now(self) -> int:
        return int(self._clock())


def device_event(device_id: str) -> Event:
    """Returns the event that tells dashboards to look at a device again."""
    return Event(name="device", key=device_id, data={"id": device_id})


def desired_event(assignment: int) -> Event:
    """Returns the event that tells a device to ask what it should run."""
    return Event(name="desired", key="", data={"assignment": assignment})


def device_id_of(public_key: str) -> str:
    """Returns the id of the device with an Ed25519 key, base64.

    Raises:
        InvalidInput: it is not 32 bytes in base64.
    """
    try:
        raw = b64decode(public_key, validate=True)
    except (Base64Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise InvalidInput("public_key: not an Ed25519 key of 32 bytes in base64")
    return hashlib.sha256(raw).hexdigest()[:32]


def check_enrolment(request: EnrolRequest) -> None:
    """Refuses an enrolment that is out of bounds.

    Raises:
        InvalidInput: names the field.
    """
    if request.name and _DEVICE_NAME.match(request.name) is None:
        raise InvalidInput(
            f"name: not a device's name: {request.name[:80]!r}", hint="use up to 63 letters, digits, '.', '_', '-'"
        )
    if len(request.target) > MAX_TARGET_CHARS:
        raise InvalidInput(f"target: longer than {MAX_TARGET_CHARS} characters")
    if len(request.facts) > MAX_FACTS or any(len(k) + len(v) > MAX_FACT_CHARS for k, v in request.facts.items()):
        raise InvalidInput(f"facts: more than {MAX_FACTS}, or one longer than {MAX_FACT_CHARS} characters")


def free_name(wanted: str, taken: set[str]) -> str:
    """Returns `wanted`, with a number when another device has that name."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted[:56]}-{number}"
    return name


def _find(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(devices).where((devices.c.id == name) | (devices.c.name == name))).first()
    if row is not None:
        return row
    prefix = name.lower()
    if len(prefix) >= MIN_PREFIX and re.fullmatch(r"[0-9a-f]+", prefix):
        rows = connection.execute(select(devices).where(devices.c.id.startswith(prefix)).limit(2)).all()
        if len(rows) == 1:
            return rows[0]
        if rows:
            raise NotFound("several devices begin so", where=name, hint="give more digits")
    raise NotFound("no such device", where=name[:80], hint="`wherry fleet devices` lists them")


def _known(row: Row[Any]) -> Known:
    return Known(
        assignment=row.assignment,
        sequence=row.sequence,
        report_assignment=row.report_assignment,
        update_state=UpdateState(row.update_state),
        current=row.current,
        detail=row.detail,
        bytes_done=row.bytes_done,
        bytes_total=row.bytes_total,
        apps=_apps(row.apps),
        recorded=row.recorded,
    )


def _apps(text: str) -> tuple[AppReport, ...]:
    return tuple(decode(AppReport, item) for item in json.loads(text))


def _dump(value: Any) -> str:
    return jsonio.canonical(value).decode()
