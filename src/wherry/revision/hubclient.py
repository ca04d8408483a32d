"""The hub as a person's commands see it: devices, assignments, revisions, and the doors that objects go through.

One method for each route of ``docs/reference/hub-api.md`` below ``/api/v1``; every answer is a class of
``spec/wire.py``. The hub's error statuses become Wherry's errors with what the hub said. Pushing and cloning are
``revision/push.py`` and ``revision/clone.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from wherry.core.digest import Checksum, Ref, parse_checksum
from wherry.core.errors import Conflict, HttpError, InvalidInput, NoSpace, NotFound, NotPermitted, WherryError
from wherry.core.http import HttpClient, ServerSentEvent, status_error
from wherry.core.jsonio import loads
from wherry.spec.codec import decode, encode
from wherry.spec.wire import (
    EVENTS_HEARTBEAT_S,
    PACK_TYPE,
    REPO,
    USER_API,
    Assignment,
    DeviceInfo,
    DeviceList,
    EnrolmentToken,
    EnrolmentTokenList,
    EnrolmentTokenRequest,
    History,
    HistoryEntry,
    LoginAnswer,
    LoginRequest,
    ObjectList,
    PackAnswer,
    RefList,
    RefUpdate,
    RevisionInfo,
    RevisionList,
)

PACK_TIMEOUT_S = 300.0
"""How long the hub may take to check and store one pack."""
_CHUNK_BYTES = 256 * 1024

T = TypeVar("T")


class HubClient:
    """One hub.

    Args:
        url: ``https://hub.example``.
        token: a user's token; None before the login.
        ca_file: the only certificate authority to trust; None takes the system's.
    """

    def __init__(self, url: str, token: str | None = None, ca_file: Path | None = None) -> None:
        self.http = HttpClient(url, token=token, ca_file=ca_file)
        self.url = self.http.base_url

    def close(self) -> None:
        """Closes every connection."""
        self.http.close()

    # --- who I am

    def login(self, user: str, password: str) -> LoginAnswer:
        """Logs in, and uses the new token from here on.

        Raises:
            NotPermitted: the name or the password is wrong.
        """
        message = LoginRequest(user=user, password=password)
        answer = self._ask(LoginAnswer, "POST", "/login", message, refused="user or password is wrong")
        self.http.token = answer.token
        return answer

    def logout(self) -> None:
        """Ends the token that is in use."""
        self._send("POST", "/logout")
        self.http.token = None

    # --- devices

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Returns every device that the hub knows."""
        return self._ask(DeviceList, "GET", "/devices").devices

    def device(self, device: str) -> DeviceInfo:
        """Returns one device by id, unique prefix or name."""
        return self._ask(DeviceInfo, "GET", _device(device))

    def accept(self, device: str) -> DeviceInfo:
        """Lets a device in."""
        return self._ask(DeviceInfo, "POST", f"{_device(device)}/accept")

    def reject(self, device: str) -> DeviceInfo:
        """Keeps a device out; its sessions end."""
        return self._ask(DeviceInfo, "POST", f"{_device(device)}/reject")

    def remove(self, device: str) -> None:
        """Forgets a device and its history."""
        self._send("DELETE", _device(device))

    def assign(self, device: str, revision: str) -> DeviceInfo:
        """Orders a device to run a revision."""
        return self._ask(DeviceInfo, "PUT", f"{_device(device)}/desired", Assignment(revision=revision))

    def history(self, device: str, *, limit: int = 200) -> tuple[HistoryEntry, ...]:
        """Returns what happened to a device, the newest first."""
        return self._ask(History, "GET", f"{_device(device)}/history?limit={limit}").history

    def revisions(self) -> tuple[RevisionInfo, ...]:
        """Returns the revisions in the hub's repository, the newest first."""
        return self._ask(RevisionList, "GET", "/revisions").revisions

    def events(self) -> Iterator[ServerSentEvent]:
        """Gives the events of the dashboard until the hub ends the stream."""
        with self._errors():
            yield from self.http.events(f"{USER_API}/events", read_timeout_s=4.0 * EVENTS_HEARTBEAT_S)

    # --- enrolment tokens

    def enrolment_tokens(self) -> tuple[EnrolmentToken, ...]:
        """Returns the enrolment tokens, without their secrets."""
        return self._ask(EnrolmentTokenList, "GET", "/enrolment-tokens").tokens

    def make_enrolment_token(self, *, uses: int = 1, expires_in_s: int = 3600, note: str = "") -> EnrolmentToken:
        """Makes an enrolment token; its ``token`` is told this once."""
        message = EnrolmentTokenRequest(uses=uses, expires_in_s=expires_in_s, note=note)
        return self._ask(EnrolmentToken, "POST", "/enrolment-tokens", message)

    def revoke_enrolment_token(self, token_id: str) -> None:
        """Has an enrolment token count no more."""
        self._send("DELETE", f"/enrolment-tokens/{quote(token_id, safe='')}")

    # --- the repository

    def refs(self) -> Mapping[str, str]:
        """Returns ref -> commit."""
        return self._ask(RefList, "GET", "/repo/refs").refs

    def read_ref(self, ref: Ref) -> Checksum | None:
        """Returns the commit of one ref; None when the hub has no such ref."""
        found = self.refs().get(ref)
        return None if found is None else parse_checksum(found, where=f"{self.url}: ref {ref}")

    def missing(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Returns which of these objects the hub lacks; at most ``MAX_OBJECTS_PER_QUESTION`` in one call.

        Raises:
            InvalidInput: the hub names objects that it was not asked for.
        """
        answer = self._ask(ObjectList, "POST", "/repo/missing", ObjectList(objects=names), repeat=True).objects
        if not set(answer) <= set(names):
            raise InvalidInput("the hub names objects that it was not asked for", where=self.url)
        return answer

    def send_pack(self, pack: BinaryIO, size_bytes: int) -> PackAnswer:
        """Sends one pack (``store/pull/packing.py``); once it returns, the objects are on the hub's disk.

        Args:
            pack: open at its beginning.
            size_bytes: its length.

        Raises:
            NoSpace: the hub's disk is full.
            HttpError: the hub refused an object; names it.
        """
        headers = {"Content-Type": PACK_TYPE, "Content-Length": str(size_bytes), "Accept": "application/json"}
        chunks = iter(lambda: pack.read(_CHUNK_BYTES), b"")
        with self._errors():
            path = f"{USER_API}/repo/pack"
            with self.http.open("POST", path, body=chunks, headers=headers, read_timeout_s=PACK_TIMEOUT_S) as response:
                if response.status >= 300:
                    raise status_error(response)
                return decode(PackAnswer, loads(response.read_all(), where=response.url), where=response.url)

    def move_ref(self, ref: Ref, commit: Checksum, *, expected: Checksum | None) -> None:
        """Moves a ref, when it stands where it is expected and the revision is complete.

        Raises:
            Conflict: it stands elsewhere, or the hub lacks objects of the revision.
        """
        self._send("PUT", f"/repo/refs/{quote(ref)}", RefUpdate(commit=commit, expected=expected))

    @property
    def repo_path(self) -> str:
        """The path of the repository on the hub, for ``store.pull.RemotePull``."""
        return REPO

    # --- how

    def _ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        message: Any = None,
        *,
        repeat: bool | None = None,
        refused: str = "",
    ) -> T:
        with self._errors(refused):
            answer = self.http.json(
                method, USER_API + path, None if message is None else encode(message), repeat=repeat
            )
        return decode(kind, answer, where=f"{self.url}{USER_API}{path}")

    def _send(self, method: str, path: str, message: Any = None) -> None:
        with self._errors():
            self.http.json(method, USER_API + path, None if message is None else encode(message))

    @contextmanager
    def _errors(self, refused: str = "") -> Iterator[None]:
        try:
            yield
        except HttpError as error:
            raise _meaning(error, self.url, refused) from error


def _device(device: str) -> str:
    return f"/devices/{quote(device, safe='')}"


def _meaning(error: HttpError, url: str, refused: str) -> WherryError:
    said = error.detail or error.what
    if error.status == 401:
        return NotPermitted(
            refused or "the hub asks for a login",
            where=url,
            hint=None if refused else f"run `wherry fleet login {url}`",
        )
    if error.status == 403:
        return NotPermitted(said, where=url)
    if error.status == 404:
        return NotFound(said, where=url)
    if error.status == 409:
        return Conflict(said, where=url)
    if error.status == 507:
        return NoSpace(f"the hub's disk is full: {said}", where=url, hint="free some space there, then try again")
    return error
