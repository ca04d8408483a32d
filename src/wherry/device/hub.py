"""The device's talk with its hub: login, what to run, how it goes, and the bell that rings when that changes.

The hub is believed in one thing only, which revision is wanted; whether it may run is for the owner's key to
say. A token is kept in memory and asked for again when the hub forgets it. Reports are numbered, and the numbers
survive a restart, so that the hub never takes an old report for a new one. Nothing here needs a right clock.
"""

from __future__ import annotations

import base64
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from wherry.core import durable, jsonio
from wherry.core.digest import Checksum
from wherry.core.errors import HttpError, InvalidInput, NetworkError, NoSpace, NotPermitted, WherryError
from wherry.core.http import HttpClient, status_error
from wherry.device.identity import Identity
from wherry.spec.codec import decode, encode
from wherry.spec.wire import (
    DEVICE_API,
    EVENTS_HEARTBEAT_S,
    MAX_OBJECTS_PER_QUESTION,
    ChallengeAnswer,
    ChallengeRequest,
    DeltaAnswer,
    DeltaOffer,
    DeltaQuestion,
    Desired,
    ObjectList,
    ObjectSizes,
    Progress,
    ProgressAnswer,
    SessionAnswer,
    SessionRequest,
)
from wherry.trust.keys import PrivateKey

_T = TypeVar("_T")
SESSION_PREFIX = b"wherry-session-v1\n"
MIN_POLL_S = 1
MAX_POLL_S = 24 * 3600
MAX_CHALLENGE_BYTES = 1024
MAX_LINK_BYTES = 16 * 1024
MAX_EVENT_DATA_BYTES = 4096
MAX_WAITING_REPORTS = 32
_SEQUENCE_BLOCK = 256
"""So many numbers are set aside in one durable write."""
_CLOCK_STEP_S = 3600
"""The hub's clock is written down when it has gone on by this much."""
_CONTACT_STEP_S = 60
_BELL_SILENCE_S = 3.0 * EVENTS_HEARTBEAT_S
_BELL_MOST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``link.json``: what the device remembers of its hub."""

    next_sequence: int = 1
    """Numbers below this one may have been used."""
    clock_floor_s: int = 0
    """It is not earlier than this: the hub's clock, when last written down."""
    contact_s: int = 0
    """When the hub answered last, give or take a minute, by the device's clock."""
    problem: str = ""
    """Why it did not, since then."""


def load_link(path: Path) -> Link:
    """Returns what the device remembers; nothing, when the file is missing or broken."""
    try:
        return decode(Link, jsonio.loads(path.read_bytes(), where=path, max_bytes=MAX_LINK_BYTES), where=path)
    except (OSError, InvalidInput):
        return Link()


class LinkFile:
    """``link.json`` and what it is for: numbers that only grow, and a clock that never goes back. For any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._link = load_link(path)
        self._next = self._link.next_sequence

    def sequence(self) -> int:
        """Returns the next number, one that was never used before.

        Raises:
            NoSpace: no more numbers can be set aside.
        """
        with self._lock:
            if self._next >= self._link.next_sequence:
                self._write(replace(self._link, next_sequence=self._next + _SEQUENCE_BLOCK))
            self._next += 1
            return self._next - 1

    def heard(self, hub_time_s: int, device_time_s: int) -> None:
        """Notes that the hub answered, and what its clock says."""
        with self._lock:
            floor = max(self._link.clock_floor_s, hub_time_s)
            stale = abs(device_time_s - self._link.contact_s) >= _CONTACT_STEP_S
            if self._link.problem or stale or floor - self._link.clock_floor_s >= _CLOCK_STEP_S:
                self._write_if_room(replace(self._link, clock_floor_s=floor, contact_s=device_time_s, problem=""))

    def lost(self, problem: str) -> None:
        """Notes why the hub does not answer."""
        with self._lock:
            if self._link.problem != problem:
                self._write_if_room(replace(self._link, problem=problem))

    def _write_if_room(self, link: Link) -> None:
        try:
            self._write(link)
        except NoSpace:
            self._link = link  # it is only for people; the numbers were set aside before

    def _write(self, link: Link) -> None:
        durable.write_file(self._path, jsonio.canonical(encode(link)), mode=0o600)
        self._link = link


class HubSession:
    """Calls to the device API, logged in when needed. One for each thread.

    Args:
        identity: whose hub.
        key: signs the challenge.
        timeout_s: for connecting and for each read.
        tries: how often what may be repeated is sent.
    """

    def __init__(self, identity: Identity, key: PrivateKey, *, timeout_s: float = 30.0, tries: int = 2) -> None:
        self._identity = identity
        self._key = key
        ca_file = None if identity.ca_file is None else Path(identity.ca_file)
        self.client = HttpClient(identity.hub, ca_file=ca_file, timeout_s=timeout_s, tries=tries)
        self._etag = ""
        self._desired: Desired | None = None

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()

    def login(self) -> None:
        """Gets a session token by signing the hub's challenge; it needs no clock.

        Raises:
            NotPermitted: the hub has not accepted the device, or does not know it.
            NetworkError: the hub does not answer.
        """
        self.client.token = None
        device_id = self._identity.device_id
        try:
            answer = self._post("challenge", ChallengeRequest(device_id=device_id), repeat=True)
            text = decode(ChallengeAnswer, answer, where=self._identity.hub).challenge
            challenge = _challenge_bytes(text, self._identity.hub)
            signature = base64.b64encode(self._key.sign(SESSION_PREFIX + challenge)).decode()
            request = SessionRequest(device_id=device_id, challenge=text, signature=signature)
            session = decode(SessionAnswer, self._post("session", request), where=self._identity.hub)
        except HttpError as error:
            raise _login_error(error, self._identity) from error
        self.client.token = session.token

    def desired(self) -> Desired:
        """Returns what the device should run; an answer of "as before" costs a few bytes.

        Raises:
            NetworkError: the hub does not answer, or answers nonsense.
        """
        return self._logged_in(self._ask_desired)

    def report(self, progress: Progress) -> ProgressAnswer:
        """Tells the hub how it goes.

        Raises:
            NetworkError: the hub does not answer.
        """
        # numbered, so that a second copy does no harm
        answer = self._logged_in(partial(self._post, "progress", progress, repeat=True))
        return decode(ProgressAnswer, answer, where=self._identity.hub)

    def sizes(self, names: Iterable[str]) -> ObjectSizes:
        """Returns what the objects `names` cost in all.

        Raises:
            NetworkError: the hub does not answer.
        """
        pending = list(names)
        total = ObjectSizes(transfer_bytes=0, disk_bytes=0)
        for start in range(0, len(pending), MAX_OBJECTS_PER_QUESTION):
            question = ObjectList(objects=tuple(pending[start : start + MAX_OBJECTS_PER_QUESTION]))
            answer = self._logged_in(partial(self._post, "sizes", question, repeat=True))
            part = decode(ObjectSizes, answer, where=self._identity.hub)
            if part.transfer_bytes < 0 or part.disk_bytes < 0:
                raise InvalidInput("the hub names a size below zero", where=self._identity.hub)
            total = ObjectSizes(
                transfer_bytes=total.transfer_bytes + part.transfer_bytes,
                disk_bytes=total.disk_bytes + part.disk_bytes,
                missing=total.missing + part.missing,
            )
        return total

    def deltas(self, have: Sequence[Checksum], want: Checksum) -> tuple[DeltaOffer, ...]:
        """Returns the deltas that the hub has ready; none when it has no such call, or cannot say.

        Raises:
            NetworkError: the hub does not answer.
        """
        question = DeltaQuestion(have=tuple(have), want=want)
        try:
            answer = self._logged_in(partial(self._post, "deltas", question, repeat=True))
        except HttpError as error:
            if error.status == 401:
                raise
            return ()
        try:
            return decode(DeltaAnswer, answer, where=self._identity.hub).deltas[: len(have)]
        except InvalidInput as error:
            raise NetworkError(f"the hub answers nonsense: {error.what}", where=self._identity.hub) from error

    def prove(self, timeout_s: float) -> None:
        """Returns when the hub took a new login and answered a call, over new connections.

        Raises:
            NetworkError: it did not answer in time.
            NotPermitted: it does not let the device in.
        """
        session = HubSession(self._identity, self._key, timeout_s=timeout_s, tries=1)
        try:
            session.desired()
        finally:
            session.close()

    def listen(self, heard: Callable[[int | None], None]) -> None:
        """Calls `heard` with the number of the assignment for each event, until the stream ends.

        Raises:
            NetworkError: it broke.
        """
        if self.client.token is None:
            self.login()
        for event in self.client.events(f"{DEVICE_API}/events", read_timeout_s=_BELL_SILENCE_S):
            if event.event == "desired":
                heard(_assignment_of(event.data))

    def _ask_desired(self) -> Desired:
        headers = {"Accept": "application/json", **({"If-None-Match": self._etag} if self._etag else {})}
        with self.client.open("GET", f"{DEVICE_API}/desired", headers=headers) as response:
            if response.status == 304 and self._desired is not None:
                response.read_all()
                return self._desired
            if response.status != 200:
                raise status_error(response)
            value = jsonio.loads(response.read_all(), where=response.url)
            etag = response.headers.get("ETag", "")
        self._desired = decode(Desired, value, where=self._identity.hub)
        self._etag = etag
        return self._desired

    def _post(self, name: str, message: object, *, repeat: bool = False) -> Any:
        return self.client.json("POST", f"{DEVICE_API}/{name}", encode(message), repeat=repeat)

    def _logged_in(self, call: Callable[[], _T]) -> _T:
        try:
            if self.client.token is None:
                self.login()
            try:
                return call()
            except HttpError as error:
                if error.status != 401:
                    raise
            self.login()
            return call()
        except InvalidInput as error:
            raise NetworkError(f"the hub answers nonsense: {error.what}", where=self._identity.hub) from error


class Doorbell:
    """Listens to the hub's events in a thread, and rings when what the device should run may have changed.

    A bell that is broken costs nothing but time: the device still asks by itself.
    """

    def __init__(self, make_session: Callable[[], HubSession]) -> None:
        self._make_session = make_session
        self._stopped = threading.Event()
        self._nudged = threading.Event()

    def start(self, heard: Callable[[int | None], None]) -> None:
        """Begins to listen; `heard` is called in another thread, with the number of the assignment if it was told."""
        self._heard = heard
        threading.Thread(target=self._run, name="doorbell", daemon=True).start()

    def nudge(self) -> None:
        """Has it try again at once: the hub is there."""
        self._nudged.set()

    def stop(self) -> None:
        """Ends it, without waiting for the hub: the thread dies with the process."""
        self._stopped.set()
        self._nudged.set()

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            begun = time.monotonic()
            session = self._make_session()
            try:
                session.listen(self._heard_one)
            except WherryError:
                pass  # the poll meets the same trouble, and reports it
            finally:
                session.close()
            failures = 0 if time.monotonic() - begun > _BELL_SILENCE_S else failures + 1
            self._nudged.wait(backoff_s(failures, base_s=1.0, most_s=_BELL_MOST_WAIT_S))
            self._nudged.clear()

    def _heard_one(self, assignment: int | None) -> None:
        if not self._stopped.is_set():
            self._heard(assignment)


class Reporter:
    """Sends reports in a thread, in order, so that no update waits for the hub.

    What cannot be sent is dropped: each poll reports the state anew, and the hub goes by the numbers.
    """

    def __init__(self, make_session: Callable[[], HubSession], lost: Callable[[str], None]) -> None:
        self._session = make_session()
        self._lost = lost
        self._queue: queue.Queue[Progress | None] = queue.Queue(maxsize=MAX_WAITING_REPORTS)
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def send(self, progress: Progress) -> None:
        """Puts a report in line; the oldest gives way when too many wait."""
        while True:
            try:
                self._queue.put_nowait(progress)
                return
            except queue.Full:
                try:
                    self._queue.get_nowait()
                    self._queue.task_done()
                except queue.Empty:
                    continue

    def flush(self, timeout_s: float) -> bool:
        """Waits until all reports are sent or dropped; returns whether they are."""
        deadline = time.monotonic() + timeout_s
        while self._queue.unfinished_tasks:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def stop(self, timeout_s: float) -> None:
        """Sends what can be sent in `timeout_s` and ends."""
        if self.flush(timeout_s):
            self._queue.put(None)
            self._thread.join(timeout_s)
            self._session.close()

    def _run(self) -> None:
        while (progress := self._queue.get()) is not None:
            try:
                self._session.report(progress)
            except WherryError as error:
                self._lost(str(error))
            finally:
                self._queue.task_done()


def poll_delay_s(desired: Desired, *, random_01: Callable[[], float] = random.random) -> float:
    """Returns how long to wait before asking again: the hub's interval, give or take its jitter."""
    interval = min(max(desired.poll_interval_s, MIN_POLL_S), MAX_POLL_S)
    jitter = min(max(desired.poll_jitter_percent, 0), 100) / 100
    return max(float(MIN_POLL_S), interval * (1 + jitter * (2 * random_01() - 1)))


def backoff_s(failures: int, *, base_s: float, most_s: float, random_01: Callable[[], float] = random.random) -> float:
    """Returns how long to wait after so many failures in a row: doubling, bounded, with jitter."""
    return float(min(most_s, base_s * 2 ** min(max(failures, 0), 30)) * (0.5 + 0.5 * random_01()))


def _assignment_of(data: str) -> int | None:
    try:
        value = jsonio.loads(data, max_bytes=MAX_EVENT_DATA_BYTES)
    except InvalidInput:
        return None
    number = value.get("assignment") if isinstance(value, dict) else None
    return number if isinstance(number, int) else None


def _challenge_bytes(text: str, hub: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInput("the hub's challenge is not base64", where=hub) from error
    if not 16 <= len(data) <= MAX_CHALLENGE_BYTES:
        raise InvalidInput(f"the hub's challenge has {len(data)} bytes", where=hub)
    return data


def _login_error(error: HttpError, identity: Identity) -> WherryError:
    if error.status == 403:
        return NotPermitted(
            f"the hub does not let this device in: {error.detail or 'not accepted'}",
            where=identity.hub,
            hint=f"accept it there: wherry fleet accept {identity.device_id}",
        )
    if error.status in (401, 404):
        return NotPermitted(
            f"the hub does not know this device: {error.detail or error.what}",
            where=identity.hub,
            hint="enrol it again",
        )
    return NetworkError(error.what, where=error.where, hint=error.hint)
